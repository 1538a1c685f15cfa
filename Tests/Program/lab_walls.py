"""Nodes behind firewalls that let out a few TCP ports and nothing else: runs inside a laboratory as lab_connect.py does (`this NAME
BINARY SCENE`). A relayed address has any port, so who sits behind such a firewall comes to it by a relay of its own."""

import re
import subprocess
import sys
import time

from lab_scene import PATIENCE, ROOT, expect, main, only_ipv6, stop
from natlab.model import SRV

# Of the laboratory's coturn, and of the scenes' own.
RELAYED = "sport >= :40000 and sport < :43000"


def given_back(scene):
    """No allocation is left at any server: none of their relayed ports listens."""
    end = time.monotonic() + PATIENCE
    while (left := scene.inside("srv", "ss", "-Hltn", RELAYED).strip()) and time.monotonic() < end:
        time.sleep(0.1)  # a poll: the kernel tells nobody
    assert not left, f"allocations are left: {left}"


def allocations(scene):
    return len({text.split()[3] for text in scene.inside("srv", "ss", "-Hltn", RELAYED).splitlines()})


def both(scene):
    """Both are behind such firewalls: two relays, of one server or of two, the one connected to from the other."""
    a, b = scene.peers("a", "b")
    for _ in range(3):
        expect(a.ask(to=b.address), "relay")
    expect(b.ask(to=a.address, strategies=["relay"]), "relay")
    given_back(scene)
    # A server each, the second with a shared secret.
    rest = f"turn:{SRV[5]}:3478?secret=natlab-secret&transport=tcp"
    c = scene.peer("b", {"P2PD_TURN": rest})
    expect(a.ask(to=c.address), "relay")
    expect(c.ask(to=a.address), "relay")
    given_back(scene)
    done = scene.program("a", "explain", b.address)
    out, _ = done.communicate(timeout=40)
    print("  " + out.replace("\n", "\n  ").rstrip())
    assert done.returncode == 0 and "Connected: relay" in out and "the other side cannot dial" in out, out
    # Killed at some moment, early and late.
    for moment in (0.15, 0.4, 0.6, 0.8):
        done = scene.program("a", "explain", b.address)
        time.sleep(moment)
        stop(done)
    given_back(scene)


def one(scene):
    """Only the first is. Who owns the relay decides which of them has to dial it."""
    a, b = scene.peers("a", "b")
    # b dials.
    assert expect(a.ask(to=b.address), "relay")["seconds"] < 1.5
    # a cannot.
    expect(b.ask(to=a.address), "relay")
    given_back(scene)
    # A relay of the other one's, which a cannot dial, and no server of its own to go round by.
    c = scene.peer("a", {"P2PD_TURN": "none"})
    answer = c.ask(to=b.address, timeout=20)
    text = str(answer["error"])
    print(f"  {text}")
    assert "a firewall may let out only some ports" in text and "for lack of a TURN server" in text, text
    given_back(scene)


def refusing(scene):
    """Firewalls that refuse, and one that takes every connection itself and says nothing: none is mistaken for the relay."""
    inside = 'iifname != "wan0" ct state new tcp dport != { 1883, 3478 }'
    times = []
    for how in ("tcp reset", "icmpx admin-prohibited"):
        for home in ("a", "b"):
            scene.inside(f"r.{home}", "nft", f"insert rule inet fw forward {inside} reject with {how}")
        a, b = scene.peers("a", "b")
        times.append(expect(a.ask(to=b.address, strategies=["relay"]), "relay")["seconds"])
        a.end()
        b.end()
    # Nobody waits 0.4 s for an answer.
    assert min(times) < 0.75, times
    listener = "import socket; s = socket.create_server(('', 9999)); held = []\nwhile True: held.append(s.accept())"
    for home in ("a", "b"):
        proxy = subprocess.Popen(["ip", "netns", "exec", scene.lab.ns(f"r.{home}"), sys.executable, "-c", listener])
        scene.stack.callback(stop, proxy)
        scene.inside(f"r.{home}", "nft", "add table ip proxy; add chain ip proxy pre { type nat hook prerouting priority dstnat - 5; }; "
                     f"add rule ip proxy pre {inside} redirect to :9999")
    a, b = scene.peers("a", "b")
    expect(a.ask(to=b.address), "relay")
    expect(b.ask(to=a.address, strategies=["relay"]), "relay")
    given_back(scene)


def over_tls(scene):
    """Nothing but 443 and the broker gets out: TURN over TLS, at a coturn with the guide's configuration."""
    key, pem = scene.folder / "turn.key", scene.folder / "turn.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                    "/CN=turn.lab", "-addext", "subjectAltName=DNS:turn.lab", "-keyout", str(key), "-out", str(pem)],
                   check=True, capture_output=True)
    # The guide's configuration, at this laboratory's places.
    text = (ROOT / "docs/servers/turnserver.conf").read_text()
    for was, now in ((r"^tls-listening-port=5349$", "tls-listening-port=443"), (r"^listening-port=3478$", "listening-port=5080"),
                     (r"^realm=.*$", "realm=natlab"), (r"^static-auth-secret=.*$", "static-auth-secret=hush"),
                     (r"^cert=.*$", f"cert={pem}"), (r"^pkey=.*$", f"pkey={key}"), (r"^min-port=.*$", "min-port=42000"),
                     (r"^max-port=.*$", "max-port=42999")):
        text, changed = re.subn(was, now, text, flags=re.M)
        assert changed == 1, was
    conf = scene.folder / "turn.conf"
    conf.write_text(text + f"\nlistening-ip={SRV[1]}\nrelay-ip={SRV[1]}\npidfile={scene.folder}/turn.pid\nuserdb={scene.folder}/turn.db\n")
    server = subprocess.Popen(["ip", "netns", "exec", scene.lab.ns("srv"), "turnserver", "-c", str(conf)], stdin=subprocess.DEVNULL,
                              stdout=open(scene.folder / "turn.log", "wb"), stderr=subprocess.STDOUT)
    scene.stack.callback(stop, server)
    names = {"P2PD_TURN": "turns:turn.lab:443?secret=hush", "P2PD_CA": str(pem)}
    a, b = scene.peers("a", "b", environment=names)
    for _ in range(2):
        expect(a.ask(to=b.address), "relay")
        expect(b.ask(to=a.address, strategies=["relay"]), "relay")
    given_back(scene)


def over_ipv6(scene):
    """No IPv4 anywhere: both relayed addresses are of IPv6."""
    names = only_ipv6(scene, "a", "b")
    a, b = scene.peers("a", "b", environment=names)
    expect(a.ask(to=b.address, strategies=["relay"]), "relay")
    expect(b.ask(to=a.address, strategies=["relay"]), "relay")
    given_back(scene)


if __name__ == "__main__":
    main((both, one, refusing, over_tls, over_ipv6))
