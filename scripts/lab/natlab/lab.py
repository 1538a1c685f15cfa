"""Builds and tears down a laboratory."""
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from .model import (COREGW, COREGW6, DEFAULT_SPEC, SRV, SRV6, TURN_PASS, TURN_REALM, TURN_SECRET, TURN_USER, LabError,
                    Node, parse_spec, parse_type)
from .netns import forget, netns, sh, sysctl
from .rules import nft_rules
from .servers import Servers


class Lab(Servers):
    """Namespaces, links, rules and servers under one name."""

    def __init__(self, name="nl"):
        self.name, self.dir = name, f"/run/natlab/{name}"
        self.nodes = {}

    # names
    def ns(self, node):
        return f"{self.name}.{node}"

    def router_ns(self, n):
        return self.ns(n.name) if n.map == "none" else self.ns("r." + n.name)

    def host(self, name):
        for n in self.nodes.values():
            for h in n["hosts"]:
                if h["name"] == name:
                    return n, h
        raise LabError(f"no host '{name}'")

    def all_ns(self):
        out = [self.ns("core"), self.ns("srv")]
        for n in self.nodes.values():
            if n.map != "none":
                out.append(self.ns("r." + n.name))
            out += [self.ns(h["name"]) for h in n["hosts"]]
        return out

    def save(self, **kw):
        os.makedirs(self.dir, exist_ok=True)
        with open(self.dir + "/state.json", "w") as f:
            json.dump({"nodes": self.nodes, **kw}, f)

    def load(self):
        try:
            st = json.load(open(self.dir + "/state.json"))
        except FileNotFoundError:
            raise LabError(f"lab '{self.name}' is not up")
        self.nodes = {k: Node(v) for k, v in st["nodes"].items()}
        return self

    # ---- build
    def up(self, spec, delay=0, jitter=0, loss=0, servers=True):
        if os.geteuid():
            raise LabError("root needed")
        self.down(quiet=True)
        self.nodes = parse_spec(spec or DEFAULT_SPEC, dict(delay=delay, jitter=jitter, loss=loss))
        os.makedirs(self.dir, exist_ok=True)
        self.save()
        try:
            self._build(servers)
        except BaseException:
            self.down(quiet=True)
            raise
        return self

    def _build(self, servers):
        nodes = self.nodes.values()
        sh(["ip", "-batch", "-"], "".join(f"netns add {x}\n" for x in self.all_ns()))
        # sysctls before links exist, so they inherit them
        base = {"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.all.accept_dad": 0, "net.ipv6.conf.default.accept_ra": 0,
                "net.ipv4.conf.all.rp_filter": 0, "net.ipv6.neigh.default.retrans_time_ms": 50,
                "net.ipv4.neigh.default.retrans_time_ms": 50, "net.ipv4.conf.default.rp_filter": 0, "net.ipv4.icmp_ratelimit": 0,
                "net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.default.send_redirects": 0}
        fwd = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1, "net.bridge.bridge-nf-call-iptables": 0,
               "net.bridge.bridge-nf-call-ip6tables": 0, "net.bridge.bridge-nf-call-arptables": 0}
        nov6 = {"net.ipv6.conf.default.disable_ipv6": 1}
        sysctl(self.ns("core"), {**base, **fwd})
        sysctl(self.ns("srv"), base)
        links, cfg = [], {x: ["link set lo up"] for x in self.all_ns()}
        core, srv = self.ns("core"), self.ns("srv")
        idx = itertools.count(1000)     # unlike indexes at both ends make the kernel's linkwatch act at once, not up to 1 s later
        veth = lambda a, an, b, bn: links.append(f"link add name {an} index {next(idx)} netns {a} type veth peer name {bn} index {next(idx)} netns {b}")
        veth(core, "srv", srv, "eth0")
        cfg[core] += [f"addr add {COREGW}/24 dev srv", f"addr add {COREGW6}/64 dev srv", "link set srv up"]
        cfg[srv] += [f"addr add {a}/24 dev eth0" for a in SRV.values()] + [f"addr add {a}/64 dev eth0" for a in SRV6.values()]
        cfg[srv] += ["link set eth0 up", f"route add default via {COREGW}", f"route add default via {COREGW6}"]
        wires, files = [], {}
        for n in nodes:
            k, r = n["k"], self.router_ns(n)
            v6 = n.has_v6()
            via = n.opt("via")
            up_ns, up_if = (self.ns("r." + via), f"s{k}") if via else (core, f"w{k}")
            dn_if = "eth0" if n.map == "none" else "wan0"
            sysctl(r, {**base, **(fwd if n.map != "none" else {}), **({} if v6 else nov6)})
            ttl = int(n.opt("udpttl", 120))
            sysctl(r, {"net.netfilter.nf_conntrack_tcp_be_liberal": int(bool(n.opt("liberal"))), "net.netfilter.nf_conntrack_udp_timeout": min(ttl, 120), "net.netfilter.nf_conntrack_udp_timeout_stream": ttl})
            if n["wire"]:
                wires.append({"name": n.name, "a": [up_ns, up_if], "b": [r, dn_if],
                              **{x: float(n.opt(x, 0)) for x in ("delay", "jitter", "loss")}})
            else:
                veth(up_ns, up_if, r, dn_if)
            # provider side
            if via:
                cfg[up_ns] += [f"addr add {n['wangw']}/30 dev {up_if}", f"link set {up_if} up"]
                cfg[r] += [f"addr add {n['wan']}/30 dev {dn_if}", f"link set {dn_if} up", f"route add default via {n['wangw']} dev {dn_if} onlink"]
            else:
                cfg[up_ns] += [f"link set {up_if} up", f"route add {n['wan']}/32 dev {up_if}"]
                cfg[r] += [f"addr add {n['wan']}/32 dev {dn_if}", f"link set {dn_if} up",
                           f"route add default via {COREGW} dev {dn_if} onlink"]
            if v6:
                cfg[up_ns] += [f"addr add fe80::1/64 dev {up_if}", f"route add {n['v6net']}:/64 via fe80::2 dev {up_if} onlink"]
                cfg[r] += [f"addr add fe80::2/64 dev {dn_if}", f"route add default via fe80::1 dev {dn_if} onlink"]
                if n.map == "none":
                    cfg[r] += [f"addr add {n['hosts'][0]['ip6']}/128 dev {dn_if}"]
            # LAN side
            if n.map != "none" and not n.carrier:
                many = len(n["hosts"]) > 1
                if many:
                    cfg[r].append("link add lan0 type bridge forward_delay 0 mcast_snooping 0")
                for i, h in enumerate(n["hosts"]):
                    hn = self.ns(h["name"])
                    sysctl(hn, {**base, **({} if v6 else nov6)})
                    veth(r, f"lan{i}" if not many else f"p{i}", hn, "eth0")
                    if many:
                        cfg[r] += [f"link set p{i} master lan0", f"link set p{i} up"]
                    cfg[hn] += [f"addr add {h['ip']}/24 dev eth0", "link set eth0 up", f"route add default via {n['langw']}"]
                    if v6:
                        cfg[hn] += [f"addr add {h['ip6']}/64 dev eth0", f"route add default via {n['v6net']}:1"]
                cfg[r] += [f"addr add {n['langw']}/24 dev lan0", "link set lan0 up"]
                if v6:
                    cfg[r] += [f"addr add {n['v6net']}:1/64 dev lan0"]
            for h in n["hosts"]:
                files[self.ns(h["name"])] = True
        sh(["ip", "-batch", "-"], "\n".join(links) + "\n")
        if wires:
            self._start_wire(wires)
        hosts = "127.0.0.1 localhost\n::1 localhost\n" + "".join(
            f"{SRV[i]} {nm}\n{SRV6[i]} {nm}\n" for i, nm in
            ((1, "stun1.lab turn.lab"), (2, "stun2.lab"), (3, "stun3.lab"), (4, "stun4.lab"), (5, "turnrest.lab"), (10, "mqtt.lab")))
        for x in list(files) + [srv]:
            with contextlib.suppress(PermissionError):
                os.makedirs("/etc/netns/" + x, exist_ok=True)
                open(f"/etc/netns/{x}/hosts", "w").write(hosts)

        def conf(x):
            sh(["ip", "-n", x, "-batch", "-"], "\n".join(cfg[x]) + "\n")

        def rules(n):
            sh(["nsenter", "--net=/run/netns/" + self.router_ns(n), "nft", "-f", "-"], nft_rules(n))
        if servers:
            conf(srv)
            self._start_servers()
        with ThreadPoolExecutor(4) as ex:
            jobs = [ex.submit(conf, x) for x in cfg if not (servers and x == srv)] + [ex.submit(rules, n) for n in nodes]
            for j in jobs:
                j.result()
        for n in nodes:
            if n.opt("upnp"):
                self._start_igd(n)
        if servers:
            self._wait_servers()
        # IPv6 on a fresh veth becomes usable up to a second late (linkwatch): ping until it works
        end = time.time() + 3
        for n in nodes:
            if not n.has_v6():
                continue
            dst = n["hosts"][0]["ip6"] if n.map == "none" else n["v6net"] + ":1"
            with netns(srv):
                s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            s.settimeout(0.03 + 0.002 * float(n.opt("delay", 0)))
            while time.time() < end:
                with contextlib.suppress(OSError):
                    s.sendto(b"\x80\0\0\0natl", (dst, 0))
                    if any(s.recvfrom(64)[1][0] == dst for _ in range(8)):
                        break
            s.close()

    # ---- teardown
    def down(self, quiet=False):
        try:
            mine = [x for x in os.listdir("/run/netns") if x.startswith(self.name + ".")]
        except FileNotFoundError:
            mine = []
        inodes = set()
        for x in mine:
            with contextlib.suppress(OSError):
                inodes.add(os.stat("/run/netns/" + x).st_ino)
        pids = []
        for p in os.listdir("/proc"):       # everything that lives in one of our namespaces is ours
            if p.isdigit():
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{p}/ns/net").st_ino in inodes and int(p) != os.getpid():
                        pids.append(int(p))
        with contextlib.suppress(Exception):
            pid = int(open(self.dir + "/wire.pid").read())
            # A fork of whoever built the laboratory: its number may be somebody else's by now.
            line = open(f"/proc/{pid}/cmdline", "rb").read()
            if b"natlab" in line or b"natmatrix" in line:
                pids.append(pid)
        for p in pids:
            with contextlib.suppress(OSError):
                os.kill(p, signal.SIGKILL)
        if mine:
            sh(["ip", "-batch", "-"], "".join(f"netns del {x}\n" for x in mine), check=False)
        for x in mine:
            shutil.rmtree("/etc/netns/" + x, ignore_errors=True)
            forget(x)
        shutil.rmtree(self.dir, ignore_errors=True)
        if not quiet:
            print(f"{len(mine)} namespaces and {len(pids)} processes removed")

    # ---- small verbs
    def flush(self, names=None):
        for n in self.nodes.values():
            if names and n.name not in names:
                continue
            with netns(self.router_ns(n)):
                sh(["nft", "-f", "-"], nft_rules(n))
                sh(["conntrack", "-F"], check=False)
            if n.opt("upnp"):
                with contextlib.suppress(Exception):
                    os.kill(int(open(f"{self.dir}/igd-{n.name}.pid").read()), signal.SIGTERM)
                time.sleep(0.05)
                self._start_igd(n)

    def set(self, name, ty):
        n = self.nodes[name]
        t, maf, opts, _ = parse_type(ty)
        if (maf[0] == "none") != (n.map == "none"):
            raise LabError("public/firewall and NAT types have different wiring: use `up`")
        for k in ("hosts", "via", "samelan", "v6", "delay", "jitter", "loss"):
            if k in n["opts"]:
                opts[k] = n["opts"][k]
        n.update(type=t, map=maf[0], filt=maf[1], alloc=maf[2], opts=opts)
        self.save()
        self.flush([name])

    def env(self, host=None):
        e = {"NATLAB": self.name,
             "NATLAB_STUN": ",".join(f"{SRV[i]}:3478" for i in (1, 2, 3, 4)), "NATLAB_STUN5780": f"{SRV[1]}:3478",
             "NATLAB_STUN6": ",".join(f"[{SRV6[i]}]:3478" for i in (1, 2, 3, 4)),
             "NATLAB_TURN": f"turn://{TURN_USER}:{TURN_PASS}@{SRV[1]}:3478", "NATLAB_TURN_REALM": TURN_REALM,
             "NATLAB_TURN_REST": f"{SRV[5]}:3478", "NATLAB_TURN_SECRET": TURN_SECRET,
             "NATLAB_MQTT": f"mqtt://{SRV[10]}:1883", "NATLAB_MQTT6": f"mqtt://[{SRV6[10]}]:1883"}
        with contextlib.suppress(LabError):
            if host:
                n, h = self.host(host)
                e.update(NATLAB_HOST=host, NATLAB_IP=h["ip"], NATLAB_IP6=h["ip6"] or "", NATLAB_PUBLIC_IP=n["public"], NATLAB_TYPE=n["type"])
        return e
