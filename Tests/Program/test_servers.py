"""docs/servers: the real servers take the files as they are, and do what the guide says they do."""

import importlib.util
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import program
from names_kit import Client, Owner
from program import PATIENCE, ROOT, ProgramTest

sys.path.insert(0, os.path.join(ROOT, "scripts/dev"))

import mqtt  # noqa: E402

GUIDE = os.path.join(ROOT, "docs/servers")
CERTIFICATES = os.path.join(ROOT, "Tests/Fixtures/tls")
TLS_NAME = "localhost"  # what the certificate is for
MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
TURNSERVER = shutil.which("turnserver", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/bin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServerTest(ProgramTest):
    def adapted(self, name, changes):
        """The guide's file with other ports and paths; each change must be found in it."""
        text = self.read_guide(name)
        for pattern, with_what in changes:
            text, count = re.subn(pattern, with_what, text, flags=re.M)
            self.assertGreater(count, 0, f"{name} has no {pattern}")
        return self.write(name, text) or os.path.join(self.folder, name)

    def read_guide(self, name):
        with open(os.path.join(GUIDE, name), encoding="utf-8") as file:
            return file.read()

    def start_server(self, *args):
        """Starts it; its output goes to a file, which `output` reads."""
        with open(os.path.join(self.folder, "output"), "wb") as output:
            process = subprocess.Popen(args, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.folder)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        return process

    def output(self):
        with open(os.path.join(self.folder, "output"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def connect(self, process, port):
        """A connection to it, as soon as it listens."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and process.poll() is None:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
                self.addCleanup(connection.close)
                return connection
            except ConnectionRefusedError:
                select.select([], [], [], 0.02)
        self.fail(f"it does not listen; it said:\n{self.output()}")


def ended(connection):
    """The server hung up without a word."""
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


@unittest.skipIf(MOSQUITTO is None, "mosquitto is not installed")
class Broker(ServerTest):
    def setUp(self):
        super().setUp()
        self.port, tls = free_port(), free_port()
        shutil.copy(os.path.join(GUIDE, "mosquitto.acl"), self.folder)
        # It may run as root here, and would then become a user who cannot read this folder.
        conf = self.adapted("mosquitto.conf", [
            (r"^listener 1883$", f"user root\nlistener {self.port} 127.0.0.1"), (r"^listener 8883$", f"listener {tls} 127.0.0.1"),
            (r"/etc/p2pd-servers/mosquitto", f"{self.folder}/mosquitto"), (r"/etc/p2pd-servers/server", f"{CERTIFICATES}/server")])
        self.process = self.start_server(MOSQUITTO, "-c", conf)

    def client(self, name, *topics):
        connection = self.connect(self.process, self.port)
        receiver = mqtt.Receiver(connection)
        connection.sendall(mqtt.connect(name))
        self.assertEqual(receiver.packet(), (0x20, b"\0\0"))
        for topic in topics:
            connection.sendall(mqtt.subscribe(topic))
            self.assertEqual(receiver.packet()[0], 0x90)
        return connection, receiver

    def test_nodes_topics_work_and_no_others(self):
        _, listener = self.client(b"one", b"p2pd1/+", b"other", b"#")
        speaker, _ = self.client(b"two")
        speaker.sendall(mqtt.publish(b"other", b"no") + mqtt.publish(b"p2pd1/a/b", b"no") + mqtt.publish(b"p2pd1/" + b"0" * 32, b"x" * 4096))
        kind, body = listener.packet()
        self.assertEqual((kind & 0xF0, body), (0x30, mqtt.text(b"p2pd1/" + b"0" * 32) + b"x" * 4096))
        complaints = [line for line in self.output().splitlines() if "run as root" not in line]
        self.assertEqual(complaints, [])

    def test_what_is_too_long_or_to_be_kept_is_refused(self):
        speaker, _ = self.client(b"two")
        speaker.sendall(mqtt.publish(b"p2pd1/kept", b"for ever", retain=True))
        self.assertTrue(ended(speaker), "retained messages are off")
        speaker, _ = self.client(b"three")
        speaker.sendall(mqtt.publish(b"p2pd1/long", b"x" * 4300))
        self.assertTrue(ended(speaker), "nor is there room for long ones")


@unittest.skipIf(TURNSERVER is None, "turnserver is not installed (Debian: coturn)")
class Relay(ServerTest):
    def setUp(self):
        super().setUp()
        self.port = free_port()
        conf = self.adapted("turnserver.conf", [
            (r"^listening-port=3478$", f"listening-port={self.port}\nlistening-ip=127.0.0.1\nrelay-ip=127.0.0.1"),
            (r"^tls-listening-port=5349$", f"tls-listening-port={free_port()}"),
            (r"/etc/p2pd-servers/", f"{CERTIFICATES}/")])
        # Without --pidfile it wants to write one to /var/run; its data base too is somebody else's.
        self.process = self.start_server(
            TURNSERVER, "-c", conf, "--pidfile=", f"--userdb={self.folder}/users.db", "-v")

    def ask(self, connection, kind, attributes=b""):
        transaction = os.urandom(12)
        connection.sendall(kind.to_bytes(2, "big") + len(attributes).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + transaction + attributes)
        answer = connection.recv(2000)
        self.assertEqual(answer[8:20], transaction)
        return int.from_bytes(answer[:2], "big"), answer[20:]

    def test_answers_stun_and_asks_relays_for_a_password(self):
        connection = self.connect(self.process, self.port)
        kind, body = self.ask(connection, 0x0001)
        self.assertEqual(kind, 0x0101)
        self.assertIn(b"\x00\x20\x00\x08\x00\x01", body, "XOR-MAPPED-ADDRESS")
        # Allocate with REQUESTED-TRANSPORT TCP (RFC 6062): 401 and the realm, since there is no password.
        kind, body = self.ask(connection, 0x0003, b"\x00\x19\x00\x04\x06\x00\x00\x00")
        self.assertEqual(kind, 0x0113)
        self.assertIn(b"turn.example.org", body)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(datagrams.close)
        datagrams.settimeout(PATIENCE)
        datagrams.connect(("127.0.0.1", self.port))
        self.assertEqual(self.ask(datagrams, 0x0001)[0], 0x0101)
        said = self.output()
        self.assertNotRegex(said, r"(?i)bad configuration|unknown argument|unrecognized|cannot (find|load|start)")
        self.assertRegex(said, r"(?i)certificate file found|TLS listener opened")


class Names(ServerTest):
    def command(self, unit, changes):
        """The unit's command with this test's paths."""
        line = re.search(r"^ExecStart=/usr/local/bin/p2pd-lua (.*)$", self.read_guide(unit), flags=re.M)[1]
        for old, new in changes:
            self.assertIn(old, line)
            line = line.replace(old, new)
        return line.split()

    def test_the_unit_serves_and_its_backup_serves_again(self):
        port = free_port()
        process = self.start_program(*self.command("p2pd-names.service", [
            ("/var/lib/p2pd-names/", f"{self.folder}/"), ("*:443", f"127.0.0.1:{port}"), ("/etc/p2pd-servers/server", f"{CERTIFICATES}/server")]))
        self.assertEqual(program.read_line(process.stdout), f"https://127.0.0.1:{port}\n", program.Left(process))
        self.assertEqual(self.curl(process, port, "-X", "PUT", "--data-binary", Owner("anna").record("example.peer"),
                                   path="/v1/names/example.peer"), "201")
        done = self.run_program(*self.command("p2pd-names-backup.service", [("/var/lib/p2pd-names/", f"{self.folder}/")]))
        self.assertEqual((done.status, done.err), (0, ""), done)
        process.terminate()
        self.assertEqual(process.wait(PATIENCE), 0)
        # As the guide puts a backup back.
        os.replace(os.path.join(self.folder, "backup.sqlite"), os.path.join(self.folder, "names.sqlite"))
        process = self.start_program("names", "serve", "--db", "names.sqlite", "--listen", "127.0.0.1:0")
        port = int(program.read_line(process.stdout).rsplit(":", 1)[1])
        client = Client(port)
        self.addCleanup(client.close)
        self.assertEqual(client.lookup("example.peer")[0], 200)

    def curl(self, process, port, *args, path):
        done = subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", os.path.join(CERTIFICATES, "ca.pem"), "--resolve",
             f"{TLS_NAME}:{port}:127.0.0.1", *args, f"https://{TLS_NAME}:{port}{path}"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, (done.stderr, process.poll()))
        return done.stdout

    def test_the_api_guides_commands(self):
        """docs/names-api.md: each curl command does what the text says, and what is shown is what comes."""
        process = self.start_program("names", "serve", "--db", "names.sqlite", "--listen", "127.0.0.1:0")
        port = int(program.read_line(process.stdout).rsplit(":", 1)[1])
        anna = Owner("anna")
        self.write("record.json", anna.record("example.peer"))
        self.write("deletion.json", anna.record("example.peer", "", sequence=2))
        with open(os.path.join(ROOT, "docs/names-api.md"), encoding="utf-8") as file:
            commands = re.findall(r"^curl .*$", file.read(), flags=re.M)
        self.assertEqual(len(commands), 5)
        said = [subprocess.run(command.replace("7353", str(port)), shell=True, cwd=self.folder, capture_output=True, text=True,
                               check=True).stdout for command in commands]
        self.assertEqual(json.loads(said[0])["error"]["code"], "not_found")
        self.assertEqual(json.loads(said[1])["sequence"], 1)
        self.assertEqual(json.loads(said[2])["value"], "")
        self.assertEqual(json.loads(said[3])["names"], 1)
        self.assertIn("p2pd_names_requests_total", said[4])
        self.assertIsNone(process.poll())

    @unittest.skipIf(NGINX is None, "nginx is not installed")
    def test_behind_nginx(self):
        process = self.start_program("names", "serve", "--db", "names.sqlite", "--listen", "127.0.0.1:0", "--trust-forwarded",
                                     "--names-per-source", "1")
        behind = int(program.read_line(process.stdout).rsplit(":", 1)[1])
        port = free_port()
        self.adapted("nginx-names.conf", [
            (r"127\.0\.0\.1:7353", f"127.0.0.1:{behind}"), (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            (r"^ *listen \[::\]:443 ssl;\n", ""), (r"/etc/p2pd-servers/server", f"{CERTIFICATES}/server")])
        self.write("main.conf", f"daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log; events {{}}\n"
                   f"http {{ access_log off; client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;\n"
                   f"fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;\n"
                   f"include {self.folder}/nginx-names.conf; }}\n")
        server = self.start_server(NGINX, "-p", self.folder, "-c", f"{self.folder}/main.conf", "-g", "user root;")
        self.connect(server, port)
        anna, bob = Owner("anna"), Owner("bob")
        put = ("-X", "PUT", "--data-binary")
        self.assertEqual(self.curl(server, port, *put, anna.record("a.peer"), path="/v1/names/a.peer"), "201")
        lie = ("-H", "X-Forwarded-For: 192.0.2.1")
        self.assertEqual(self.curl(server, port, *put, bob.record("b.peer"), *lie, path="/v1/names/b.peer"), "429",
                         "what a client says of itself does not count")
        self.assertEqual(self.curl(server, port, "--interface", "127.0.0.2", *put, bob.record("b.peer"), path="/v1/names/b.peer"), "201")
        self.assertEqual(self.curl(server, port, path="/metrics"), "404")


def can_change_etc():
    """A namespace where /etc may be written without anybody noticing."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip", "openssl", "mosquitto_sub", "turnutils_uclient"))):
        return False
    script = "mkdir -p $0/a && mount -t tmpfs t $0/a && mkdir $0/a/u $0/a/w && mount -t overlay o -o lowerdir=/etc,upperdir=$0/a/u,workdir=$0/a/w /etc"
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(["unshare", "-mn", "sh", "-ec", script, folder], capture_output=True, check=False).returncode == 0


@unittest.skipIf(MOSQUITTO is None or TURNSERVER is None, "mosquitto and coturn are not both installed")
class WordForWord(ServerTest):
    @unittest.skipUnless(can_change_etc(), "needs root, overlayfs, openssl, and the clients of mosquitto and coturn")
    def test_the_guides_commands_files_and_units(self):
        done = subprocess.run(["unshare", "-mn", sys.executable, os.path.join(ROOT, "Tests/Program/guide_servers.py"), self.folder, program.BINARY],
                              capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        said = found["said"]
        self.assertEqual(found["modes"]["server.key"], "-rw-r----- root p2pd-servers")
        self.assertEqual(found["modes"]["turnserver.conf"], "-rw-r----- root turnserver", "the secret is in it")
        self.assertRegex(found["secret"], "^[0-9a-f]{64}$")
        self.assertEqual(found["realm"], "turn.example.org")
        for kind, count in (("brokers", 1), ("stun", 1), ("relays", 2)):
            self.assertEqual([server["outcome"] for server in found["netcheck"][kind]], ["answered"] * count, (found["netcheck"][kind], said))
        self.assertEqual((found["relayed"]["status"], found["relayed"]["out"]), (0, "hello\n"), (found["relayed"], said))
        self.assertEqual(len(found["tried"]), 4)
        for command, result in found["tried"].items():
            self.assertEqual(result["status"], 0, (command, result))
        self.assertIn("hello", found["tried"][next(iter(found["tried"]))]["out"])
        self.assertEqual(found["renewed"], [True, True], ("a reload takes the new certificate", said))
        self.assertEqual(found["alive"], [True, True], said)


class Files(ServerTest):
    def test_units(self):
        verify = shutil.which("systemd-analyze")
        if verify is None:
            self.skipTest("systemd-analyze is not installed")
        for name in sorted(name for name in os.listdir(GUIDE) if name.endswith((".service", ".timer"))):
            with self.subTest(name=name):
                done = subprocess.run(
                    [verify, "verify", "--man=no", os.path.join(GUIDE, name)], capture_output=True, text=True, check=False)
                lines = [line for line in done.stderr.splitlines() if name in line]
                missing = [line for line in lines if "is not executable" in line and "No such file" in line]
                self.assertEqual(lines, missing, done.stderr)

    def test_compose_mounts_what_is_there_where_the_servers_look(self):
        compose = self.read_guide("compose.yaml")
        mounts = dict(re.findall(r"^ +- \./(\S+?):(\S+?):ro$", compose, flags=re.M))
        self.assertEqual(set(mounts), {"mosquitto.conf", "mosquitto.acl", "turnserver.conf", "server.pem", "server.key"})
        for name, inside in mounts.items():
            self.assertEqual(inside, f"/etc/p2pd-servers/{name}")
            if not name.startswith("server."):
                self.assertTrue(os.path.exists(os.path.join(GUIDE, name)), name)
        used = re.findall(r"/etc/p2pd-servers/\S+?(?=[\s\"]|$)", self.read_guide("mosquitto.conf") + self.read_guide("turnserver.conf"))
        self.assertLessEqual(set(used), set(mounts.values()))

    @unittest.skipIf(importlib.util.find_spec("yaml") is None, "PyYAML is not installed")
    def test_compose_is_yaml_and_runs_what_the_units_run(self):
        import yaml

        services = yaml.safe_load(self.read_guide("compose.yaml"))["services"]
        self.assertEqual(set(services), {"broker", "relay", "names"})
        for service in services.values():
            self.assertLessEqual(set(service), {"image", "build", "command", "restart", "ports", "network_mode", "volumes"})
        for service, unit in (("broker", "p2pd-broker"), ("relay", "p2pd-relay"), ("names", "p2pd-names")):
            line = re.search(r"^ExecStart=(.*)$", self.read_guide(f"{unit}.service"), flags=re.M)[1].split()
            options = [word for word in services[service]["command"] if word.startswith("-")]
            self.assertLessEqual(set(options), set(line), "the same options")

    def test_guide_names_every_file(self):
        guide = self.read_guide("README.md")
        for name in os.listdir(GUIDE):
            self.assertTrue(name == "README.md" or name in guide, name)


if __name__ == "__main__":
    unittest.main()
