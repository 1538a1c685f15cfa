"""Birthday punching: measured against the formula."""
import asyncio
import contextlib
import math
import random

from .punch import gather_udp
from .stun import usock


async def birthday(lab, hard, easy, ports=256, probes=1024, rate=0):
    """HARD opens `ports` sockets to EASY's mapping, EASY throws `probes` packets at random ports."""
    loop = asyncio.get_running_loop()
    es, em = await gather_udp(lab, easy)
    hn, _ = lab.host(hard)
    probe_ip = hn["public"]
    hs, got = [], {}
    for _ in range(ports):
        s = usock(lab.ns(hard))
        hs.append(s)
        with contextlib.suppress(OSError):
            s.sendto(b"open", em[0])

        def rd(s=s):
            with contextlib.suppress(OSError):
                d, src = s.recvfrom(64)
                got.setdefault("n", int(d[1:]))
        loop.add_reader(s.fileno(), rd)
    await asyncio.sleep(0.05 + 0.004 * float(hn.opt("delay", 0)))
    order = random.sample(range(1024, 65536), probes)
    for i, p in enumerate(order):
        with contextlib.suppress(OSError):
            es.sendto(b"p%d" % (i + 1), (probe_ip, p))
        if i % 32 == 31:
            await asyncio.sleep(32 / rate if rate else 0)
        if got:
            break
    await asyncio.sleep(0.1)
    for s in hs:
        loop.remove_reader(s.fileno())
        s.close()
    es.close()
    return got.get("n")


def birthday_p(n, m, k=64512):
    return 1 - math.exp(sum(math.log1p(-n / (k - i)) for i in range(m))) if n + m < k else 1.0
