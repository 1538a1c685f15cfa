"""Port-mapping protocols against a home that has a daemon for them."""
import asyncio
import contextlib
import os
import re
import socket
import struct
import time

from .netns import netns
from .stun import tsock, usock


async def igd(lab, home):
    loop = asyncio.get_running_loop()
    n = lab.nodes[home]
    host = n["hosts"][0]
    ns, gw, R = lab.ns(host["name"]), n["langw"], {}
    ls = tsock(ns)
    ls.listen(4)
    lp = ls.getsockname()[1]

    async def knock(addr, af=socket.AF_INET):
        with netns(lab.ns("srv")):
            k = socket.socket(af)
        k.setblocking(False)
        try:
            await asyncio.wait_for(loop.sock_connect(k, addr), 0.5)
            return "reachable"
        except (OSError, asyncio.TimeoutError, TimeoutError) as e:
            return "NOT reachable " + repr(e)
        finally:
            k.close()

    async def natpmp():
        s = usock(ns)
        t = time.monotonic()
        for op, body, ln in ((0, b"", 12), (2, struct.pack(">HHHI", 0, lp, lp, 120), 16)):
            await loop.sock_sendto(s, bytes([0, op]) + body, (gw, 5351))
            d, _ = await asyncio.wait_for(loop.sock_recvfrom(s, 64), 1)
            if op == 0:
                ip = socket.inet_ntoa(d[8:12])
            else:
                rc, ext = struct.unpack(">H", d[2:4])[0], struct.unpack(">H", d[10:12])[0]
        ms = (time.monotonic() - t) * 1e3
        R["NAT-PMP"] = f"rc={rc} {ip}:{ext} {await knock((ip, ext))} ({ms:.0f} ms for 2 requests)"
        await loop.sock_sendto(s, struct.pack(">BBHHHI", 0, 2, 0, lp, 0, 0), (gw, 5351))
        s.close()

    async def pcp(v6=False):
        af = socket.AF_INET6 if v6 else socket.AF_INET
        s = usock(ns, af=af)
        me = socket.inet_pton(socket.AF_INET6, host["ip6"] if v6 else "::ffff:" + host["ip"])
        nonce = os.urandom(12)
        m = struct.pack(">BBHI", 2, 1, 0, 120) + me + nonce + struct.pack(">B3xHH", 6, lp6 if v6 else lp, lp6 if v6 else lp) \
            + (b"\0" * 16 if v6 else b"\0" * 10 + b"\xff\xff" + b"\0" * 4)
        t = time.monotonic()
        if v6:
            s.setblocking(True)
            s.close()
            with netns(ns):
                s = socket.socket(af, socket.SOCK_DGRAM)
            s.setblocking(False)
            s.bind((host["ip6"], 0))
        dst = (n["v6net"] + ":1", 5351) if v6 else (gw, 5351)
        await loop.sock_sendto(s, m, dst)
        d, _ = await asyncio.wait_for(loop.sock_recvfrom(s, 1100), 1)
        ms = (time.monotonic() - t) * 1e3
        rc, life, ext = d[3], struct.unpack(">I", d[4:8])[0], struct.unpack(">H", d[42:44])[0]
        ip = socket.inet_ntop(socket.AF_INET6, d[44:60]).replace("::ffff:", "")
        R["PCP MAP" + (" v6" if v6 else "")] = f"rc={rc} {ip}:{ext} life={life} " \
            f"{await knock((ip, ext), af) if rc == 0 else ''} ({ms:.0f} ms)"
        await loop.sock_sendto(s, m[:4] + b"\0" * 4 + m[8:], dst)
        s.close()

    async def upnp():
        t = time.monotonic()
        s = usock(ns)
        msg = ("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n"
               "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n").encode()
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host["ip"]))
        await loop.sock_sendto(s, msg, ("239.255.255.250", 1900))
        d, _ = await asyncio.wait_for(loop.sock_recvfrom(s, 2048), 3)
        ssdp = (time.monotonic() - t) * 1e3
        loc = re.search(r"(?i)location:\s*(\S+)", d.decode()).group(1)
        _, h, path = re.match(r"(http)://([^/]+)(/.*)", loc).groups()
        ip, port = h.split(":")

        async def http(req, v6=False):
            c = tsock(ns, af=socket.AF_INET6 if v6 else socket.AF_INET)
            await loop.sock_connect(c, (n["v6net"] + ":1", int(port)) if v6 else (ip, int(port)))
            await loop.sock_sendall(c, req.encode())
            b = b""
            while True:
                x = await asyncio.wait_for(loop.sock_recv(c, 65536), 2)
                b += x
                m = re.search(rb"(?i)content-length:\s*(\d+)", b)
                if not x or (m and b"\r\n\r\n" in b and len(b.split(b"\r\n\r\n", 1)[1]) >= int(m.group(1))):
                    break
            c.close()
            return b.decode()
        xml = await http(f"GET {path} HTTP/1.1\r\nHost: {h}\r\nConnection: close\r\n\r\n")
        svc = re.search(r"<serviceType>(urn:schemas-upnp-org:service:WANIPConnection:\d)</serviceType>.*?<controlURL>([^<]+)", xml, re.S)
        fw6 = re.search(r"<serviceType>(urn:schemas-upnp-org:service:WANIPv6FirewallControl:\d)</serviceType>.*?<controlURL>([^<]+)", xml, re.S)

        async def soap(sv, act, args, v6=False):
            body = (f'<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
                    f's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:{act} xmlns:u="{sv[0]}">'
                    + "".join(f"<{k}>{v}</{k}>" for k, v in args) + f"</u:{act}></s:Body></s:Envelope>")
            return await http(f"POST {sv[1]} HTTP/1.1\r\nHost: {h}\r\nSOAPAction: \"{sv[0]}#{act}\"\r\nContent-Type: text/xml\r\n"
                              f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}", v6)
        r = await soap(svc.groups(), "GetExternalIPAddress", [])
        ext = re.search(r"<NewExternalIPAddress>([^<]*)", r).group(1)
        r = await soap(svc.groups(), "AddPortMapping", [("NewRemoteHost", ""), ("NewExternalPort", lp), ("NewProtocol", "TCP"),
                       ("NewInternalPort", lp), ("NewInternalClient", host["ip"]), ("NewEnabled", 1),
                       ("NewPortMappingDescription", "natlab"), ("NewLeaseDuration", 120)])
        ok = r.split("\r\n")[0]
        ms = (time.monotonic() - t) * 1e3
        R["UPnP IGD"] = f"{svc.group(1)[-1]} {ok} {ext}:{lp} {await knock((ext, lp))} ({ms:.0f} ms, SSDP {ssdp:.0f})"
        await soap(svc.groups(), "DeletePortMapping", [("NewRemoteHost", ""), ("NewExternalPort", lp), ("NewProtocol", "TCP")])
        R["after delete"] = await knock((ext, lp))
        if fw6 and host["ip6"]:
            before = await knock((host["ip6"], lp6), socket.AF_INET6)
            r = await soap(fw6.groups(), "AddPinhole", [("RemoteHost", ""), ("RemotePort", 0), ("InternalClient", host["ip6"]),
                           ("InternalPort", lp6), ("Protocol", 6), ("LeaseTime", 120)], v6=True)   # over IPv4 it says 606 "not authorized"
            uid = re.search(r"<UniqueID>(\d+)", r)
            R["AddPinhole v6"] = f"{r.splitlines()[0]} uid={uid and uid.group(1)}; before: {before}; after: {await knock((host['ip6'], lp6), socket.AF_INET6)}"
    lp6 = 0
    if host["ip6"]:
        l6 = tsock(ns, af=socket.AF_INET6)
        l6.listen(4)
        lp6 = l6.getsockname()[1]
    for f in (natpmp, pcp, upnp) + ((lambda: pcp(True),) if host["ip6"] else ()):
        try:
            await f()
        except (OSError, AttributeError, asyncio.TimeoutError, TimeoutError, ValueError, IndexError) as e:
            R[getattr(f, "__name__", "pcp6")] = f"failed: {e!r}"
    ls.close()
    return R
