"""What needs routers: the laboratory of scripts/lab, with real STUN servers."""

import os
import shutil
import subprocess
import sys
import unittest

from program import BINARY, ROOT, ProgramTest

LAB = os.path.join(ROOT, "scripts/lab/natlab.py")

# Every preset, and mixtures that no preset has.
HOMES = [
    "public=public", "fw=firewall", "fc=fullcone", "ar=addrrestricted", "pr=portrestricted+hosts=2+hairpin",
    "lx=linux+hosts=2", "prr=prrandom", "fcr=fcrandom", "off=offset", "sr=symrandom", "ss=symseq", "sa=symaddr",
    "so=symopen", "srh=symrandom+hairpin", "sd=symseq+delta=-3", "prt=prrandom+ports=35000-36000",
    "ada=nat:apdm/adf/random", "nas=nat:adm/adf/seq", "rst=portrestricted+rst", "op=portrestricted+open",
    "icm=portrestricted+icmp", "udpb=portrestricted+udpblock", "web=linux+only=80,443", "same=portrestricted+samelan",
    "up=portrestricted+upnp", "upv=linux+upnp+igdv1", "v6=linux+v6", "v6o=linux+v6open",
    "isp=cgn:portrestricted+hairpin", "cg1=linux+via=isp", "cg2=linux+via=isp", "isq=cgn:symseq", "cg3=fullcone+via=isq",
    "cgu=linux+upnp+via=isp",
]
DELAY = []
if os.access("/dev/net/tun", os.R_OK | os.W_OK):
    DELAY = ["--delay", "10"]
    HOMES.append("slow=portrestricted+delay=40")


def why_not():
    """What this machine lacks for a laboratory; None where nothing."""
    for tool, package in (("ip", "iproute2"), ("nft", "nftables"), ("turnserver", "coturn")):
        if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            return f"{tool} is not installed (Debian: {package})"
    probe = subprocess.run([sys.executable, LAB, "-n", f"p{os.getpid()}", "run", "a=linux", "--no-servers", "--", "true"],
                           capture_output=True, text=True)
    if probe.returncode:
        return "the kernel gives no namespaces or NAT here: " + (probe.stderr.strip().splitlines() or ["?"])[-1]
    return None


MISSING = why_not()


@unittest.skipIf(MISSING, f"the NAT laboratory: {MISSING}")
class Laboratory(ProgramTest):
    def test_netcheck_says_what_every_router_is(self):
        name = f"t{os.getpid()}"
        inside = os.path.join(os.path.dirname(os.path.realpath(__file__)), "lab_netcheck.py")
        done = subprocess.run(
            [sys.executable, LAB, "-n", name, "run", *HOMES, "--", sys.executable, inside, name, BINARY],
            capture_output=True, text=True, timeout=200)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(shutil.which("miniupnpd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"),
                         "miniupnpd is not installed (Debian: miniupnpd)")
    def test_routers_open_the_nodes_port(self):
        name = f"m{os.getpid()}"
        inside = os.path.join(os.path.dirname(os.path.realpath(__file__)), "lab_portmap.py")
        homes = ["up=portrestricted+upnp", "six=portrestricted+upnp+v6", "old=portrestricted+upnp+igdv1", "two=portrestricted+upnp+hosts=2",
                 "isp=cgn:portrestricted", "inner=linux+upnp+via=isp", "sr=symrandom"]
        done = subprocess.run(
            [sys.executable, LAB, "-n", name, "run", *homes, "--", sys.executable, inside, name, BINARY],
            capture_output=True, text=True, timeout=200)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def scene(self, name, *homes, delay=10, file="lab_connect.py"):
        lab = f"s{os.getpid()}{name[:3]}"
        inside = os.path.join(os.path.dirname(os.path.realpath(__file__)), file)
        done = subprocess.run(
            [sys.executable, LAB, "-n", lab, "run", *homes, "--delay", str(delay), "--", sys.executable, inside, lab, BINARY, name],
            capture_output=True, text=True, timeout=150)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_script_of_the_readme_from_home_to_home(self):
        self.scene("design_script", "a=portrestricted", "b=linux")

    def test_a_hot_reload_in_the_middle_of_a_conversation_between_homes(self):
        self.scene("reload_in_conversation", "a=linux", "b=linux")

    def test_a_node_stays_reachable_while_one_broker_lives(self):
        self.scene("broker_restarts", "a=linux", "b=portrestricted")

    def test_ipv6_only(self):
        self.scene("ipv6_only", "a=linux+v6", "b=linux+v6", "c=linux+v6open")

    def test_two_families_one_of_them_broken(self):
        self.scene("broken_ipv4", "a=linux+v6", "b=linux+v6")

    def test_an_interface_with_no_way_out(self):
        self.scene("dead_interface", "a=linux", "b=linux")

    def test_a_host_that_gets_another_address(self):
        self.scene("network_change", "a=linux", "b=portrestricted")

    def test_a_script_says_whether_its_node_dials_for_a_stranger(self):
        self.scene("consent", "a=public", "b=linux")

    def test_both_connect_to_each_other_at_once(self):
        self.scene("both_at_once", "a=linux", "b=portrestricted")

    def test_a_relayed_pipe_moves_to_a_better_way(self):
        self.scene("relay_then_better", "a=public", "b=linux", file="lab_relayed.py")

    def test_a_node_that_starts_again_on_another_port(self):
        self.scene("restarts_elsewhere", "a=linux", "b=linux", "c=public")

    def test_a_better_way_that_dies_costs_a_relayed_pipe_nothing(self):
        self.scene("better_way_dies", "a=public", "b=linux", file="lab_relayed.py")

    def test_a_hundred_connects_at_once_through_two_routers(self):
        self.scene("a_hundred_at_once", "a=linux", "b=portrestricted")

    def test_connects_that_are_called_off_leave_nothing(self):
        self.scene("called_off", "a=symrandom", "b=symrandom", file="lab_relayed.py")

    def test_a_relay_that_only_the_node_that_is_called_knows(self):
        self.scene("their_relay", "a=symrandom", "b=symrandom", file="lab_relayed.py")

    def test_a_relay_over_ipv6(self):
        self.scene("ipv6_relay", "a=linux+v6", "b=linux+v6", file="lab_relayed.py")

    def test_firewalls_that_let_out_a_few_ports_on_both_sides(self):
        self.scene("both", "a=portrestricted+only=1883,3478", "b=symrandom+only=1883,3478", file="lab_walls.py")

    def test_a_firewall_that_lets_out_a_few_ports_on_one_side(self):
        self.scene("one", "a=portrestricted+only=1883,3478", "b=linux", file="lab_walls.py")

    def test_firewalls_that_refuse_or_answer_themselves(self):
        self.scene("refusing", "a=portrestricted+only=1883,3478", "b=linux+only=1883,3478", file="lab_walls.py")

    @unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
    def test_firewalls_that_let_out_443_alone(self):
        self.scene("over_tls", "a=portrestricted+only=1883,443", "b=linux+only=1883,443", file="lab_walls.py")

    def test_firewalls_that_let_out_a_few_ports_of_ipv6(self):
        self.scene("over_ipv6", "a=linux+v6+only=1883,3478", "b=linux+v6+only=1883,3478", file="lab_walls.py")

    def test_a_network_that_swallows_every_punch_is_told_by_both_sides(self):
        self.scene("swallowed", "a=linux", "b=linux")

    def test_explain_tells_each_step(self):
        self.scene("explained", "a=linux", "b=linux")

    def test_names_lead_from_home_to_home_by_every_way_with_a_server_dead_wiped_or_cut_off(self):
        self.scene("by_every_way", "a=linux", "b=portrestricted", "c=public", file="lab_names.py")

    def test_a_node_that_moves_is_still_found_by_its_name(self):
        self.scene("moves", "a=linux", "b=portrestricted", file="lab_names.py")

    def test_a_node_tells_its_present_address_where_the_servers_have_an_old_one(self):
        self.scene("stale", "a=linux", "c=public", file="lab_names.py")

    def test_two_homes_fight_for_a_name(self):
        self.scene("fight", "a=linux", "b=portrestricted", "c=linux", file="lab_names.py")

    def test_a_home_without_internet_finds_its_own_by_name(self):
        self.scene("lan_without_internet", "a=linux+hosts=2", delay=0, file="lab_names.py")

    def test_a_relayed_pipe_says_why(self):
        self.scene("why_relayed", "a=symrandom", "b=symrandom", file="lab_relayed.py")

    def test_a_connect_that_cannot_be_says_why(self):
        self.scene("why_not", "a=symrandom", "b=symrandom")

    def test_each_kind_of_router_to_another(self):
        """The quick matrix. Times fail nothing here: the machine may be busy."""
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "scripts/dev/natmatrix"), "--quick", "--no-bounds", "--times", "1", "--jobs", "3",
             "--binary", BINARY], capture_output=True, text=True, timeout=200)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_two_routers_that_count_their_ports_up_meet_on_a_long_line_too(self):
        """100 ms there and back: how far the ports have come is asked before dialling, and that takes as long."""
        done = subprocess.run(
            [sys.executable, os.path.join(ROOT, "scripts/dev/natmatrix"), "--pairs", "symseq:symseq", "--relay", "without",
             "--delay", "25", "--no-bounds", "--times", "2", "--binary", BINARY], capture_output=True, text=True, timeout=100)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_pair_punches_that_can_however_late_one_is_and_the_others_say_why_not(self):
        node = os.path.join(os.path.dirname(BINARY), "p2pd-punch-node")
        if not os.access(node, os.X_OK):
            self.skipTest(f"{node} is not built")
        types = ["firewall", "addrrestricted", "portrestricted", "linux+rst", "linux+open", "symopen", "symseq", "symaddr"]
        homes = [f"{side}{number}={kind}" for number, kind in enumerate(types) for side in "ab"]
        name = f"u{os.getpid()}"
        inside = os.path.join(os.path.dirname(os.path.realpath(__file__)), "lab_punch.py")
        done = subprocess.run(
            [sys.executable, LAB, "-n", name, "run", *homes, *DELAY, "--",
             sys.executable, inside, name, node, "--skew", "0,30,200"], capture_output=True, text=True, timeout=150)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
