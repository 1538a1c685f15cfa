"""Every pair of NAT types: by the reference algorithms, or by a command under test."""
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from .measure import table
from .punch import tcp_punch, udp_punch


MATRIX_TYPES = ["public", "firewall", "fullcone", "addrrestricted", "portrestricted", "linux", "portrestricted+rst",
                "portrestricted+open", "prrandom", "symopen", "symseq", "symrandom"]


def can_punch(a, b, proto, use_predict):
    """What theory says for two homes (dicts as made by parse_spec), no skew."""
    def traits(n):
        udp_dead = proto == "udp" and (n.opt("udpblock") or n.opt("only"))
        seq = n.alloc == "seq" and use_predict
        return n.map in ("none", "eim", "linux"), n.filt, seq, udp_dead
    (ka, fa, sa, da), (kb, fb, sb, db) = traits(a), traits(b)
    if da or db:
        return False
    if "eif" in (fa, fb) or (ka and kb):
        return True
    if not ka and kb and fb == "adf" or not kb and ka and fa == "adf":
        return True
    return (ka or sa) and (kb or sb)


def matrix(lab, protos, types, delay=10, skew=0.0, use_predict=False, ttl=None, prime=False, as_json=False, built=False):
    ids = [f"t{i}" for i in range(len(types))]
    if not built:
        lab.up([f"{p}{i}={t}" for p in "ab" for i, t in zip(ids, types)], delay=delay)
    out = {}

    async def go(proto):
        N, res = len(types), {}
        # rounds in which no home is used twice; a few rounds at once unless port prediction would suffer
        step = 1 if use_predict else 3
        for k in range(0, N, step):
            pairs = [(i, (i + kk) % N) for kk in range(k, min(k + step, N)) for i in range(N)]

            async def one(i, j):
                a, b = "a" + ids[i], "b" + ids[j]
                to = 1.0 + delay * 0.02
                if proto == "udp":
                    r = await udp_punch(lab, a, b, use_predict, skew, timeout=to, ttl=ttl)
                else:
                    r = await tcp_punch(lab, a, b, use_predict, skew, timeout=to + 0.6, ttl=ttl, prime=prime)
                res[(i, j)] = r
            await asyncio.gather(*[one(i, j) for i, j in pairs])
        return res
    for proto in protos:
        t0 = time.time()
        res = asyncio.run(go(proto))
        out[proto] = {f"{types[i]} > {types[j]}": res[(i, j)] for i in range(len(types)) for j in range(len(types))}
        if not as_json:
            tag = " +predict" if use_predict else ""
            tag += f" +prime(ttl={ttl})" if prime else ""
            print(f"\n{proto.upper()} punch{tag}: ms from start signal to a confirmed path, '.' = failed "
                  f"(one-way access delay {delay} ms each, skew {skew * 1e3:.0f} ms); row starts first")
            odd = {ij for ij, v in res.items() if (v is not None) != can_punch(
                lab.nodes["a" + ids[ij[0]]], lab.nodes["b" + ids[ij[1]]], proto, use_predict)} if not (skew or prime or ttl) else set()
            table([""] + [str(i) for i in range(len(types))],
                  [[f"{i} {types[i]}"] + [("." if res[(i, j)] is None else f"{res[(i, j)] * 1e3:.0f}") + "!" * ((i, j) in odd)
                                          for j in range(len(types))] for i in range(len(types))])
            okc = sum(v is not None for v in res.values())
            print(f"{okc}/{len(res)} pairs succeed, {len(odd)} against theory; {time.time() - t0:.1f} s")
            matrix.odd += len(odd)
    if as_json:
        print(json.dumps(out, indent=1))
    return out


matrix.odd = 0


def cross(lab, cmd_a, cmd_b, types, delay, timeout, jobs, as_json):
    ids = range(len(types))
    lab.up([f"{p}t{i}={types[i]}" for p in "ab" for i in ids], delay=delay)
    busy, res, lock = set(), {}, threading.Condition()

    def start(role, cmd, me, peer, sess):
        log = open(f"{lab.dir}/{sess}.{role}.log", "wb")
        env = {**os.environ, **lab.env(me), "NATLAB_PEER": peer, "NATLAB_ROLE": role, "NATLAB_SESSION": sess}
        return subprocess.Popen(["ip", "netns", "exec", lab.ns(me), "sh", "-c", cmd], env=env, stdin=subprocess.DEVNULL,
                                stdout=log, stderr=log, start_new_session=True), log

    def one(i, j):
        a, b, sess = f"at{i}", f"bt{j}", f"s{i}x{j}"
        with lock:                      # a home takes part in one pair at a time
            while a in busy or b in busy:
                lock.wait()
            busy.update((a, b))
        t0 = time.time()
        pb, lb = start("b", cmd_b, b, a, sess)
        pa, la = start("a", cmd_a, a, b, sess)
        try:
            rc = pa.wait(timeout)
        except subprocess.TimeoutExpired:
            rc = "timeout"
        dt = time.time() - t0
        for p in (pa, pb):
            with contextlib.suppress(OSError):
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()
        la.close(), lb.close()
        tail = "" if rc == 0 else open(la.name, errors="replace").read()[-300:]
        with lock:
            busy.difference_update((a, b))
            res[(i, j)] = (rc, dt, tail)
            lock.notify_all()
    with ThreadPoolExecutor(jobs) as ex:
        list(ex.map(lambda ij: one(*ij), [(i, (i + k) % len(types)) for k in ids for i in ids]))
    if as_json:
        print(json.dumps({f"{types[i]} > {types[j]}": {"rc": r[0], "s": round(r[1], 3), "log": r[2]} for (i, j), r in sorted(res.items())}, indent=1))
    else:
        print(f"seconds until a exited 0, '.' = failed (row = a, column = b; access delay {delay} ms)")
        table([""] + [str(i) for i in ids], [[f"{i} {types[i]}"] + [f"{res[(i, j)][1]:.2f}" if res[(i, j)][0] == 0 else "." for j in ids] for i in ids])
    good = sum(r[0] == 0 for r in res.values())
    print(f"{good}/{len(res)} pairs", file=sys.stderr)
    return good == len(res)
