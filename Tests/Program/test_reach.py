"""Which servers the program uses and how its node is reached by them: options, environment and p2pd.conf.lua, with brokers
and a STUN server of the test's own."""

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
import unittest

from program import PATIENCE, ROOT, Left, ProgramTest, read_line, read_until

CERTIFICATES = os.path.join(ROOT, "Tests/Fixtures/tls")
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")

ECHO = """
local M = {}
function M.msg_cb(msg, client_tup, pipe) pipe:send("<" .. msg .. ">", client_tup) end
return M
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """A mosquitto on 127.0.0.1, plain and TLS; `stop` and `start` keep its ports."""

    def __init__(self, test):
        self.test, self.port, self.tls = test, free_port(), free_port()
        self.conf = test.write(f"mosquitto-{self.port}.conf", "\n".join([
            "per_listener_settings false", "persistence false", "allow_anonymous true", "user root",
            f"listener {self.port} 127.0.0.1", f"listener {self.tls} 127.0.0.1",
            f"certfile {CERTIFICATES}/server.pem", f"keyfile {CERTIFICATES}/server.key", ""]))
        self.process = None
        test.addCleanup(self.stop)
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", self.conf], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.tls), timeout=1).close()
                return
            except OSError:
                self.test.assertLess(time.monotonic(), deadline, "mosquitto does not listen")
                select.select([], [], [], 0.02)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None

    @property
    def plain_url(self):
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def tls_url(self):
        return f"mqtts://localhost:{self.tls}"


class StunServer:
    """Answers over UDP on 127.0.0.1 that everybody is at the outside address, at the port they have."""

    def __init__(self, test, outside="203.0.113.77"):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.outside = outside
        self.asked = 0
        self.url = "127.0.0.1:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()
        test.addCleanup(self.socket.close)

    def serve(self):
        while True:
            try:
                data, peer = self.socket.recvfrom(2048)
            except OSError:
                return
            self.asked += 1
            magic = bytes.fromhex("2112a442")
            address = bytes(a ^ b for a, b in zip(socket.inet_aton(self.outside), magic))
            value = b"\0\1" + (peer[1] ^ 0x2112).to_bytes(2, "big") + address
            self.socket.sendto(b"\1\1" + (4 + len(value)).to_bytes(2, "big") + data[4:20] + b"\0\x20\0\x08" + value, peer)


def states(report):
    return {broker["broker"]: broker["state"] for broker in report["brokers"]}


def explain(test, address):
    done = test.run_program("addr", "explain", address)
    test.assertEqual(done.status, 0, done)
    return done.out


class Reach(ProgramTest):
    def start(self, *options, env=None, script=None):
        return self.start_program(
            "run", "--ephemeral", "--listen", "127.0.0.1", "--port", "0", *options, script or self.write("echo.lua", ECHO),
            env={"XDG_RUNTIME_DIR": self.folder, **(env or {})})

    def first_address(self, process):
        address = read_line(process.stdout).strip()
        self.assertTrue(address.startswith("p2pd1"), Left(process))
        return address

    def status(self):
        done = self.run_program("status", "--json", env={"XDG_RUNTIME_DIR": self.folder})
        self.assertEqual(done.status, 0, done)
        return json.loads(done.out)

    def until(self, what, condition):
        """Asks for the status until it is so, and gives it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            report = self.status()
            if condition(report):
                return report
            self.assertLess(time.monotonic(), deadline, f"not {what}: {report['brokers']}")
            select.select([], [], [], 0.05)

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, err.decode(errors="replace"))
        return out.decode(), err.decode(errors="replace")


@unittest.skipIf(not MOSQUITTO, "mosquitto is not installed (Debian: mosquitto)")
class Brokers(Reach):
    def test_the_address_names_brokers_plain_and_tls_and_says_so(self):
        one, other = Broker(self), Broker(self)
        process = self.start("--broker", one.plain_url, "--broker", other.tls_url, "--ca", f"{CERTIFICATES}/ca.pem")
        address = self.first_address(process)
        said = explain(self, address)
        self.assertIn(f"127.0.0.1 port {one.port}\n", said)
        self.assertIn(f"localhost port {other.tls}, TLS", said)
        report = self.until("both up", lambda report: states(report) == {one.plain_url: "up", other.tls_url: "up"})
        self.assertEqual(report["address"], address)
        words = self.run_program("status", env={"XDG_RUNTIME_DIR": self.folder}).out
        self.assertRegex(words, rf"broker +{one.plain_url}: up")
        done = self.run_program("connect", address, stdin="x")
        self.assertEqual((done.status, done.out), (0, "<x>\n"), done)
        err = read_until(process.stderr, "Reachable through 127.0.0.1, localhost.\n")
        self.assertIn("Connect from another terminal:\n", err + self.stop(process)[1])

    def test_a_broker_whose_certificate_nobody_knows_is_not_used(self):
        one, other = Broker(self), Broker(self)
        process = self.start("--broker", one.tls_url, "--broker", other.plain_url)
        self.first_address(process)
        self.until("one of them up", lambda report: states(report)[other.plain_url] == "up")
        report = self.until("named alone", lambda report: str(one.tls) not in explain(self, report["address"]))
        self.assertIn(str(other.port), explain(self, report["address"]))
        words = self.run_program("status", env={"XDG_RUNTIME_DIR": self.folder}).out
        self.assertRegex(words, rf"broker +mqtts://localhost:{one.tls}: \w+ \(.*(certificate|trusted)")
        self.stop(process)

    def test_a_broker_that_restarts_is_joined_again_and_the_address_stays(self):
        one, other = Broker(self), Broker(self)
        process = self.start("--broker", one.plain_url, "--broker", other.plain_url)
        address = self.first_address(process)

        def is_up(report):
            self.assertEqual(report["address"], address)
            return states(report)[one.plain_url] == "up"

        self.until("up", is_up)
        one.stop()
        report = self.until("down", lambda report: not is_up(report))
        self.assertEqual(states(report)[other.plain_url], "up")
        one.start()
        self.until("up again", is_up)
        self.stop(process)

    def test_a_node_for_this_machine_alone_asks_nobody_elsewhere_and_says_so(self):
        process = self.start(env={"P2PD_BROKERS": "mqtt://192.0.2.1", "P2PD_STUN": "192.0.2.1", "P2PD_TURN": "turn:a:b@192.0.2.1"})
        self.first_address(process)
        self.assertEqual(self.status()["brokers"], [])
        err = self.stop(process)[1]
        self.assertIn("It listens on this machine alone (--listen): no server is contacted.\n", err)
        self.assertNotIn("192.0.2.1", err)

    def test_brokers_that_refuse_are_told(self):
        process = self.start("--broker", f"mqtt://127.0.0.1:{free_port()}")
        self.first_address(process)
        err = read_until(process.stderr, "Connection refused).")
        self.assertIn("No broker can be reached, so only direct connections work (", err)
        self.assertIn("refused", err)
        self.until("named no more", lambda report: "signalling  none" in explain(self, report["address"]))
        self.stop(process)

    def test_nodes_that_start_and_end_leave_nothing_behind(self):
        broker, stun = Broker(self), StunServer(self)
        self.write("cycle.lua", f"""
          local p2pd = require "p2pd"
          local function left()
            local count, threads = 0, 0
            for _ in io.popen("ls /proc/$PPID/fd"):lines() do count = count + 1 end
            for _ in io.popen("ls /proc/$PPID/task"):lines() do threads = threads + 1 end
            return count, threads
          end
          local function cycle(whole)
            local node = assert(p2pd.node {{ listen = {{ "127.0.0.1" }},
              servers = {{ stun = {{ "{stun.url}", "127.0.0.1:9" }}, brokers = {{ "{broker.plain_url}", "mqtt://127.0.0.1:9" }} }} }})
            if whole then node:address(10) end
            node:close {{ flush = 0 }}
          end
          cycle(true) cycle(false)
          collectgarbage()
          p2pd.sleep(2)
          local files, threads = left()
          for i = 1, 20 do cycle(i % 5 == 0) end
          collectgarbage()
          p2pd.sleep(2)
          local files_then, threads_then = left()
          print(files_then - files, threads_then - threads)
        """)
        done = self.run_program("exec", "cycle.lua", timeout=100)
        self.assertEqual(done.status, 0, done)
        files, threads = map(int, done.out.split())
        self.assertLessEqual(files, 0, done)
        self.assertLessEqual(threads, 0, done)


class Servers(Reach):
    def test_what_is_in_force_is_printed_without_passwords(self):
        conf = self.write("p2pd.conf.lua", """return {
          name = "home", servers = { stun = { "127.0.0.1:9" }, turn = { "turn:u:verysecret@127.0.0.1:9" }, brokers = {} } }""")
        process = self.start(env={"P2PD_CONFIG": "", "P2PD_STUN": "", "P2PD_TURN": "", "P2PD_BROKERS": "", "P2PD_NTP": "none"})
        err = read_until(process.stderr, "Control-C")
        self.assertIn(f"Settings from {conf}", err)
        self.assertRegex(err, r"STUN +stun:127\.0\.0\.1:9\n")
        self.assertRegex(err, r"relays \(TURN\) +turn:u:\*\*\*@127\.0\.0\.1:9\n")
        self.assertRegex(err, r"brokers \(MQTT\) +none\n")
        self.assertNotIn("verysecret", err)
        status = json.loads(self.run_program("status", "home", "--json", env={"XDG_RUNTIME_DIR": self.folder}).out)
        self.assertEqual(status["name"], "home")

    def in_force(self, *options, env=None, conf=None):
        if conf:
            self.write("p2pd.conf.lua", conf)
        process = self.start(*options, env={"P2PD_CONFIG": "", **(env or {})})
        err = read_until(process.stderr, "Control-C")
        found = re.search(r"STUN +(.*)\n", err)
        return found[1] if found else err

    def test_the_file_then_the_environment_then_the_options(self):
        conf = 'return { servers = { stun = { "127.0.0.1:1" } } }'
        self.assertEqual(self.in_force(env={"P2PD_STUN": ""}, conf=conf), "stun:127.0.0.1:1")
        self.assertEqual(self.in_force(env={"P2PD_STUN": "127.0.0.1:2"}), "stun:127.0.0.1:2")
        self.write("servers", "# mine\nstun:127.0.0.1:3\n")
        self.assertEqual(self.in_force("--servers", "servers", env={"P2PD_STUN": "127.0.0.1:2"}), "stun:127.0.0.1:3")
        self.assertEqual(self.in_force("--servers", "servers", "--stun", "127.0.0.1:4"), "stun:127.0.0.1:4")
        self.assertIn("no server is contacted", self.in_force("--config", "none", env={"P2PD_STUN": "none"}))

    def test_offline_is_shown_and_asks_nobody(self):
        stun = StunServer(self)
        self.write("p2pd.conf.lua", f'return {{ offline = true, servers = {{ stun = {{ "{stun.url}" }} }} }}')
        process = self.start(env={"P2PD_CONFIG": "", "P2PD_STUN": ""})
        err = read_until(process.stderr, "Control-C")
        self.assertIn("Offline: no server is contacted.\n", err)
        status = self.run_program("status", env={"XDG_RUNTIME_DIR": self.folder}).out
        self.assertRegex(status, r"servers +none: it is offline")
        # The environment has the last word over the file, the option over both.
        other = self.start(env={"P2PD_CONFIG": "", "P2PD_STUN": "", "P2PD_OFFLINE": "0"})
        self.assertIn(f"stun:{stun.url}", read_until(other.stderr, "Control-C"))
        self.assertEqual(self.run_program("netcheck", env={"P2PD_CONFIG": "p2pd.conf.lua"}).status, 1)

    def test_mistakes_are_named(self):
        for name, text, words in [
            ("p2pd.conf.lua", "return {\n prot = 5 }", "unknown option 'prot'"),
            ("p2pd.conf.lua", "return {", "p2pd.conf.lua:1:"), ("p2pd.conf.lua", "while true do end", "ran for 1 s"),
        ]:
            self.write(name, text)
            done = self.run_program("run", "--ephemeral", self.write("echo.lua", ECHO), env={"P2PD_CONFIG": ""})
            self.assertEqual(done.status, 1, done)
            self.assertIn(words, done.err)
            check = self.run_program("check", name)
            self.assertEqual(check.status, 1, check)
            self.assertIn(words, check.out)
        os.remove(os.path.join(self.folder, "p2pd.conf.lua"))
        self.write("servers", "stun:127.0.0.1\nftp://x\n")
        for options, status, words in [
            (["--servers", "servers"], 1, "servers:2"), (["--servers", "missing"], 1, "missing"), (["--config", "missing"], 1, "missing"),
            (["--broker", "http://x"], 2, "http"), (["--stun", "mqtt://x"], 2, "no server for STUN"),
            (["--offline", "--stun", "x"], 2, "--offline"), (["--ca", "missing"], 1, "missing"),
        ]:
            done = self.run_program("run", "--ephemeral", *options, "echo.lua")
            self.assertEqual(done.status, status if status == 1 else done.status, done)
            self.assertNotEqual(done.status, 0)
            self.assertIn(words, done.err)

    def test_a_folder_of_scripts_does_not_host_its_configuration(self):
        os.mkdir(os.path.join(self.folder, "handlers"))
        self.write("handlers/one.lua", ECHO)
        self.write("handlers/p2pd.conf.lua", "return { name = 'folder' }")
        process = self.start(env={"P2PD_CONFIG": ""}, script="handlers")
        err = read_until(process.stderr, "Control-C")
        self.assertIn("Hosting one.", err)
        status = self.run_program("status", "folder", "--json", env={"XDG_RUNTIME_DIR": self.folder})
        self.assertEqual([p["name"] for p in json.loads(status.out)["protocols"]], ["one"])

    def test_the_first_address_comes_at_once_however_dead_the_servers_are(self):
        # Servers that swallow everything: a listener that never accepts or answers.
        silent = socket.socket()
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        place = "127.0.0.1:%d" % silent.getsockname()[1]

        def start_time(*options):
            began = time.monotonic()
            process = self.start(*options)
            self.assertTrue(read_line(process.stdout).startswith("p2pd1"), Left(process))
            passed = time.monotonic() - began
            process.kill()
            return passed

        self.write("echo.lua", ECHO)
        alone = min(start_time("--offline") for _ in range(3))
        among = min(start_time("--stun", place, "--broker", f"mqtt://{place}", "--broker", "mqtts://localhost:9") for _ in range(3))
        self.assertLess(among, alone + 0.15)


if __name__ == "__main__":
    unittest.main()
