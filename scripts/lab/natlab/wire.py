"""The delaying wire: TUN to TUN, in user space, since not every kernel has sch_netem."""
import contextlib
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import signal
import struct
import time

from .netns import netns


def wire_main(d, ready):
    TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
    wires = json.load(open(d + "/wire.json"))
    ep, peer, par, byname = select.epoll(), {}, {}, {}

    def mk(ns, ifn):
        with netns(ns):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", ifn.encode(), IFF_TUN | IFF_NO_PI))
        return fd
    for w in wires:
        a, b = mk(*w["a"]), mk(*w["b"])
        peer[a], peer[b] = b, a
        p = byname[w["name"]] = [w["delay"] / 1e3, w["jitter"] / 1e3, w["loss"] / 1e2]
        par[a] = par[b] = p
        ep.register(a, select.EPOLLIN), ep.register(b, select.EPOLLIN)

    def reload(*_):
        for w in json.load(open(d + "/wire.json")):
            byname[w["name"]][:] = [w["delay"] / 1e3, w["jitter"] / 1e3, w["loss"] / 1e2]
    signal.signal(signal.SIGHUP, reload)
    os.write(ready, b"k")
    os.close(ready)
    heap, seq, now = [], itertools.count(), time.monotonic
    last = dict.fromkeys(peer, 0.0)
    while True:
        t = -1 if not heap else max(0.0, heap[0][0] - now())
        for fd, _ in ep.poll(t):
            dl, ji, lo = par[fd]
            for _ in range(64):
                try:
                    pkt = os.read(fd, 65535)
                except OSError:
                    break
                if lo and random.random() < lo:
                    continue
                due = now() + dl + (random.random() * ji if ji else 0)
                if not ji and due < last[fd]:
                    due = last[fd]
                last[fd] = due
                heapq.heappush(heap, (due, next(seq), peer[fd], pkt))
        n = now() + 0.0002
        while heap and heap[0][0] <= n:
            _, _, fd, pkt = heapq.heappop(heap)
            with contextlib.suppress(OSError):
                os.write(fd, pkt)
