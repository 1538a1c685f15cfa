"""Runs inside a laboratory (scripts/lab/natlab.py run ... -- this NAME BINARY): `netcheck` in each home must say what
the home claims to be. Prints one line a home, and fails with the first that differs."""

import concurrent.futures
import json
import os
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "scripts/lab"))
sys.dont_write_bytecode = True

from netcheck_kit import undocumented  # noqa: E402
from natlab.lab import Lab  # noqa: E402
from natlab.measure import expected  # noqa: E402
from natlab.model import SRV, SRV6, TURN_PASS, TURN_SECRET, TURN_USER  # noqa: E402
from natlab.servers import CHRONYD  # noqa: E402

MAPPING = {
    "none": "none", "EIM": "endpoint_independent", "ADM": "address_dependent", "APDM": "address_and_port_dependent"}
FILTERING = {"EIF": "endpoint_independent", "ADF": "address_dependent", "APDF": "address_and_port_dependent"}
HAIRPIN = {"ext": "external", "no": "no", "-": None}

# A server that says everybody is somewhere else, over UDP.
LIAR = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 3478))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(2048)
    if len(data) >= 20:
        lie = struct.pack(">HHBBHI", 0x0020, 8, 0, 1, 666 ^ 0x2112, 0xc6120001 ^ 0x2112A442)
        s.sendto(struct.pack(">HH", 0x0101, len(lie)) + data[4:20] + lie, peer)
"""


# Each that netcheck looks at beside the STUN servers: one that is there and one that is not.
SERVERS = {
    "P2PD_BROKERS": f"mqtt://{SRV[10]}:1883,mqtt://{SRV[10]}:1884",
    "P2PD_TURN": f"turn:{TURN_USER}:{TURN_PASS}@{SRV[1]},turn:{SRV[5]}?secret={TURN_SECRET},turn:{TURN_USER}:wrong@{SRV[1]}",
    "P2PD_NTP": f"{SRV[10]},{SRV[4]}",
    "P2PD_CONFIG": "none",
}


def netcheck(lab, binary, host, servers, status=0):
    command = ["ip", "netns", "exec", lab.ns(host), binary, "netcheck", "--json"]
    for server in servers:
        command += ["--stun", server]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **SERVERS})
    if done.returncode != status:
        raise AssertionError(f"{host}: netcheck ended with {done.returncode}, not {status}: {done.stderr}")
    report = json.loads(done.stdout)
    if undocumented(report):
        raise AssertionError(f"docs/netcheck.md does not name {undocumented(report)}")
    return report


def other_differences(lab, home, report):
    """What is wrong with all but the paths: brokers, relays, the clock, the router, the advice."""
    shut, blocked = bool(home.opt("only")), bool(home.opt("udpblock"))
    def outcomes(name):
        return [each["outcome"] for each in report[name]]

    found = {
        "brokers": outcomes("brokers"), "relays": outcomes("relays"), "in time": report["took_us"] < 5_000_000,
        "clock": report["clock"]["offset_us"] is not None, "advice": report["advice_code"],
        "mappings": [mapping["usable"] for router in report["port_mapping"] for mapping in router["mappings"]],
    }
    want = {
        "brokers": ["silent", "silent"] if shut else ["answered", "refused"],
        "relays": ["silent"] * 3 if shut else ["answered", "answered", "rejected"],
        "in time": True, "clock": bool(CHRONYD) and not shut and not blocked,
        "mappings": [not home.opt("via")] if home.opt("upnp") else [],
    }
    if home.opt("upnp"):
        # The router's own address is a carrier's.
        found["carrier"] = next(path["carrier_nat"] for path in report["paths"] if path["family"] == "ipv4")
        want["carrier"] = True if home.opt("via") else None
    if shut:
        want["advice"] = "check_network"
    elif home.opt("upnp"):
        want["advice"] = "relay_helps" if home.opt("via") else "port_opens"
    elif home.type == "public" or home.opt("v6open"):
        want["advice"] = "nothing"
    elif home.type == "firewall":
        want["advice"] = "open_firewall"
    else:
        # The relay is there for who cannot punch.
        want["advice"] = "open_port" if expected(lab, home)["tcp_map"] in ("none", "EIM") else "relay_helps"
    return [f"{key} is {found[key]}, not {want[key]}" for key in want if found[key] != want[key]]


def allocation(found):
    if found is None:
        return "-"
    sign = "" if found.get("value", 0) < 0 else "+"
    return {"preserve": "preserve", "random": "random", "offset": f"offset{sign}{found.get('value')}",
            "sequential": f"seq{sign}{found.get('value')}"}[found["kind"]]


def wanted(lab, home):
    """(what netcheck must say of IPv4, of IPv6 or None)"""
    claim = expected(lab, home)
    blocked = claim["udp_map"] == "blocked"
    mapping, filtering = MAPPING.get(claim["udp_map"]), FILTERING.get(claim["udp_filt"])
    if mapping == "none" and filtering == "endpoint_independent":
        filtering = "none"
    number = {"none": 1 if filtering == "none" else 2}.get(mapping, 7 if blocked else 6)
    if mapping == "endpoint_independent":
        number = {"endpoint_independent": 3, "address_dependent": 4, "address_and_port_dependent": 5}[filtering]
    v4 = {
        "udp.reach": "blocked" if blocked else "answered", "udp.mapping": mapping, "udp.filtering": filtering,
        "udp.allocation": claim["udp_alloc"], "hairpin": HAIRPIN[claim["hairpin"]], "nat_type": number,
        "tcp.mapping": MAPPING.get(claim["tcp_map"]),
        "tcp.allocation": "preserve" if blocked else claim["udp_alloc"],
        # Nobody dials back: unknown, which is not "no".
        "tcp.filtering": None,
    }
    if home.opt("only"):
        v4.update({"udp.reach": "silent", "tcp.reach": "silent", "tcp.mapping": None, "tcp.allocation": "-", "nat_type": 0})
    v6 = None
    if home.has_v6():
        is_open = home.opt("v6open")
        v6 = {"udp.mapping": "none", "tcp.mapping": "none",
              "udp.filtering": "none" if is_open else "address_and_port_dependent"}
    return v4, v6


def look(path, key):
    part, _, name = key.partition(".")
    if not name:
        return path[part]
    found = path[part][name]
    return allocation(found) if name == "allocation" else found


def differences(report, want, family):
    paths = [path for path in report["paths"] if path["family"] == family]
    if len(paths) != 1:
        return [f"{len(paths)} {family} paths"]
    return [f"{key} is {look(paths[0], key)}, not {value}" for key, value in want.items() if look(paths[0], key) != value]


def check(lab, binary, home, servers, word=""):
    report = netcheck(lab, binary, home["hosts"][0]["name"], servers, 1 if home.opt("only") else 0)
    v4, v6 = wanted(lab, home)
    wrong = differences(report, v4, "ipv4") + (differences(report, v6, "ipv6") if v6 else [])
    outside = next(path["external"] for path in report["paths"] if path["family"] == "ipv4")
    if outside != ([] if home.opt("only") else [home["public"]]):
        wrong.append(f"outside address {outside}, not {home['public']}")
    wrong += other_differences(lab, home, report)
    name = home.name + word
    print(f"{name}: " + ("; ".join(wrong) if wrong else "ok"), flush=True)
    return wrong and [name + ": " + text for text in wrong]


def beside(lab, binary, home, servers):
    """A bridge to guests and an address for the local network beside the way out: nothing of it is blocked."""
    host = home["hosts"][0]
    def ip(*words):
        subprocess.run(["ip", "netns", "exec", lab.ns(host["name"]), "ip", *words], check=True)

    ip("link", "add", "guests", "type", "veth", "peer", "name", "guest")
    for name in ("guests", "guest"):
        ip("link", "set", name, "up")
    ip("addr", "add", "172.31.0.1/16", "dev", "guests")
    lan = json.loads(subprocess.run(["ip", "netns", "exec", lab.ns(host["name"]), "ip", "-j", "-6", "route", "show", "default"],
                                    check=True, capture_output=True, text=True).stdout)[0]["dev"]
    ip("-6", "addr", "add", "fd00:77::5/64", "dev", lan, "nodad")
    try:
        report = netcheck(lab, binary, host["name"], servers)
    finally:
        ip("link", "del", "guests")
        ip("-6", "addr", "del", "fd00:77::5/64", "dev", lan)
    silent = [path["local"] for path in report["paths"] if path["udp"]["reach"] == "silent"]
    want = {"silent": ["172.31.0.1", "fd00:77::5"], "blocked": [], "advice": "open_port"}
    # There may be no time server in this laboratory.
    blocked = [each for each in report["blocked"] if not each.startswith("UDP port 123")]
    found = {"silent": sorted(silent), "blocked": blocked, "advice": report["advice_code"]}
    wrong = [f"{key} is {found[key]}, not {want[key]}" for key in want if found[key] != want[key]]
    print(f"{home.name} with other interfaces: " + ("; ".join(wrong) if wrong else "ok"), flush=True)
    return [f"{home.name} with other interfaces: {text}" for text in wrong]


def script(lab, binary, home):
    """The same as Lua sees it."""
    claim, _ = wanted(lab, home)
    arguments = [home["public"], str(claim["nat_type"]), claim["udp.mapping"]]
    done = subprocess.run(
        ["ip", "netns", "exec", lab.ns(home["hosts"][0]["name"]), binary, "exec",
         os.path.join(ROOT, "Tests/Program/lua/stun.lua"), *arguments],
        capture_output=True, text=True, timeout=60,
        env={**os.environ, "P2PD_STUN": ",".join(f"{SRV[i]}:3478" for i in (1, 2, 3))})
    held = (done.returncode, done.stdout) == (0, "all held\n")
    print(f"{home.name} from Lua: " + ("ok" if held else done.stderr), flush=True)
    return [] if held else [f"{home.name} from Lua: {done.stdout}{done.stderr}"]


def main():
    lab, binary = Lab(sys.argv[1]).load(), sys.argv[2]
    servers = [f"{SRV[i]}:3478" for i in (1, 2, 3, 4)] + [f"[{SRV6[i]}]:3478" for i in (1, 2, 3)]
    homes = [home for home in lab.nodes.values() if not home.carrier]
    # Behind one sequential carrier the ports of two who measure at once would mix.
    alone = [home for home in homes if home.opt("via")]
    wrong = []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda home: check(lab, binary, home, servers), [h for h in homes if h not in alone]):
            wrong += found or []
    for home in alone:
        wrong += check(lab, binary, home, servers) or []
    wrong += beside(lab, binary, lab.nodes["v6"], servers)
    for name in ("pr", "sr", "fw"):
        wrong += script(lab, binary, lab.nodes[name])
    liar = subprocess.Popen(
        ["ip", "netns", "exec", lab.ns("srv"), sys.executable, "-c", LIAR, SRV[10]], stdout=subprocess.PIPE, text=True)
    try:
        liar.stdout.readline()
        # One that lies, one that is dead, and three that are right. Silence takes nearly all of netcheck's time, so few at once.
        mixed = [f"{SRV[10]}:3478", "198.51.100.77:3478"] + servers[:3]
        names = {"fw", "ar", "pr", "sr", "udpb"}
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            some = [home for home in homes if home.name in names]
            for found in pool.map(lambda home: check(lab, binary, home, mixed, " with a liar and a dead server"), some):
                wrong += found or []
    finally:
        liar.kill()
        liar.wait()
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
