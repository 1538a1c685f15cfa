"""The command line."""
import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time

from .birthday import birthday, birthday_p
from .igd import igd
from .lab import Lab
from .matrix import MATRIX_TYPES, cross, matrix
from .measure import table, verify
from .model import LabError
from .punch import tcp_punch, udp_punch
from .turn import turn_tcp


def main(argv, script, manual):
    if os.geteuid() and any(c in argv for c in ("run", "matrix", "cross", "selftest")) and not os.environ.get("NATLAB_INNER"):
        # an ordinary user: the same thing inside a user+mount+net+pid namespace of its own
        os.environ["NATLAB_INNER"] = "1"
        os.execvp("unshare", ["unshare", "-Urmnpf", "--mount-proc", "sh", "-c",
                  'mount -t tmpfs none /run && mkdir -p /run/netns && mkdir -p /etc/netns 2>/dev/null; '
                  'mount -t tmpfs none /etc/netns 2>/dev/null; exec "$0" "$@"', sys.executable, script] + argv)
    if "-h" in argv or "--help" in argv or not argv:
        print(manual)
        return 0
    name = "nl"
    if argv[0] == "-n":
        name, argv = argv[1], argv[2:]
    cmd, rest = argv[0], argv[1:]
    lab = Lab(name)
    ap = argparse.ArgumentParser(prog="natlab.py " + cmd, add_help=False)
    A = ap.add_argument
    tail = []
    if cmd in ("run", "exec") and "--" in rest:
        i = rest.index("--")
        rest, tail = rest[:i], rest[i + 1:]
    for o in ("--delay", "--jitter", "--loss", "--skew"):
        A(o, type=float, default=None)
    for o in ("--json", "--predict", "--prime", "--no-servers", "--rest"):
        A(o, action="store_true")
    for o, d in (("--ttl", None), ("--ports", 256), ("--probes", 1024), ("--trials", 10), ("--count", 1)):
        A(o, type=int, default=d)
    A("--types", default=None)
    A("--a", dest="cmd_a"), A("--b", dest="cmd_b"), A("--timeout", type=float, default=20), A("--jobs", type=int, default=4)
    A("pos", nargs="*")
    if cmd == "exec" and not tail:
        rest, tail = rest[:1], rest[1:]
    a = ap.parse_args(rest)
    ms = lambda x: (x or 0) / 1e3
    if cmd in ("up", "run"):
        t0 = time.time()
        lab.up(a.pos, a.delay or 0, a.jitter or 0, a.loss or 0, servers=not a.no_servers)
        print(f"lab '{name}': {len(lab.all_ns())} namespaces up in {time.time() - t0:.2f} s", file=sys.stderr)
        if cmd == "run":
            try:
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
                return subprocess.call(tail, env={**os.environ, **lab.env(), "NATLAB_PY": script})
            finally:
                lab.down(quiet=True)
    elif cmd == "down":
        lab.down()
    elif cmd == "exec":
        lab.load()
        ns = lab.ns(a.pos[0])
        if not os.path.exists("/run/netns/" + ns):
            raise LabError(f"no such node '{a.pos[0]}'")
        os.execvpe("ip", ["ip", "netns", "exec", ns] + tail, {**os.environ, **lab.env(a.pos[0])})
    elif cmd == "env":
        for k, v in lab.load().env(a.pos[0] if a.pos else None).items():
            print(f"{k}={v}")
    elif cmd == "list" and a.json:
        print(json.dumps(lab.load().nodes, indent=1))
    elif cmd == "list":
        rows = []
        for n in lab.load().nodes.values():
            ty = ("cgn:" if n.carrier else "") + "+".join([n["type"]] + [k if v is True else f"{k}={v}" for k, v in n["opts"].items()])
            rows.append([n.name, ty, n["wan"], n["public"], " ".join(f"{h['name']}={h['ip']}" + (f",{h['ip6']}" if h["ip6"] else "") for h in n["hosts"])])
        table(["home", "type", "wan", "public", "hosts"], rows)
    elif cmd == "set":
        lab.load().set(a.pos[0], a.pos[1])
    elif cmd == "flush":
        lab.load().flush(a.pos or None)
    elif cmd == "wire":
        lab.load()
        w = json.load(open(lab.dir + "/wire.json"))
        hit = [x for x in w if x["name"] == a.pos[0]]
        if not hit:
            raise LabError("that home has no delayed wire; build it with +delay=")
        for kv in a.pos[1:]:
            k, v = kv.split("=")
            hit[0][k] = float(v)
        json.dump(w, open(lab.dir + "/wire.json", "w"))
        os.kill(int(open(lab.dir + "/wire.pid").read()), signal.SIGHUP)
    elif cmd == "verify":
        return 0 if verify(lab.load(), a.pos, a.json) else 1
    elif cmd == "matrix":
        which = a.pos[0] if a.pos else "both"
        mlab = Lab(name + "m")
        try:
            matrix.odd = 0
            matrix(mlab, ["udp", "tcp"] if which == "both" else [which], a.types.split(",") if a.types else MATRIX_TYPES,
                   delay=10 if a.delay is None else a.delay, skew=ms(a.skew), use_predict=a.predict, ttl=a.ttl, prime=a.prime, as_json=a.json)
        finally:
            mlab.down(quiet=True)
        return 1 if matrix.odd else 0
    elif cmd == "cross":
        mlab = Lab(name + "x")
        try:
            return 0 if cross(mlab, a.cmd_a, a.cmd_b, a.types.split(",") if a.types else MATRIX_TYPES,
                              10 if a.delay is None else a.delay, a.timeout, a.jobs, a.json) else 1
        finally:
            mlab.down(quiet=True)
    elif cmd == "punch":
        lab.load()
        proto, x, y = a.pos
        for _ in range(a.count):
            if proto == "udp":
                r = asyncio.run(udp_punch(lab, x, y, a.predict, ms(a.skew), timeout=3, ttl=a.ttl))
                print("failed" if r is None else f"ok {r * 1e3:.1f} ms")
            else:
                r = asyncio.run(tcp_punch(lab, x, y, a.predict, ms(a.skew), timeout=5, ttl=a.ttl, prime=a.prime))
                print("failed" if r is None else f"ok {r * 1e3:.1f} ms", tcp_punch.how)
        return 0 if r is not None else 1
    elif cmd == "birthday":
        lab.load()
        hits = []
        for _ in range(a.trials):
            hits.append(asyncio.run(birthday(lab, a.pos[0], a.pos[1], a.ports, a.probes)))
        ok = [h for h in hits if h]
        print(f"{a.ports} ports x {a.probes} probes: {len(ok)}/{a.trials} hit, formula {birthday_p(a.ports, a.probes):.3f}; "
              f"probes needed: {sorted(ok)}")
    elif cmd == "turntcp":
        lab.load()
        hs = a.pos or [n["hosts"][0]["name"] for n in lab.nodes.values() if not n.carrier][:2]
        for k, v in asyncio.run(turn_tcp(lab, hs[0], hs[1], rest=a.rest)).items():
            print(f"{k}: {v}")
    elif cmd == "igd":
        lab.load()
        homes = a.pos or [n.name for n in lab.nodes.values() if n.opt("upnp")]
        for hname in homes:
            for k, v in asyncio.run(igd(lab, hname)).items():
                print(f"{hname} {k}: {v}")
    elif cmd == "selftest":
        return selftest(name)
    else:
        raise LabError(f"unknown command '{cmd}' (see --help)")
    return 0


def selftest(name):
    lab, ok = Lab(name + "s"), True
    try:
        t = time.time()
        lab.up(None)
        print(f"build {time.time() - t:.2f} s, {len(lab.all_ns())} namespaces")
        ok &= verify(lab)
        for k, v in asyncio.run(igd(lab, "up")).items():
            print(f"igd {k}: {v}")
        print("turn tcp:", asyncio.run(turn_tcp(lab, "udpb", "pr")))
        matrix(lab, ["udp", "tcp"], MATRIX_TYPES)
        matrix(lab, ["udp", "tcp"], ["fullcone", "portrestricted", "prrandom", "symseq", "symseq+delta=3", "symrandom"], use_predict=True)
        ok &= not matrix.odd
        t = time.time()
        lab.down(quiet=True)
        print(f"down {time.time() - t:.2f} s")
    finally:
        lab.down(quiet=True)
    return 0 if ok else 1
