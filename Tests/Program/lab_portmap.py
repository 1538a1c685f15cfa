"""Runs inside a laboratory (scripts/lab/natlab.py run ... -- this NAME BINARY): nodes behind routers that run miniupnpd must
have their port open to the Internet, tell it in their addresses, and leave nothing behind. Prints one line a case."""

import concurrent.futures
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "scripts/lab"))
sys.dont_write_bytecode = True

from natlab.lab import Lab  # noqa: E402
from natlab.model import SRV, SRV6  # noqa: E402
from natlab.netns import netns  # noqa: E402

STUN = [f"{SRV[i]}:3478" for i in (1, 2, 3)] + [f"[{SRV6[i]}]:3478" for i in (1, 2, 3)]
# The router's chain of the protocol in the firewall: UDP 5351 is PCP and NAT-PMP, UDP 1900 and TCP 5000 are UPnP.
NO_PCP = "udp dport 5351 drop"
NO_UPNP = "udp dport 1900 drop"


class Wrong(Exception):
    pass


class Node:
    """`p2pd-lua run` in a home."""

    def __init__(self, lab, binary, host, port, state=None, options=()):
        self.lab, self.binary, self.host = lab, binary, host
        self.state = state or tempfile.mkdtemp(prefix="portmap-")
        self.log, self.out = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
        command = ["ip", "netns", "exec", lab.ns(host), binary, "run",
                   os.path.join(ROOT, "scripts/handlers/echo.lua"), "--state-dir", self.state, "--port", str(port),
                   "--broker", "none", "--turn", "none", "--log-level", "debug", *options]
        for server in STUN:
            command += ["--stun", server]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.log, env=self.environment())

    def environment(self, **more):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("P2PD_")}
        kept.update(HOME=self.state, P2PD_CONFIG="none", P2PD_NTP="none", XDG_RUNTIME_DIR=self.state, **more)
        return kept

    def address(self, wait=12):
        """The last address it told, in words."""
        return subprocess.run([self.binary, "addr", "explain", self.code(wait)], capture_output=True, text=True,
                              env=self.environment(), check=True).stdout

    def code(self, wait=12):
        """The last address it told; waits until it is as good as it gets."""
        end = time.monotonic() + wait
        while time.monotonic() < end:
            if re.search(r"address (is now|stays)", self.words()):
                break
            if self.process.poll() is not None:
                raise Wrong(f"{self.host}: it ended: {self.words()}")
            time.sleep(0.02)
        time.sleep(0.1)
        addresses = re.findall(r"p2pd1\S+", self.read(self.out))
        if not addresses:
            raise Wrong(f"{self.host}: no address: {self.words()}")
        return addresses[-1]

    def words(self):
        return self.read(self.log)

    @staticmethod
    def read(file):
        # The node's own position in the file is not this one's.
        with open(f"/proc/self/fd/{file.fileno()}") as again:
            return again.read()

    def stop(self, how=signal.SIGTERM):
        begun = time.monotonic()
        self.process.send_signal(how)
        self.process.wait(10)
        return time.monotonic() - begun

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.out.close()


def knock(lab, ip, port, wait=1.0):
    """Whether a TCP connection from the Internet gets through."""
    with netns(lab.ns("srv")):
        k = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    k.settimeout(wait)
    try:
        k.connect((ip, port))
        return True
    except OSError:
        return False
    finally:
        k.close()


def rule(lab, home, text):
    """Puts a rule in front of what the router hears from its LAN."""
    router = lab.router_ns(lab.nodes[home])
    for command in ("add table inet test", "add chain inet test in { type filter hook input priority -100; }",
                    f"add rule inet test in {text}"):
        subprocess.run(["ip", "netns", "exec", router, "nft", command], check=True)


def no_rules(lab, home):
    subprocess.run(["ip", "netns", "exec", lab.router_ns(lab.nodes[home]), "nft", "delete table inet test"],
                   capture_output=True)


def outside(words, ip):
    """The outside port that the address tells for that outside IP; None where it tells none."""
    found = re.search(re.escape(ip if ":" not in ip else f"[{ip}]") + r":(\d+)", words)
    return int(found.group(1)) if found else None


def demand(condition, text):
    if not condition:
        raise Wrong(text)


def opened(lab, binary, home, host, port, by, closes=True, options=()):
    """A node there is reached from the Internet by a mapping of that protocol, and not any more when it has ended."""
    node = Node(lab, binary, host, port, options=options)
    try:
        words = node.address()
        public = lab.nodes[home]["public"]
        place = outside(words, public)
        demand(place, f"no outside port in the address:\n{words}{node.words()}")
        demand(re.search(rf"the router opened a port.*by={by}", node.words()), f"not by {by}:\n{node.words()}")
        demand(knock(lab, public, place), f"{public}:{place} is not reached")
        took = node.stop()
        demand(not knock(lab, public, place, 0.4), f"{public}:{place} is still open")
        demand(took < 3, f"it took {took:.1f} s to end")
        return f"{by} {place}, ended in {took * 1000:.0f} ms"
    finally:
        node.close()


def by_pcp(lab, binary):
    return opened(lab, binary, "up", "up", 21001, "PCP")


def by_natpmp(lab, binary):
    # PCP's requests are longer than NAT-PMP's, so the router does not hear them.
    rule(lab, "up", "udp dport 5351 udp length > 30 drop")
    try:
        return opened(lab, binary, "up", "up", 21002, "NAT-PMP")
    finally:
        no_rules(lab, "up")


def by_upnp(lab, binary):
    rule(lab, "up", NO_PCP)
    try:
        return opened(lab, binary, "up", "up", 21003, "UPnP")
    finally:
        no_rules(lab, "up")


def by_upnp_1(lab, binary):
    rule(lab, "old", NO_PCP)
    try:
        return opened(lab, binary, "old", "old", 21004, "UPnP")
    finally:
        no_rules(lab, "old")


def pinhole(lab, binary, upnp=False):
    if upnp:
        rule(lab, "six", NO_PCP)
    node = None
    try:
        ip = lab.nodes["six"]["hosts"][0]["ip6"]
        port = 21006 if upnp else 21005
        demand(not knock(lab, ip, port, 0.4), "the firewall is open before")
        node = Node(lab, binary, "six", port)
        node.address()
        demand(knock(lab, ip, port), f"[{ip}]:{port} is not reached:\n{node.words()}")
        by = "UPnP" if upnp else "PCP"
        lines = [line for line in node.words().splitlines() if "opened a port" in line and ip in line]
        demand(any(f"by={by}" in line for line in lines), f"not by {by}:\n{node.words()}")
        node.stop()
        # The firewall still knows the connection before; another one is not let in.
        demand(not knock(lab, ip, port, 0.4), "the hole is still open")
        return "open while the node lives"
    finally:
        if node:
            node.close()
        no_rules(lab, "six")


def pinhole_upnp(lab, binary):
    return pinhole(lab, binary, upnp=True)


def carrier(lab, binary):
    """Behind a carrier's NAT the router's mapping leads nowhere, and nobody is told of it."""
    node = Node(lab, binary, "inner", 21007)
    try:
        words = node.address()
        inner, public = lab.nodes["inner"]["wan"], lab.nodes["inner"]["public"]
        demand("opened a port that leads nowhere" in node.words(), f"no mapping was judged:\n{node.words()}")
        demand(inner not in words, f"the address tells {inner}:\n{words}")
        demand(public in words and outside(words, public) in (None, 0), f"the address tells a port of {public}:\n{words}")
        node.stop()
        return f"{inner} is not told"
    finally:
        node.close()


def restart(lab, binary):
    """Killed and started anew it has the same outside port; so after a clean end."""
    state = tempfile.mkdtemp(prefix="portmap-")
    public = lab.nodes["two"]["public"]
    other = Node(lab, binary, "two2", 21010)
    node = None
    try:
        first = outside(other.address(), public)
        places = []
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
            node = Node(lab, binary, "two", 21010, state=state)
            place = outside(node.address(), public)
            demand(place, f"no mapping:\n{node.words()}")
            demand(knock(lab, public, place), f"{public}:{place} is not reached:\n{node.words()}")
            places.append(place)
            node.stop(how)
            node.close()
        demand(first == 21010 and places[0] != first, f"two hosts have the same port {first}, {places}")
        demand(len(set(places)) == 1, f"another port after a restart: {places}")
        demand(knock(lab, public, first), "the neighbour's mapping is gone")
        demand(os.stat(os.path.join(state, "mappings")).st_mode & 0o777 == 0o600, "others can read the nonces")
        return f"{first} and three times {places[0]}"
    finally:
        other.close()
        if node:
            node.close()
        shutil.rmtree(state, ignore_errors=True)


def peer(lab, binary):
    """Without a broker and a relay, from behind a router of the worst kind: the mapping alone leads there."""
    node = Node(lab, binary, "six", 21008)
    try:
        address = node.code()
        begun = time.monotonic()
        done = subprocess.run(
            ["ip", "netns", "exec", lab.ns("sr"), binary, "connect", "--offline", address], input="hello\n",
            capture_output=True, text=True, timeout=20, env=node.environment())
        demand((done.returncode, done.stdout) == (0, "hello\n"), f"{done.returncode} {done.stdout}{done.stderr}")
        took = time.monotonic() - begun
        node.stop()
        return f"reached from a symmetric router, {took * 1000:.0f} ms with the program's start and end"
    finally:
        node.close()


def off(lab, binary):
    node = Node(lab, binary, "six", 21011, options=["--no-port-mapping"])
    try:
        words = node.address()
        demand(outside(words, lab.nodes["six"]["public"]) in (None, 0), words)
        demand("opened a port" not in node.words(), node.words())
        node.stop()
        return "nothing was asked"
    finally:
        node.close()


def netcheck_interrupted(lab, binary):
    """Whoever ends `netcheck` while the router's port is open leaves none behind; nor does one that goes its way."""
    router = lab.router_ns(lab.nodes["two"])

    def mappings():
        rules = subprocess.run(["ip", "netns", "exec", router, "nft", "list", "ruleset"], capture_output=True, text=True, check=True)
        return len(re.findall(r"dnat[^\n]* to ", rules.stdout.split("prerouting_miniupnpd {", 1)[1].split("}", 1)[0]))

    before, most = mappings(), []
    for how in (signal.SIGINT, signal.SIGTERM, None):
        node = Node.__new__(Node)
        node.state = tempfile.mkdtemp(prefix="portmap-")
        # A server that is silent keeps it from its end.
        process = subprocess.Popen(
            ["ip", "netns", "exec", lab.ns("two"), binary, "netcheck", "--broker", "none", "--turn", "none",
             "--stun", STUN[0], "--stun", "198.51.100.77"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, env=node.environment())
        try:
            seen, end = before, time.monotonic() + 4
            while seen == before and time.monotonic() < end and process.poll() is None:
                seen = mappings()
            demand(seen == before + 1, f"netcheck opened {seen - before} ports")
            begun = time.monotonic()
            if how:
                process.send_signal(how)
            status = process.wait(10)
            most.append(time.monotonic() - begun)
            demand(status == (128 + how if how else 0), f"status {status}: {process.stderr.read()}")
            demand(mappings() == before, f"{mappings() - before} ports are left open after {how}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stderr.close()
            shutil.rmtree(node.state, ignore_errors=True)
    demand(max(most[:2]) < 1, f"it took {most} s to end")
    return "nothing is left, " + ", ".join(f"{took * 1000:.0f} ms" for took in most)


# The cases of one home follow each other; different homes are tested at once.
HOMES = [[by_pcp, by_natpmp, by_upnp], [pinhole, pinhole_upnp, peer, off], [by_upnp_1, carrier], [restart, netcheck_interrupted]]


def play(lab, binary, cases):
    """Whether all of them are as they should be."""
    good = True
    for case in cases:
        begun = time.monotonic()
        try:
            said = case(lab, binary)
            print(f"{case.__name__}: ok: {said} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Wrong as wrong:
            good = False
            print(f"{case.__name__}: WRONG: {wrong}", flush=True)
    return good


def main():
    lab, binary, wanted = Lab(sys.argv[1]).load(), sys.argv[2], sys.argv[3:]
    groups = [[case for case in cases if not wanted or case.__name__ in wanted] for cases in HOMES]
    with concurrent.futures.ThreadPoolExecutor(len(groups)) as pool:
        return 0 if all(list(pool.map(lambda cases: play(lab, binary, cases), groups))) else 1


if __name__ == "__main__":
    sys.exit(main())
