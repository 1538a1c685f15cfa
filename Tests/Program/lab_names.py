"""Names of nodes behind routers: runs inside a laboratory as lab_connect.py does (`this NAME BINARY SCENE`)."""

import os
import re
import subprocess
import time

from lab_connect import HELLO, PING
from lab_scene import PATIENCE, Scene, line, main, stop
from natlab.model import SRV


class Names(Scene):
    def servers(self, count=3):
        """Name servers beside the laboratory's others; gives their processes."""
        made = [self.server(number) for number in range(count)]
        self.named = {"P2PD_NAMES": ",".join(f"http://{SRV[10]}:{7350 + number}" for number in range(count))}
        return made

    def server(self, number):
        process = self.program("srv", "names", "serve", "--db", str(self.folder / f"names{number}.sqlite"),
                               "--listen", f"{SRV[10]}:{7350 + number}")
        line(process, "http://")
        return process

    def node(self, home, name, *more, env=None, state=None):
        """A node with a name; waits until it has it."""
        handler = self.folder / "ping.lua"
        handler.write_text(PING)
        words = ["--state-dir", str(state)] if state else ["--ephemeral"]
        process = self.program(home, "run", *words, "--no-control", "--nickname", name, *more, str(handler),
                               **(self.named if env is None else env))
        wait(process, "The node is called")
        return process

    def call(self, home, target, *strategies, env=None, opts=""):
        """The README's script with a name; gives what it printed, and the seconds."""
        hello = self.folder / f"hello-{home}.lua"
        ways = ", ".join(f"p2pd.{way.upper()}" for way in strategies or ("direct", "reverse", "punch"))
        hello.write_text(re.sub(r"strategies = \{[^}]*\}", f"strategies = {{ {ways} }}, timeout = 15", HELLO))
        began = time.monotonic()
        done = self.program(home, "exec", str(hello), target, **(self.named if env is None else env))
        out, _ = done.communicate(timeout=60)
        assert done.returncode == 0, f"{home} to {target}: {out}\n{done.complaints.read_text()[-3000:]}"
        print(f"  {home} to {target}: {' '.join(out.split())}, {time.monotonic() - began:.1f} s with two connects")
        return out


def wait(process, words, patience=PATIENCE):
    """Until standard error has these words."""
    end = time.monotonic() + patience
    while words not in process.complaints.read_text():
        assert process.poll() is None and time.monotonic() < end, process.complaints.read_text()[-3000:]
        time.sleep(0.05)


# --- Scenes. The homes each needs stand in test_lab.py.


def by_every_way(scene):
    """Registered at one home, found by name from another: by direct, punch and relay; and with a server less."""
    servers = scene.servers()
    scene.node("b", "example")
    scene.node("c", "open")
    assert "PONG direct" in scene.call("a", "open.peer").replace("\t", " ")
    assert "punch" in scene.call("a", "example.peer")
    assert "relay" in scene.call("a", "example.peer", "relay")
    stop(servers[0])
    assert "punch" in scene.call("a", "example.peer")
    print("  one server is dead")
    # A server that begins again with nothing.
    for path in scene.folder.glob("names0.sqlite*"):
        path.unlink()
    scene.server(0)
    assert "punch" in scene.call("a", "example.peer")
    print("  it is back, and empty")
    # One that cannot be reached: its packets are lost.
    scene.inside("srv", "nft", "add table ip gone; add chain ip gone in { type filter hook input priority 0; }; "
                               "add rule ip gone in tcp dport 7351 drop")
    assert "punch" in scene.call("a", "example.peer")
    print("  another is cut off")


def moves(scene):
    """A node that comes back on another port, and then gets another address, is still found by its name."""
    scene.servers()
    state = scene.folder / "state"
    first = scene.node("b", "example", "--port", "21000", state=state)
    assert "punch" in scene.call("a", "example.peer")
    stop(first)
    scene.node("b", "example", "--port", "22000", state=state)
    assert "punch" in scene.call("a", "example.peer")
    print("  found at another port")
    fields = scene.inside("b", "ip", "-4", "-o", "addr", "show", "dev", "eth0").split()
    old = fields[fields.index("inet") + 1]
    gateway = scene.inside("b", "ip", "-4", "route", "show", "default").split()[2]
    new = old.split("/")[0].rsplit(".", 1)[0] + ".99"
    scene.inside("b", "sh", "-c", f"ip addr del {old} dev eth0; ip addr add {new}/{old.split('/')[1]} dev eth0; "
                                  f"ip route replace default via {gateway}")
    assert "punch" in scene.call("a", "example.peer")
    print("  found at another address")
    # And the servers are told.
    began = time.monotonic()
    while True:
        told = subprocess.run(["ip", "netns", "exec", scene.lab.ns("a"), scene.binary, "names", "lookup", "example.peer"],
                              env={**os.environ, **scene.named, "HOME": str(scene.folder)}, capture_output=True, text=True)
        address = next((text for text in told.stdout.splitlines() if text.startswith("p2pd1")), "")
        text = subprocess.run([scene.binary, "addr", "explain", address], capture_output=True, text=True).stdout
        if f"{new}:" in text:
            break
        assert time.monotonic() - began < 60, text
        time.sleep(0.5)
    print(f"  the servers have the new address after {time.monotonic() - began:.0f} s")


def stale(scene):
    """The servers have the address of before and cannot be told a newer one: the node itself tells it."""
    scene.servers()
    state = scene.folder / "state"
    first = scene.node("c", "example", "--port", "21000", state=state)
    address = line(first, "p2pd1")
    later = line(first, "p2pd1")
    stop(first)
    handler = scene.folder / "ping.lua"
    again = scene.program("c", "run", "--state-dir", str(state), "--no-control", "--port", "22000", str(handler), P2PD_NAMES="none")
    line(again, "p2pd1")
    line(again, "p2pd1")
    assert address and later
    # Directly: the race over brokers would get there without the question.
    assert "direct" in scene.call("a", "example.peer", "direct")


def fight(scene):
    """Two nodes want one name: one has it, the other is told so and goes on."""
    scene.servers()
    scene.node("a", "example")
    handler = scene.folder / "ping.lua"
    other = scene.program("b", "run", "--ephemeral", "--no-control", "--nickname", "example", str(handler), **scene.named)
    wait(other, "does not have the name")
    assert "taken" in other.complaints.read_text() or "another" in other.complaints.read_text(), other.complaints.read_text()
    scene.call("c", "example.peer")


def lan_without_internet(scene):
    """Two hosts of a home whose way out is cut: they find each other by multicast DNS, with no server at all."""
    scene.inside("r.a", "nft", "add table ip cut; add chain ip cut every { type filter hook forward priority -300; }; "
                               "add rule ip cut every drop")
    alone = {"P2PD_NAMES": "none"}
    node = scene.node("a", "example", env=alone)
    assert "example.local" in node.complaints.read_text(), node.complaints.read_text()
    assert "direct" in scene.call("a2", "example", env=alone)
    assert "direct" in scene.call("a2", "example.local", env=alone)
    # A host that does not take part.
    done = scene.program("a2", "connect", "example.local", P2PD_NAMES="none", P2PD_MDNS="off")
    done.communicate(timeout=PATIENCE)
    assert done.returncode == 1 and "multicast DNS is off" in done.complaints.read_text(), done.complaints.read_text()
    # Gone with the node.
    stop(node)
    done = scene.program("a2", "connect", "example.local", **alone)
    done.communicate(timeout=PATIENCE)
    assert done.returncode == 1, "it was found after its end"


if __name__ == "__main__":
    main((by_every_way, moves, stale, fight, lan_without_internet), Names)
