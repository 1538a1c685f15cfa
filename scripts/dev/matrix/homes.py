"""Which homes a matrix has, which pairs of them can meet without a relay, and how long it may take."""
from natlab.matrix import can_punch

# Name of the kind: its type in the laboratory.
KINDS = {
    "public": "public", "firewall": "firewall", "fullcone": "fullcone", "addrrestricted": "addrrestricted",
    "portrestricted": "portrestricted", "linux": "linux", "linux+rst": "linux+rst", "linux+open": "linux+open",
    "prrandom": "prrandom", "offset": "offset", "symopen": "symopen", "symseq": "symseq", "symaddr": "symaddr",
    "symrandom": "symrandom", "udpblock": "portrestricted+udpblock", "carrier": "linux+via=isp",
    "samelan": "portrestricted+samelan",
}
CARRIER = "isp=cgn:portrestricted+hairpin"
# Kinds that a whole matrix leaves out, for --pairs and --kinds: IPv6 as well, IPv6 with nothing that refuses, a router that opens
# ports when asked, and a firewall that lets out the servers' ports and nothing else.
EXTRA = {"v6": "linux+v6", "v6open": "portrestricted+v6open", "upnp": "portrestricted+upnp",
         "onlyports": "portrestricted+only=1883,3478"}
ALL = KINDS | EXTRA
# Kinds whose next port has to be asked for when it is wanted: nothing that is kept warm tells it.
COUNTED = ("symseq",)
# Pairs of their own: both nodes behind one router, and both on one machine.
NEAR = ("same LAN", "same host")

# What a test run looks at: each way to a path, each kind of router once, and the pairs that only a relay joins.
QUICK = [
    ("public", "linux"), ("public", "symseq"), ("linux", "public"), ("firewall", "portrestricted"), ("fullcone", "symrandom"),
    ("addrrestricted", "linux+open"), ("linux", "linux"), ("linux+rst", "linux+rst"), ("prrandom", "offset"),
    ("symopen", "symaddr"), ("symseq", "portrestricted"), ("symrandom", "symrandom"), ("udpblock", "prrandom"),
    ("carrier", "carrier"), ("samelan", "samelan"), ("same LAN", "same LAN"), ("same host", "same host"),
    ("symrandom", "linux"),
]


class Pair:
    """One cell: the kind that connects and the kind that is connected to, and the homes they live in."""

    def __init__(self, a, b):
        self.a, self.b = a, b
        self.home_a, self.home_b = home("a", a), home("b", b)
        if a in NEAR:
            self.home_a = "near"
            self.home_b = "near2" if a == "same LAN" else "near"

    def __str__(self):
        return f"{self.a} > {self.b}" if self.a != self.b or self.a not in NEAR else self.a

    def way(self, lab):
        """The strategy that must lead there without a relay; None where only a relay does."""
        if "onlyports" in (self.a, self.b):
            return None
        if self.a in NEAR or self.b == "public":
            return "direct"
        if self.a == "public":
            return "reverse"
        if self.b in ("v6open", "v6") and self.a in ("v6open", "v6") or self.b == "upnp":
            return "direct" if self.b != "v6" else "reverse" if self.a == "v6open" else "punch"
        return "punch" if can_punch(lab.nodes[self.home_a], lab.nodes[self.home_b], "tcp", True) else None

    def bound(self, strategy, delay, jitter=0):
        """Seconds a warm connect of this pair may take at most."""
        trip = 4 * (delay + jitter) / 1000
        more = 0
        if strategy == "punch":
            # Each side asks for its router's next port, and where both do, again before they dial.
            sides = sum(kind in COUNTED for kind in (self.a, self.b))
            more = trip * (sides + (sides == 2))
        elif strategy == "relay" and self.a in COUNTED:
            # The offer waits for the count, and the relay for what the other side says to it.
            more = trip
        elif strategy == "relay" and "onlyports" in (self.a, self.b):
            # TCP gets through to the servers, so a punch is waited for; and whoever cannot dial the relay finds out by waiting,
            # opens one of its own, tells of it, and has that one connect.
            more = 0.25 + (0.4 + 10 * trip if self.b == "onlyports" else 0)
        return bound(strategy, delay, jitter) + more


def home(side, kind):
    return f"{side}-" + kind.replace("+", "-")[:8].strip("-") if kind not in NEAR else "near"


def spec(pairs):
    """The laboratory's homes for these pairs."""
    homes = {}
    for pair in pairs:
        if pair.a in NEAR:
            homes["near"] = "linux+hosts=2"
            continue
        homes[pair.home_a], homes[pair.home_b] = ALL[pair.a], ALL[pair.b]
    # The carrier first: others name it.
    first = [CARRIER] if any("via=isp" in t for t in homes.values()) else []
    return first + [f"{name}={kind}" for name, kind in homes.items()]


def bound(strategy, delay, jitter=0):
    """The same for any pair of the usual kinds, from the access delays of both sides (one way, in ms)."""
    r = 4 * (delay + jitter) / 1000
    tls, signal = r, r
    return {
        "direct": r + tls + 0.020,
        "reverse": signal / 2 + 1.5 * r + tls + 0.030,
        "punch": signal + r + tls + 0.060,
        "relay": 2 * signal + 0.200,
    }[strategy]
