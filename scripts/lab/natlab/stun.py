"""The lab's own STUN, independent of the program under test, and sockets inside namespaces."""
import asyncio
import contextlib
import hashlib
import hmac
import os
import socket
import struct
import time

from .netns import netns

MAGIC = 0x2112A442


def stun_msg(typ, attrs=b"", tid=None, key=None):
    tid = tid or os.urandom(12)
    if key:
        h = struct.pack(">HHI", typ, len(attrs) + 24, MAGIC) + tid
        attrs += struct.pack(">HH", 0x0008, 20) + hmac.new(key, h + attrs, hashlib.sha1).digest()
    return struct.pack(">HHI", typ, len(attrs), MAGIC) + tid + attrs, tid


def stun_attr(t, v):
    return struct.pack(">HH", t, len(v)) + v + b"\0" * (-len(v) % 4)


def xor_addr(ip, port, tid=b""):
    b = socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    k = struct.pack(">I", MAGIC) + tid
    return struct.pack(">BBH", 0, 2 if ":" in ip else 1, port ^ (MAGIC >> 16)) + bytes(x ^ y for x, y in zip(b, k))


def stun_parse(d):
    if len(d) < 20:
        return None
    typ, ln, mg = struct.unpack(">HHI", d[:8])
    if mg != MAGIC:
        return None
    tid, at, o = d[8:20], {}, 20
    while o + 4 <= 20 + ln and o + 4 <= len(d):
        t, l = struct.unpack(">HH", d[o:o + 4])
        v = d[o + 4:o + 4 + l]
        if t in (0x0020, 0x0016, 0x0012):
            k = struct.pack(">I", MAGIC) + tid
            v = (socket.inet_ntop(socket.AF_INET if v[1] == 1 else socket.AF_INET6, bytes(x ^ y for x, y in zip(v[4:], k))),
                 struct.unpack(">H", v[2:4])[0] ^ (MAGIC >> 16))
        elif t in (0x0001, 0x802b, 0x802c):
            v = (socket.inet_ntop(socket.AF_INET if v[1] == 1 else socket.AF_INET6, v[4:]), struct.unpack(">H", v[2:4])[0])
        at.setdefault(t, v)
        o += 4 + l + (-l % 4)
    return typ, tid, at


def usock(ns, port=0, af=socket.AF_INET):
    with netns(ns):
        s = socket.socket(af, socket.SOCK_DGRAM)
    s.setblocking(False)
    s.bind(("::" if af == socket.AF_INET6 else "0.0.0.0", port))
    return s


def tsock(ns, port=0, ttl=None, af=socket.AF_INET):
    with netns(ns):
        s = socket.socket(af, socket.SOCK_STREAM)
    s.setblocking(False)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)      # else Nagle holds the second small message for a round trip
    if ttl:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    s.bind(("::" if af == socket.AF_INET6 else "0.0.0.0", port))
    return s


async def stun_udp(s, dst, attrs=b"", tries=3, rto=0.25, want_src=None):
    """(mapped, source of the reply) or None"""
    loop = asyncio.get_running_loop()
    m, tid = stun_msg(1, attrs)
    for _ in range(tries):
        with contextlib.suppress(OSError):
            await loop.sock_sendto(s, m, dst)
        end = time.monotonic() + rto
        while (left := end - time.monotonic()) > 0:
            try:
                d, src = await asyncio.wait_for(loop.sock_recvfrom(s, 2048), left)
            except (asyncio.TimeoutError, TimeoutError):
                break
            except OSError:
                continue
            r = stun_parse(d)
            if r and r[1] == tid and r[0] == 0x0101:
                return r[2].get(0x0020), src[:2], r[2]
    return None


async def stun_tcp(ns, port, dst, timeout=1.5):
    """(mapped, socket kept open) or (None, None)"""
    loop = asyncio.get_running_loop()
    s = tsock(ns, port, af=socket.AF_INET6 if ":" in dst[0] else socket.AF_INET)
    m, tid = stun_msg(1)
    try:
        async with asyncio.timeout(timeout):
            await loop.sock_connect(s, dst)
            await loop.sock_sendall(s, m)
            b = b""
            while len(b) < 20 or len(b) < 20 + struct.unpack(">H", b[2:4])[0]:
                x = await loop.sock_recv(s, 2048)
                if not x:
                    raise OSError("eof")
                b += x
        return stun_parse(b)[2].get(0x0020), s
    except (OSError, TimeoutError):
        s.close()
        return None, None
