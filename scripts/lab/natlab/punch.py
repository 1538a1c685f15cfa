"""Reference algorithms of hole punching."""
import asyncio
import contextlib
import errno
import os
import random
import socket
import time

from .model import SRV
from .stun import stun_tcp, stun_udp, tsock, usock


def predict(maps, k=6):
    """candidate ports out of the mappings seen so far, in order of observation"""
    last = maps[-1]
    if maps[0] == last:
        return [last]
    d = last[1] - maps[-2][1]
    if 0 < abs(d) <= 16:
        return [(last[0], (last[1] + d * i - 1024) % 64512 + 1024) for i in range(1, k + 1)]
    return [last]


async def gather_udp(lab, host):
    s = usock(lab.ns(host))
    maps = []
    for i in (1, 2, 3):
        r = await stun_udp(s, (SRV[i], 3478), rto=0.5)
        if r:
            maps.append(r[0])
    return s, maps


async def udp_punch(lab, a, b, use_predict=False, skew=0.0, timeout=1.2, interval=0.02, ttl=None):
    """-> seconds from the start signal until both sides had an acknowledged path, or None.
    ttl: A's packets get this TTL until it hears from B (they open A's NAT but do not reach B's)."""
    loop = asyncio.get_running_loop()
    sess = os.urandom(8)
    sides = []
    for h in (a, b):
        s, maps = await gather_udp(lab, h)
        n, hh = lab.host(h)
        cand = (predict(maps) if use_predict else maps[:1]) if maps else []
        sides.append({"s": s, "cand": cand, "ip": hh["ip"], "n": n, "ok": loop.create_future()})
    if not all(x["cand"] for x in sides):
        for x in sides:
            x["s"].close()
        return None
    if sides[0]["n"] is sides[1]["n"]:      # same LAN: host candidates too
        for x in sides:
            x["cand"] = x["cand"] + [(x["ip"], x["s"].getsockname()[1])]
    t0 = time.monotonic()

    async def one(me, peer, wait):
        s = me["s"]
        targets = list(peer["cand"])
        await asyncio.sleep(wait)

        async def rx():
            while True:
                try:
                    d, src = await loop.sock_recvfrom(s, 256)
                except OSError:
                    continue
                if d[:8] != sess:
                    continue
                if ttl:
                    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
                if src not in targets:
                    targets.insert(0, src)          # peer-reflexive
                with contextlib.suppress(OSError):
                    if d[8:9] == b"?":
                        await loop.sock_sendto(s, sess + b"!", src)
                    elif not me["ok"].done():
                        me["ok"].set_result(time.monotonic() - t0)
        if ttl and me is sides[0]:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        task = asyncio.create_task(rx())
        try:
            while not (me["ok"].done() and peer["ok"].done()):
                for t in list(targets):
                    with contextlib.suppress(OSError):
                        await loop.sock_sendto(s, sess + b"?", t)
                await asyncio.sleep(interval)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    ts = [asyncio.create_task(one(sides[0], sides[1], 0)), asyncio.create_task(one(sides[1], sides[0], skew))]
    try:
        await asyncio.wait_for(asyncio.gather(sides[0]["ok"], sides[1]["ok"]), timeout)
        return max(x["ok"].result() for x in sides)
    except (asyncio.TimeoutError, TimeoutError):
        return None
    finally:
        for t in ts:
            t.cancel()
        await asyncio.gather(*ts, return_exceptions=True)
        for x in sides:
            x["s"].close()


async def gather_tcp(lab, host):
    ns = lab.ns(host)
    hold = tsock(ns)                       # keeps the port ours
    lp, maps, keep = hold.getsockname()[1], [], []
    for i in (1, 2, 3):
        m, s = await stun_tcp(ns, lp, (SRV[i], 3478))
        if m:
            maps.append(m)
            keep.append(s)
    return lp, hold, maps, keep


async def tcp_punch(lab, a, b, use_predict=False, skew=0.0, timeout=2.0, ttl=None, prime=False, retry=0.05):
    """Both sides connect() from the port they used for TCP STUN, and listen on it. First socket on which a
    hello/ack exchange works wins; the side with the smaller name decides. -> seconds or None.
    prime: A sends one SYN (ttl limited) and then only listens; B connects afterwards (no simultaneity)."""
    loop = asyncio.get_running_loop()
    sess, sides = os.urandom(8), []
    for h in (a, b):
        lp, hold, maps, keep = await gather_tcp(lab, h)
        n, hh = lab.host(h)
        sides.append({"h": h, "ns": lab.ns(h), "lp": lp, "hold": hold, "keep": keep, "n": n, "ip": hh["ip"], "socks": [],
                      "cand": (predict(maps) if use_predict else maps[:1]) if maps else [], "ok": loop.create_future(), "how": "-", "err": {}})

    def cleanup():
        for x in sides:
            for s in [x["hold"]] + x["keep"] + x["socks"]:
                s.close()
    if not all(x["cand"] for x in sides):
        cleanup()
        return None
    if sides[0]["n"] is sides[1]["n"]:
        for x in sides:
            x["cand"] = x["cand"] + [(x["ip"], x["lp"])]
    t0, tasks = time.monotonic(), []

    async def confirm(me, s, boss, how):
        """4-way check so that both agree on one socket"""
        try:
            async def rd(n):
                b = b""
                while len(b) < n:
                    x = await loop.sock_recv(s, n - len(b))
                    if not x:
                        raise OSError("eof")
                    b += x
                return b
            await loop.sock_sendall(s, sess + b"H")
            if await rd(9) != sess + b"H":
                return
            if boss:
                if me.get("used"):
                    return
                me["used"] = True
                await loop.sock_sendall(s, b"U")
                if await rd(1) == b"K" and not me["ok"].done():
                    me["how"] = how
                    me["ok"].set_result(time.monotonic() - t0)
            else:
                if await rd(1) == b"U":
                    await loop.sock_sendall(s, b"K")
                    if not me["ok"].done():
                        me["how"] = how
                        me["ok"].set_result(time.monotonic() - t0)
            await asyncio.sleep(10)
        except OSError:
            pass

    async def dial(me, dst, boss, wait):
        await asyncio.sleep(wait)
        low = ttl if boss and not prime else None
        while not me["ok"].done():
            s = tsock(me["ns"], me["lp"], low)
            me["socks"].append(s)
            try:
                c = asyncio.ensure_future(loop.sock_connect(s, dst))
                if low:                       # the SYN leaves inside connect(); later segments get a normal TTL
                    await asyncio.sleep(0)
                    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
                try:
                    await c
                finally:
                    c.cancel()
                    await asyncio.gather(c, return_exceptions=True)
                if s.getpeername() == s.getsockname():
                    raise OSError("self connect")
                await confirm(me, s, boss, "connect")
            except OSError as e:
                k = errno.errorcode.get(e.errno, str(e))
                me["err"][k] = me["err"].get(k, 0) + 1
            me["socks"].remove(s)
            s.close()
            # two routers that answer RST: equal retry periods can stay out of phase for ever, so jitter
            await asyncio.sleep(retry * random.uniform(0.2, 1.8))

    async def listen(me, boss):
        ls = tsock(me["ns"], me["lp"])
        me["socks"].append(ls)
        ls.listen(8)
        while True:
            s, _ = await loop.sock_accept(ls)
            s.setblocking(False)
            me["socks"].append(s)
            tasks.append(asyncio.create_task(confirm(me, s, boss, "accept")))
    for i, me in enumerate(sides):
        peer, boss = sides[1 - i], i == 0
        tasks.append(asyncio.create_task(listen(me, boss)))
        if prime and i == 0:
            for c in peer["cand"]:
                async def primer(me=me, c=c):
                    s = tsock(me["ns"], me["lp"], ttl)
                    with contextlib.suppress(OSError, TimeoutError):
                        async with asyncio.timeout(0.03):
                            await loop.sock_connect(s, c)
                    s.close()
                tasks.append(asyncio.create_task(primer()))
        else:
            for c in peer["cand"]:
                tasks.append(asyncio.create_task(dial(me, c, boss, (skew if i else 0) + (0.1 if prime else 0))))
    try:
        await asyncio.wait_for(asyncio.gather(sides[0]["ok"], sides[1]["ok"]), timeout)
        r = max(x["ok"].result() for x in sides)
        return r
    except (asyncio.TimeoutError, TimeoutError):
        return None
    finally:
        tcp_punch.how = " ".join(x["how"] + "".join(f" {v}x{k}" for k, v in x["err"].items()) for x in sides)
        for t in tasks:
            t.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        cleanup()
