"""TURN with TCP allocations (RFC 6062), the far side a plain TCP client."""
import asyncio
import base64
import errno
import hashlib
import hmac
import socket
import struct
import time

from .model import SRV, TURN_PASS, TURN_SECRET, TURN_USER, LabError
from .netns import netns
from .stun import stun_attr, stun_msg, stun_parse, tsock, xor_addr


class Turn:
    """A TURN client over one TCP control connection, long-term credentials."""

    def __init__(self, ns, server=(SRV[1], 3478), user=TURN_USER, pw=TURN_PASS):
        self.ns, self.server, self.user, self.pw = ns, server, user, pw
        self.buf, self.key, self.nonce, self.realm, self.log, self.q = b"", None, b"", b"", [], []

    async def connect(self):
        self.loop = asyncio.get_running_loop()
        self.s = tsock(self.ns)
        await self.loop.sock_connect(self.s, self.server)

    def auth(self):
        return stun_attr(6, self.user.encode()) + stun_attr(0x14, self.realm) + stun_attr(0x15, self.nonce)

    async def recv(self):
        while len(self.buf) < 20 or len(self.buf) < 20 + struct.unpack(">H", self.buf[2:4])[0]:
            x = await self.loop.sock_recv(self.s, 4096)
            if not x:
                raise OSError("eof")
            self.buf += x
        n = 20 + struct.unpack(">H", self.buf[2:4])[0]
        m, self.buf = self.buf[:n], self.buf[n:]
        return stun_parse(m)

    async def request(self, method, attrs=b""):
        for _ in range(2):
            a = attrs + (self.auth() if self.key else b"")
            m, tid = stun_msg(method, a, key=self.key)
            await self.loop.sock_sendall(self.s, m)
            while True:
                r = await self.recv()
                if r[1] == tid:
                    break
                self.q.append(r)
            err = r[2].get(9)
            code = err[2] * 100 + err[3] if err else 0
            self.log.append((method, hex(r[0]), code))
            if code in (401, 438):
                self.realm, self.nonce = r[2].get(0x14, self.realm), r[2][0x15]
                self.key = hashlib.md5(f"{self.user}:{self.realm.decode()}:{self.pw}".encode()).digest()
                continue
            if code:
                raise LabError(f"TURN method {method:#x}: error {code} {err[4:]}")
            return r
        raise LabError("TURN: authentication refused")


async def turn_tcp(lab, a, b, rest=False):
    loop = asyncio.get_running_loop()
    t0 = time.monotonic()
    if rest:
        user = f"{int(time.time()) + 600}:alice"
        pw = base64.b64encode(hmac.new(TURN_SECRET.encode(), user.encode(), hashlib.sha1).digest()).decode()
        A = Turn(lab.ns(a), (SRV[5], 3478), user, pw)
    else:
        A = Turn(lab.ns(a))
    await A.connect()
    r = await A.request(0x003, stun_attr(0x19, b"\6\0\0\0"))            # Allocate, REQUESTED-TRANSPORT = TCP
    relayed = r[2][0x16]
    t1 = time.monotonic()
    nb, _ = lab.host(b)
    # XOR-PEER-ADDRESS is xored with the magic cookie only (IPv4), so no transaction id is needed here
    await A.request(0x008, stun_attr(0x12, xor_addr(nb["public"], 0)))     # CreatePermission: an IP, no port
    t2 = time.monotonic()
    # B: an ordinary TCP client
    bs = tsock(lab.ns(b))
    await loop.sock_connect(bs, relayed)
    t3 = time.monotonic()
    await loop.sock_sendall(bs, b"hello from plain tcp")
    ind = A.q.pop(0) if A.q else await A.recv()                          # ConnectionAttempt indication 0x001C
    assert ind[0] == 0x001C, hex(ind[0])
    cid, peer = ind[2][0x2A], ind[2][0x12]
    D = Turn(A.ns, A.server, A.user, A.pw)
    D.realm, D.nonce, D.key = A.realm, A.nonce, A.key
    await D.connect()
    await D.request(0x00B, stun_attr(0x2A, cid))                          # ConnectionBind on a new TCP connection
    t4 = time.monotonic()
    data = D.buf
    while len(data) < 20:
        data += await loop.sock_recv(D.s, 100)
    await loop.sock_sendall(D.s, b"hello from behind turn")
    back = await loop.sock_recv(bs, 100)
    t5 = time.monotonic()
    # and without a permission?
    bad = "refused"
    with netns(lab.ns("srv")):
        x = socket.socket()
    x.setblocking(False)
    x.bind((SRV[4], 0))
    try:
        await asyncio.wait_for(loop.sock_connect(x, relayed), 0.5)
        await asyncio.sleep(0.1)
        try:
            bad = "closed by server" if not await asyncio.wait_for(loop.sock_recv(x, 1), 0.5) else "data?"
        except (asyncio.TimeoutError, TimeoutError):
            bad = "accepted (!)"
        except OSError as e:
            bad = "accepted, then " + errno.errorcode[e.errno]
    except (OSError, asyncio.TimeoutError, TimeoutError) as e:
        bad = repr(e)
    x.close()
    # active open: Connect to a peer (B listening publicly would be needed) is method 0x00A
    for s in (A.s, D.s, bs):
        s.close()
    return {"relayed": relayed, "peer_seen": peer, "A_got": data.decode(), "B_got": back.decode(), "log": A.log + D.log,
            "no_permission": bad, "ms": [round((y - x) * 1e3, 1) for x, y in zip((t0, t1, t2, t3, t4), (t1, t2, t3, t4, t5))]}
