"""Measures every NAT and compares it with what it claims to be."""
import asyncio
import errno
import json
import random
import socket
import time

from .model import SRV, SRV6
from .netns import netns
from .stun import stun_attr, stun_tcp, stun_udp, tsock, usock


def alloc_class(pairs):
    """[(local port, external port)] in order -> (text, delta)"""
    if len(pairs) < 3:
        return "-", None
    if all(a == b for a, b in pairs):
        return "preserve", 0
    d = {(b - a) % 65536 for a, b in pairs}
    if len(d) == 1 or (len(d) == 2 and max(d) - min(d) in (64512, 1024)):
        return f"offset+{min(d)}", min(d)
    steps = [y[1] - x[1] for x, y in zip(pairs, pairs[1:])]
    common = max(set(steps), key=steps.count)
    if steps.count(common) >= len(steps) * 0.6 and abs(common) <= 64:
        return f"seq{common:+d}", common
    return "random", None


async def measure(lab, name, quick=False):
    n, h = lab.host(name)
    ns, rto = lab.ns(name), 0.2 + 0.005 * 4 * float(n.opt("delay", 0))
    loop = asyncio.get_running_loop()
    R = {"host": name, "type": n.type}
    A, B, A2 = (SRV[1], 3478), (SRV[2], 3478), (SRV[1], 3479)

    async def udp():
        s = usock(ns)
        lp = s.getsockname()[1]
        a = await stun_udp(s, A, rto=rto)
        if not a:
            R.update(udp_map="blocked", udp_filt="blocked", udp_alloc="-")
            s.close()
            return
        R["other"] = a[2].get(0x802c)
        b, c = await stun_udp(s, B, rto=rto), await stun_udp(s, A2, rto=rto)
        s.close()
        m = [x and x[0] for x in (a, b, c)]
        if m[0] == (h["ip"], lp):
            R["udp_map"] = "none"
        else:
            R["udp_map"] = "EIM" if m[0] == m[1] == m[2] else "ADM" if m[0] == m[2] else "APDM"
        # filtering: fresh socket, RFC 5780 4.4
        s = usock(ns)
        await stun_udp(s, A, rto=rto)
        r = await stun_udp(s, A, stun_attr(3, b"\0\0\0\6"), tries=2, rto=rto)
        if r:
            R["udp_filt"] = "EIF"
        else:
            r = await stun_udp(s, A, stun_attr(3, b"\0\0\0\2"), tries=2, rto=rto)
            R["udp_filt"] = "ADF" if r else "APDF"
        s.close()
        # port allocation: eight sockets one after the other
        pairs, ss = [], []
        for _ in range(8):
            s = usock(ns)
            ss.append(s)
            r = await stun_udp(s, A, rto=rto)
            if r:
                pairs.append((s.getsockname()[1], r[0][1]))
        for s in ss:
            s.close()
        R["udp_alloc"], R["udp_delta"] = alloc_class(pairs)

    async def tcp():
        s0 = tsock(ns)
        lp = s0.getsockname()[1]
        res = [await stun_tcp(ns, lp, d) for d in (A, B, A2)]
        m = [r[0] for r in res]
        if not m[0]:
            R.update(tcp_map="blocked", tcp_filt="blocked", tcp_alloc="-")
            s0.close()
            return
        R["tcp_map"] = "none" if m[0] == (h["ip"], lp) else "EIM" if m[0] == m[1] == m[2] else "ADM" if m[0] == m[2] else "APDM"
        for r in res:
            if r[1]:
                r[1].close()
        s0.close()
        # filtering: a fresh port talks to one server only; others try to connect in
        s0 = tsock(ns)
        lp = s0.getsockname()[1]
        mp, keep = await stun_tcp(ns, lp, A)
        s0.listen(8)

        async def knock(ip):
            with netns(lab.ns("srv")):
                k = socket.socket()
            k.setblocking(False)
            k.bind((ip, 0))
            try:
                await asyncio.wait_for(loop.sock_connect(k, mp), 0.35 + rto)
                return "open"
            except (asyncio.TimeoutError, TimeoutError):
                return "drop"
            except ConnectionRefusedError:
                return "RST"
            except OSError as e:
                return errno.errorcode.get(e.errno, "?")
            finally:
                k.close()
        other, same = await knock(SRV[4]), await knock(SRV[1])
        R["tcp_filt"] = "EIF" if other == "open" else "ADF" if same == "open" else "APDF"
        if keep:
            keep.close()
        s0.close()
        # unsolicited SYN to a port nobody mapped
        mp = (mp[0], random.randrange(2000, 9000))
        R["unsol"] = await knock(SRV[4])
        pairs, ss = [], []
        for _ in range(8):
            b = tsock(ns)
            r = await stun_tcp(ns, b.getsockname()[1], A)
            ss += [b] + ([r[1]] if r[1] else [])
            if r[0]:
                pairs.append((b.getsockname()[1], r[0][1]))
        for s in ss:
            s.close()
        R["tcp_alloc"], R["tcp_delta"] = alloc_class(pairs)

    async def hair():
        x, y = usock(ns), usock(ns)
        my = await stun_udp(y, A, rto=rto)
        R["hairpin"] = "-"
        if my and R.get("udp_map") != "none":
            await stun_udp(x, A, rto=rto)
            mx = await stun_udp(x, A, rto=rto)
            for _ in range(2):      # both directions, so that filters on the way are opened as a punch would
                await loop.sock_sendto(y, b"hairpin", mx[0])
                await loop.sock_sendto(x, b"hairpin", my[0])
                await asyncio.sleep(rto / 4)
            try:
                d, src = await asyncio.wait_for(loop.sock_recvfrom(y, 64), rto)
                R["hairpin"] = "ext" if src[0] == n["wan"] or src[0] == n["public"] else "int"
            except (asyncio.TimeoutError, TimeoutError):
                R["hairpin"] = "no"
        x.close(), y.close()

    async def v6():
        R["v6"] = "-"
        if not h["ip6"]:
            return
        s = usock(ns, af=socket.AF_INET6)
        a = await stun_udp(s, (SRV6[1], 3478), rto=rto)
        if not a:
            R["v6"] = "fail"
        else:
            nat = "" if a[0][0] == h["ip6"] else "NAT "
            r = await stun_udp(s, (SRV6[1], 3478), stun_attr(3, b"\0\0\0\6"), tries=2, rto=rto)
            R["v6"] = nat + ("open" if r else "fw")
        s.close()
    await udp()
    await tcp()
    await hair()
    await v6()
    t = {"none": 1, "blocked": 7}.get(R["udp_map"])
    if t == 1 and R["udp_filt"] != "EIF":
        t = 2
    if not t:
        t = 6 if R["udp_map"] != "EIM" else {"EIF": 3, "ADF": 4, "APDF": 5}[R["udp_filt"]]
    al = R.get("udp_alloc", "-")
    R["p2pd"] = f"{t}/" + ("EQUAL" if al == "preserve" else "PRESERV" if al.startswith("offset") else "INDEP" if al.startswith("seq")
                           else "RANDOM" if al == "random" else "NA")
    return R


def expected(lab, n):
    """What verify must find: (udp_map, udp_filt, udp_alloc, tcp_map, tcp_filt, unsol, hairpin)"""
    m = {"linux": "EIM"}.get(n.map, n.map.upper() if n.map != "none" else "none")
    def claim(x):
        return {"seq": f"seq{int(x.opt('delta', 1)):+d}", "offset": "offset+7000"}.get(x.alloc, x.alloc)
    al = claim(n)
    f, uns, hp = n.filt.upper(), None, ("ext" if n.opt("hairpin") else "no") if m != "none" else "-"
    if n.opt("rst") or n.opt("open") or n.type == "public":
        uns = "RST"
    elif not n.opt("via") and not n.opt("only"):
        uns = "drop"
    if n.opt("via"):        # the tighter one of the two wins
        c = lab.nodes[n.opt("via")]
        order = ["EIM", "ADM", "APDM"]
        m = max(m, {"linux": "EIM"}.get(c.map, c.map.upper()), key=order.index)
        f = max(f, c.filt.upper(), key=["EIF", "ADF", "APDF"].index)
        hp = "ext" if c.opt("hairpin") else "no"
        if al == "preserve":
            al = claim(c)
    udp = ("blocked", "blocked", "-") if n.opt("udpblock") or n.opt("only") else (m, f, al)
    tcp = (m, f) if not n.opt("only") else (None, None)
    return dict(zip(("udp_map", "udp_filt", "udp_alloc", "tcp_map", "tcp_filt", "unsol", "hairpin"),
                    udp + tcp + (uns, hp if not (n.opt("udpblock") or n.opt("only")) else "-")))


def verify(lab, names=None, as_json=False):
    names = names or [n["hosts"][0]["name"] for n in lab.nodes.values() if not n.carrier]

    async def go():
        # behind one carrier: one after the other, or sequential allocations mix
        return await asyncio.gather(*[measure(lab, x) for x in names])
    t0 = time.time()
    res, bad = asyncio.run(go()), 0
    cols = ["host", "type", "udp_map", "udp_filt", "udp_alloc", "tcp_map", "tcp_filt", "tcp_alloc", "unsol", "hairpin", "v6", "p2pd"]
    rows = []
    for r in res:
        n, _ = lab.host(r["host"])
        r["type"] = "+".join([n.type] + [k if v is True else f"{k}={v}" for k, v in n["opts"].items() if k not in ("delay",)])
        wrong = [k for k, v in expected(lab, n).items() if v is not None and r.get(k) != v]
        r["wrong"] = wrong
        bad += bool(wrong)
        rows.append([str(r.get(c, "-")) + ("!" if c in wrong else "") for c in cols] + ["ok" if not wrong else "WRONG " + ",".join(
            f"{k} want {expected(lab, n)[k]}" for k in wrong)])
    if as_json:
        print(json.dumps(res, indent=1))
    else:
        table(cols + ["verdict"], rows)
        print(f"{len(res)} NATs measured in {time.time() - t0:.1f} s; {bad} not as claimed")
    return bad == 0


def table(head, rows):
    w = [max(len(str(x)) for x in c) for c in zip(head, *rows)]
    for r in [head] + rows:
        print("  ".join(str(x).ljust(y) for x, y in zip(r, w)).rstrip())
