"""What a laboratory is made of: homes, their NAT types and options, the servers' addresses."""
import re


SRV = {n: f"198.51.100.{n}" for n in (1, 2, 3, 4, 5, 10)}
SRV6 = {n: f"2001:db8:ffff::{n}" for n in (1, 2, 3, 4, 5, 10)}
COREGW, COREGW6 = "198.51.100.254", "2001:db8:ffff::fe"
TURN_USER, TURN_PASS, TURN_REALM, TURN_SECRET = "lab", "lab", "natlab", "natlab-secret"

PRESETS = {
    "public": ("none", "eif", "preserve"), "firewall": ("none", "apdf", "preserve"),
    "fullcone": ("eim", "eif", "preserve"), "addrrestricted": ("eim", "adf", "preserve"),
    "portrestricted": ("eim", "apdf", "preserve"), "linux": ("linux", "apdf", "preserve"),
    "prrandom": ("eim", "apdf", "random"), "fcrandom": ("eim", "eif", "random"),
    "symrandom": ("apdm", "apdf", "random"), "symseq": ("apdm", "apdf", "seq"),
    "symaddr": ("adm", "apdf", "random"), "symopen": ("apdm", "eif", "random"),
    "offset": ("eim", "apdf", "offset"),
}
OPTS = {"hosts", "samelan", "hairpin", "via", "rst", "icmp", "open", "dropinv", "noping", "udpblock", "only",
        "nottl", "liberal", "upnp", "igdv1", "v6", "v6open", "ports", "delta", "udpttl", "delay", "jitter", "loss"}
DEFAULT_SPEC = ["public=public", "fw=firewall", "fc=fullcone", "ar=addrrestricted", "pr=portrestricted+hosts=2+hairpin",
                "lx=linux+hosts=2", "prr=prrandom", "off=offset", "sr=symrandom", "ss=symseq", "sa=symaddr",
                "rst=portrestricted+rst", "udpb=portrestricted+udpblock", "up=portrestricted+upnp+v6",
                "v6=linux+v6", "isp=cgn:portrestricted+hairpin", "cg1=linux+via=isp", "cg2=linux+via=isp"]


class LabError(Exception):
    pass


class Node(dict):
    """One home (or carrier): a plain dict so it can be stored as JSON."""
    __getattr__ = dict.get

    def opt(self, k, d=None):
        return self["opts"].get(k, d)


Node.has_v6 = lambda self: bool(self.opt("v6") or self.opt("v6open"))


def parse_type(txt):
    parts = txt.split("+")
    t, opts = parts[0], {}
    for p in parts[1:]:
        k, _, v = p.partition("=")
        if k not in OPTS:
            raise LabError(f"unknown option '{k}' in '{txt}'")
        opts[k] = v or True
    carrier = t.startswith("cgn:")
    if carrier:
        t = t[4:]
    if t.startswith("nat:"):
        maf = tuple(t[4:].split("/"))
        if len(maf) != 3 or maf[0] not in ("eim", "adm", "apdm", "linux") or maf[1] not in ("eif", "adf", "apdf") \
                or maf[2] not in ("preserve", "random", "seq", "offset"):
            raise LabError("bad type " + t)
    elif t in PRESETS:
        maf = PRESETS[t]
    else:
        raise LabError(f"unknown NAT type '{t}' (have: {', '.join(PRESETS)}, nat:M/F/A)")
    return t, maf, opts, carrier


def parse_spec(items, defaults=None):
    nodes, k, j = {}, 0, 0
    for it in items:
        name, _, ty = it.partition("=")
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,10}", name) or name in ("srv", "core") or name in nodes:
            raise LabError(f"bad or repeated name '{name}'")
        t, maf, opts, carrier = parse_type(ty)
        for dk, dv in (defaults or {}).items():
            if dv and not carrier:
                opts.setdefault(dk, dv)
        n = Node(name=name, type=t, map=maf[0], filt=maf[1], alloc=maf[2], opts=opts, carrier=carrier)
        k += 1
        n["k"] = k
        if carrier:
            j += 1
            n["wan"] = f"203.0.113.{200 + j}"
        nodes[name] = n
    for n in nodes.values():
        via = n.opt("via")
        if via:
            if via not in nodes or not nodes[via].carrier:
                raise LabError(f"{n.name}: via={via} is not a cgn: entry")
            if n.map == "none":
                raise LabError(f"{n.name}: via= needs a NAT type")
        if not n.carrier:
            k = n["k"]
            n["wan"] = f"100.64.{k}.2" if via else f"203.0.113.{k}"
            n["wangw"] = f"100.64.{k}.1" if via else COREGW
            lan = 1 if n.opt("samelan") else k
            n["v6net"] = f"2001:db8:{k:x}:"
            n["hosts"] = []
            for h in range(int(n.opt("hosts", 1))):
                nm = n.name + (str(h + 1) if h else "")
                ip = n["wan"] if n.map == "none" else f"192.168.{lan}.{10 + h}"
                n["hosts"].append({"name": nm, "ip": ip, "ip6": f"{n['v6net']}:{10 + h:x}" if n.has_v6() else None})
            n["langw"] = f"192.168.{lan}.1"
        else:
            n["wangw"] = COREGW
            n["hosts"] = []
        n["public"] = nodes[via]["wan"] if via else n["wan"]
        n["wire"] = any(float(n.opt(x, 0)) for x in ("delay", "jitter", "loss"))
    return nodes
