"""Relays: `p2pd.turn_client` against a real coturn on this machine, and relayed paths between homes of the laboratory."""

import os
import shutil
import socket
import subprocess
import sys
import time
import unittest

from program import BINARY, PATIENCE, ROOT, ProgramTest
from test_lab import LAB, MISSING

COTURN = shutil.which("turnserver", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
HERE = os.path.dirname(os.path.realpath(__file__))
SCRIPT = os.path.join(HERE, "lua", "turn.lua")
UNIT_TESTS = os.path.join(ROOT, ".build/debug/p2pd-luaPackageTests.xctest")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@unittest.skipIf(COTURN is None, "coturn is not installed (Debian: coturn); scripts/test installs it")
class TurnClient(ProgramTest):
    def coturn(self, *lines):
        """A server of the test's own; gives its port."""
        port = free_port()
        conf = self.write("turn.conf", "\n".join([
            f"listening-port={port}", "listening-ip=127.0.0.1", "relay-ip=127.0.0.1", "allow-loopback-peers", "no-cli",
            "no-tls", "no-dtls", "fingerprint", "simple-log", "log-file=stdout", "realm=test", "relay-threads=1",
            f"pidfile={self.folder}/pid", f"userdb={self.folder}/db", *lines]))
        process = subprocess.Popen([COTURN, "-c", conf], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return port
            except OSError:
                self.assertLess(time.monotonic(), deadline, "coturn does not listen")
                time.sleep(0.02)

    def test_two_clients_talk_and_failures_have_their_codes(self):
        port = self.coturn("lt-cred-mech", "user=ann:secret")
        done = self.run_program("exec", SCRIPT, "alone", f"turn:ann:secret@127.0.0.1:{port}")
        self.assertEqual(done.status, 0, done)
        self.assertIn("all held", done.out)

    def test_a_shared_secret_in_the_place_of_a_password(self):
        port = self.coturn("use-auth-secret", "static-auth-secret=hush")
        script = self.write("rest.lua", f"""
            local p2pd = require "p2pd"
            local turn = assert(p2pd.turn_client {{ server = "127.0.0.1:{port}", secret = "hush", user = "ann" }})
            print(select(2, turn:get_tups()))
            local _, err = p2pd.turn_client {{ server = "127.0.0.1:{port}", secret = "loud", transport = "udp" }}
            print(err.code)""")
        done = self.run_program("exec", script)
        self.assertEqual(done.status, 0, done)
        self.assertRegex(done.out, r"^127\.0\.0\.1:\d+\npermission\n$")


@unittest.skipIf(MISSING, f"the NAT laboratory: {MISSING}")
class Relayed(ProgramTest):
    def scene(self, what, *homes):
        name = f"r{os.getpid()}{what[:3]}"
        inside = os.path.join(HERE, "lab_relay.py")
        done = subprocess.run(
            [sys.executable, LAB, "-n", name, "run", *homes, "--delay", "10", "--", sys.executable, inside, name, what, BINARY,
             UNIT_TESTS], capture_output=True, text=True, timeout=120)
        print(done.stdout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_scripts_behind_any_router_talk_through_a_relay(self):
        self.scene("scripts", "a=symrandom", "b=symrandom", "c=portrestricted+udpblock")

    @unittest.skipUnless(os.path.exists(UNIT_TESTS), f"the unit tests are not built ({UNIT_TESTS})")
    def test_streams_between_symmetric_routers(self):
        self.scene("streams", "a=symrandom", "b=symrandom", "c=portrestricted+udpblock")


if __name__ == "__main__":
    unittest.main()
