"""`p2pd-lua netcheck` against real servers on loopback: each that answers, and each way not to."""

import concurrent.futures
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
import unittest

from netcheck_kit import undocumented
from program import BINARY, PATIENCE, ROOT, ProgramTest, Server, Terminal, wait_for_signal_handler
from test_servers import CERTIFICATES, MOSQUITTO, TURNSERVER, free_port

CHRONYD = shutil.which(
    "chronyd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", os.path.join(ROOT, ".build/chrony/usr/sbin")]))


class NetcheckTest(ProgramTest):
    def start_server(self, *command, ready):
        """Starts it, its words in a file, and waits until `ready()`."""
        name = os.path.join(self.folder, os.path.basename(command[0]) + ".log")
        with open(name, "ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.folder)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        end = time.monotonic() + PATIENCE
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                with open(name, encoding="utf-8", errors="replace") as file:
                    self.fail(f"{command[0]} does not start:\n{file.read()}")
            select.select([], [], [], 0.02)

    def mosquitto(self, *lines):
        port, tls = free_port(), free_port()
        conf = self.write(f"mosquitto{port}.conf", "\n".join([
            "user root", "persistence false", "allow_anonymous true", f"listener {port} 127.0.0.1", f"listener {tls} 127.0.0.1",
            f"certfile {CERTIFICATES}/server.pem", f"keyfile {CERTIFICATES}/server.key", *lines]))
        self.start_server(MOSQUITTO, "-c", conf, ready=lambda: connects(port) and connects(tls))
        return port, tls

    def coturn(self, tls=False):
        """Its port; with TLS also the port for that, and one where nobody is."""
        port, secure = free_port(), free_port()
        how = ["--cert", f"{CERTIFICATES}/server.pem", "--pkey", f"{CERTIFICATES}/server.key", "--tls-listening-port", str(secure)] if tls else ["--no-tls"]
        self.start_server(
            TURNSERVER, "-n", "--no-cli", *how, "--no-dtls", "--lt-cred-mech", "-r", "test", "-u", "me:opensesame", "-L", "127.0.0.1", "-E",
            "127.0.0.1", "-p", str(port), "--pidfile=", "--log-file=stdout", f"--userdb={self.folder}/users.db",
            ready=lambda: connects(port) and (not tls or connects(secure)))
        return (port, secure, free_port()) if tls else port

    def chrony(self):
        port = free_port()
        conf = self.write("chrony.conf", "\n".join([
            f"port {port}", "bindaddress 127.0.0.1", "allow 127.0.0.0/8", "cmdport 0", "bindcmdaddress /", "local stratum 8",
            f"pidfile {self.folder}/chrony.pid"]))
        question = b"\x23" + bytes(46) + b"\x01"

        def answers():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.settimeout(0.1)
                try:
                    probe.sendto(question, ("127.0.0.1", port))
                    return len(probe.recv(100)) >= 48
                except OSError:
                    return False

        self.start_server(CHRONYD, "-x", "-d", "-u", "root" if os.getuid() == 0 else os.environ["USER"], "-f", conf, ready=answers)
        return port

    def netcheck(self, *args, status=0, **env):
        names = {f"P2PD_{name}": env.get(name, "none") for name in ("STUN", "TURN", "BROKERS", "NTP")}
        began = time.monotonic()
        done = self.run_program("netcheck", "--no-port-mapping", *args, env=names)
        self.assertLess(time.monotonic() - began, 5.9)
        self.assertEqual(done.status, status, done)
        if "--json" not in args:
            return done.out
        report = json.loads(done.out)
        self.assertEqual(undocumented(report), [], "fields that docs/netcheck.md does not name")
        return report

    @unittest.skipIf(MOSQUITTO is None, "mosquitto is not installed")
    def test_brokers_that_answer_refuse_lie_and_are_silent(self):
        port, tls = self.mosquitto()
        garbled = Server(self, lambda connection: connection.sendall(b"220 mail ready\r\n"))
        mute = Server(self, lambda connection: connection.recv(1 << 16) and time.sleep(PATIENCE))
        brokers = {
            f"mqtt://127.0.0.1:{port}": "answered", f"mqtts://localhost:{tls}": "certificate",
            f"mqtt://127.0.0.1:{free_port()}": "refused", f"mqtt://{garbled.target}": "garbled", f"mqtt://{mute.target}": "silent",
            f"mqtts://{mute.target}": "silent", "mqtt://nowhere.invalid": "no_name"}
        found = self.netcheck("--json", BROKERS=",".join(brokers))
        self.assertEqual({each["server"]: each["outcome"] for each in found["brokers"]}, brokers)
        good = found["brokers"][0]
        self.assertTrue(0 < good["round_trip_us"] < 5_000_000 and 0 < good["setup_us"] < 5_000_000, good)
        problems = {each["server"]: each["problem"] for each in found["brokers"]}
        self.assertIsNone(problems[good["server"]])
        self.assertIn("not trusted", problems[f"mqtts://localhost:{tls}"])
        self.assertIn("does not greet", problems[f"mqtt://{mute.target}"])
        self.assertNotEqual(problems[f"mqtts://{mute.target}"], problems[f"mqtt://{mute.target}"])
        with open("/dev/full", "wb") as full:
            names = self.environment(P2PD_BROKERS=good["server"])
            done = subprocess.run([BINARY, "netcheck"], stdout=full, stderr=subprocess.PIPE, env=names, timeout=PATIENCE)
        self.assertEqual(done.returncode, 1, "what is not written is not told")
        # A name server that is out of reach may be slow to say so.
        self.assertEqual(found["format"], 1)

    @unittest.skipIf(TURNSERVER is None or CHRONYD is None, "coturn or chronyd is not there")
    def test_servers_and_clock(self):
        turn, ntp, dead = self.coturn(), self.chrony(), free_port()
        env = dict(
            STUN=f"127.0.0.1:{turn},stun:127.0.0.1:{turn}?transport=tcp,127.0.0.1:{dead}",
            TURN=f"turn:me:opensesame@127.0.0.1:{turn},turn:me:wrong@localhost:{turn},turn:127.0.0.1:{turn},turn:a:b@127.0.0.1:{dead}", NTP=f"127.0.0.1:{ntp},127.0.0.1:{dead}")
        # Both wait for what is silent, so they do it together.
        with concurrent.futures.ThreadPoolExecutor() as pool:
            words = pool.submit(self.netcheck, **env)
            found = self.netcheck("--json", **env)
            words = words.result()
        self.assertEqual([each["outcome"] for each in found["stun"]], ["answered", "answered", "silent"], found["stun"])
        outcomes = [each["outcome"] for each in found["relays"]]
        self.assertEqual(outcomes, ["answered", "rejected", "rejected", "refused"], found["relays"])
        self.assertRegex(found["relays"][0]["relayed"], r"^127\.0\.0\.1:\d+$")
        self.assertIn("password", found["relays"][2]["problem"])
        self.assertNotIn("opensesame", json.dumps(found))
        clock = found["clock"]
        self.assertLess(abs(clock["offset_us"]), 50_000)
        self.assertEqual([each["stratum"] for each in clock["servers"]], [8, None])
        self.assertEqual(clock["servers"][1]["problem"], "no answer")
        for part in ("Interfaces\n", "STUN servers\n", "Relays (TURN)\n", "this machine's clock is right", "Advice\n"):
            self.assertIn(part, words)
        self.assertNotIn("opensesame", words)
        self.assertEqual(words.count("Advice"), 1)

    @unittest.skipIf(CHRONYD is None, "chronyd is not there")
    def test_a_script_asks_for_the_time(self):
        place = f"127.0.0.1:{self.chrony()}"
        script = self.write("ntp.lua", """
            local p2pd = require "p2pd"
            local function near(a, b) return math.abs(a - b) < 2 end
            local clock = assert(p2pd.ntp { arg[1], "127.0.0.1:" .. arg[2] })
            assert(near(clock.time, os.time()) and near(clock.offset, 0), clock.offset)
            assert(clock.error > 0 and clock.error < 1 and clock.round_trip < 1)
            assert(clock.servers[1].stratum == 8 and clock.servers[2].problem == "no answer", clock.servers[2].problem)
            assert(p2pd.ntp().servers[1].server == "ntp:" .. arg[1], "the configured one")
            local none, err = p2pd.ntp("127.0.0.1:" .. arg[2])
            assert(none == nil and err.code == "timeout" and #err.attempts == 1, tostring(err))
            for _, wrong in ipairs { { "a b" }, "stun:x", 7, { 7 } } do
              local ok, misuse = pcall(p2pd.ntp, wrong)
              assert(not ok and tostring(misuse):find("bad argument #1 to 'ntp'", 1, true), tostring(misuse))
            end
            print("all held")""")
        done = self.run_program("exec", script, place, str(free_port()), env={"P2PD_NTP": place})
        self.assertEqual((done.status, done.out), (0, "all held\n"), done)
        offline = self.write("offline.lua", """
            local none, err = require "p2pd".ntp()
            assert(none == nil and err.code == "bad_address", tostring(err))""")
        self.assertEqual(self.run_program("exec", "--offline", offline, env={"P2PD_NTP": place}).status, 0)

    def test_nobody_answers(self):
        dead = free_port()
        found = self.netcheck("--json", status=1, STUN=f"127.0.0.1:{dead}", BROKERS=f"mqtt://127.0.0.1:{dead}")
        self.assertIn(found["advice_code"], ("check_network", "connect"))
        self.assertEqual(found["brokers"][0]["outcome"], "refused")

    @unittest.skipIf(TURNSERVER is None, "coturn is not there")
    def test_a_script_asks_how_it_looks_from_outside(self):
        port, tls, dead = self.coturn(tls=True)
        script = self.write("stun.lua", """
            local p2pd = require "p2pd"
            local plain, dead, tls = arg[1], arg[2], arg[3]
            local client = p2pd.stun_client { servers = { plain } }
            assert(assert(client:get_wan_ip()) == "127.0.0.1")
            for _, proto in ipairs { p2pd.UDP, p2pd.TCP } do
              local seen = assert(client:get_mapping(proto))
              assert(seen.ip == seen.local_ip and seen.port == seen.local_port, proto)
            end
            local nat = client:get_nat()
            assert(nat.udp.mapping == "none" and nat.udp.allocation == "preserve" and nat.udp.range == nil)

            -- Over TLS, by a certificate that the node's roots vouch for.
            client = p2pd.stun_client { servers = { tls } }
            assert(assert(client:get_wan_ip()) == "127.0.0.1" and client:get_mapping("tcp").port > 0)
            nat = assert(client:get_nat())
            assert(nat.type == 0 and nat.udp.reach == nil and nat.tcp.mapping == "none")
            local none, err = client:get_mapping("udp")
            assert(none == nil and err.code == "timeout", tostring(err))

            -- What does not work is nil and an error, from each of them.
            local nobody = p2pd.stun_client { servers = { dead } }
            for name, code in pairs { get_wan_ip = "timeout", get_mapping = "timeout", get_nat = "timeout" } do
              none, err = nobody[name](nobody)
              assert(none == nil and err.code == code and #err.attempts > 0, name .. ": " .. tostring(err))
            end
            local function code(options)
              local made, wrong = p2pd.stun_client(options)
              if not made then return wrong.code end
              local _, failed = made:get_nat()
              return failed.code
            end
            assert(code { servers = { "nowhere.invalid" } } == "dns")
            assert(code { servers = {} } == "bad_address")
            assert(code { servers = { plain }, interface = "nowhere0" } == "bad_address", code { servers = { plain }, interface = "nowhere0" })
            assert(code { servers = { plain }, interface = "lo", af = p2pd.IP6 } == "dns")
            for _, wrong in ipairs { { servers = { "mqtt://x" } }, { servers = "x" }, { af = 5 }, { server = {} } } do
              local ok, misuse = pcall(p2pd.stun_client, wrong)
              assert(not ok and tostring(misuse):find("stun_client", 1, true), tostring(misuse))
            end
            print("all held")""")
        places = [f"127.0.0.1:{port}", f"127.0.0.1:{dead}", f"stuns:localhost:{tls}"]
        done = self.run_program("exec", "--ca", f"{CERTIFICATES}/ca.pem", script, *places)
        self.assertEqual((done.status, done.out), (0, "all held\n"), done)
        # The same server in netcheck, where nothing else is named.
        found = self.netcheck("--json", "--ca", f"{CERTIFICATES}/ca.pem", STUN=places[2])
        self.assertEqual([each["outcome"] for each in found["stun"]], ["answered"])

    def test_without_servers_it_says_so(self):
        words = self.netcheck(status=1)
        for part in ("no STUN server is configured", "Brokers (MQTT)\n  none is configured", "no time server is configured"):
            self.assertIn(part, words)

    def test_an_interface_that_is_not_there(self):
        done = self.run_program("netcheck", "--interface", "nowhere0")
        self.assertEqual((done.status, done.out), (1, ""), done)
        self.assertIn("nowhere0", done.err)
        self.assertIn("ifs` lists the interfaces", done.err)

    def test_a_signal_ends_it_at_once(self):
        mute = Server(self, lambda connection: connection.recv(1 << 16) and time.sleep(PATIENCE))
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start_program("netcheck", "--no-port-mapping", env={
                "P2PD_STUN": "none", "P2PD_TURN": "none", "P2PD_NTP": "none", "P2PD_BROKERS": f"mqtt://{mute.target}"})
            wait_for_signal_handler(process, number)
            began = time.monotonic()
            process.send_signal(number)
            self.assertEqual(process.wait(PATIENCE), 128 + number)
            self.assertLess(time.monotonic() - began, 1)

    def test_wrong_server_and_offline(self):
        done = self.run_program("netcheck", env={"P2PD_BROKERS": "http://x"})
        self.assertEqual(done.status, 2, done)
        self.assertIn("P2PD_BROKERS", done.err)
        done = self.run_program("netcheck", env={"P2PD_OFFLINE": "1"})
        self.assertEqual(done.status, 1, done)
        self.assertEqual(done.out, "")

    @unittest.skipIf(MOSQUITTO is None, "mosquitto is not installed")
    def test_a_terminal_shows_what_is_being_done(self):
        port, _ = self.mosquitto()
        mute = Server(self, lambda connection: connection.recv(1 << 16) and time.sleep(PATIENCE))
        env = {"P2PD_STUN": "none", "P2PD_TURN": "none", "P2PD_NTP": "none",
               "P2PD_BROKERS": f"mqtt://127.0.0.1:{port},mqtt://{mute.target}"}
        terminal = Terminal(self, "netcheck", "--no-port-mapping", env=env)
        terminal.expect("looking at the network: ")
        terminal.expect("brokers 1/2")
        terminal.expect("Advice")
        self.assertEqual(terminal.wait(), 0)


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


if __name__ == "__main__":
    unittest.main()
