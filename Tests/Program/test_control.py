"""A running node told what to do: `reload`, `generations`, `rollback`, and the socket that carries it."""

import json
import os
import socket
import subprocess
import time
import unittest

from control_kit import ECHO, Control
from program import PATIENCE, read_line


class Reloading(Control):
    """The commands; what a reload does in full is tested beside the engine."""

    def unwatched(self, *scripts, text=ECHO):
        """A node that reloads when told to, and not when a file is saved."""
        return self.start_node("--no-watch", *(scripts or [self.write("echo.lua", text)]))

    def test_reload_generations_and_rollback(self):
        _, address = self.unwatched()
        client = self.client(address)
        self.assertIn("unchanged", self.ok("reload"))
        self.write("echo.lua", ECHO.replace('"<" .. msg', '"new <" .. msg'))
        self.assertIn("would be taken", self.ok("reload", "--dry-run"))
        self.say(client, "still the old one")
        self.assertRegex(self.ok("reload", "echo"), r"^echo: generation \d+ serves")
        client.stdin.write(b"x\n")
        client.stdin.flush()
        self.assertEqual(read_line(client.stdout), "new <x>\n")
        protocol = json.loads(self.ok("status", "--json"))["protocols"][0]
        self.assertEqual((protocol["on_probation"], protocol["last_reload"]["result"]), (True, "active"))
        out = self.ok("generations")
        self.assertRegex(out, r"(?m)^PROTOCOL +ID +VERSION +PHASE +AGE +HASH +MESSAGES +ERRORS +PIPES +KEPT BY$")
        listed = json.loads(self.ok("generations", "--json"))
        self.assertEqual([g["phase"] for g in listed], ["live", "standby"])
        self.assertEqual(listed[0]["id"], protocol["generation"])
        # State and pipes stay, whatever code serves.
        self.assertEqual(self.ok("attach", "-e", "protocols.echo.state.count"), "3\n")
        self.assertIn("rolled back", self.ok("rollback", "echo"))
        self.say(client, "the old one again")
        self.assertIn("rolled back", self.ok("status"))

    def test_generations_names_what_holds_old_code(self):
        text = """
            local M = {} -- 0
            function M.msg_cb(msg, tup, pipe)
              if msg == "keep" then pipe.data = { cb = function() return print end } end
              pipe:send("<" .. msg .. ">")
            end
            return M"""
        _, address = self.unwatched(text=text)
        client = self.client(address)
        self.say(client, "keep")
        # The one before the last stands by while its successor is on probation.
        for count in "12":
            self.write("echo.lua", text.replace("-- 0", "-- " + count))
            self.ok("reload")
        deadline = time.monotonic() + PATIENCE
        while True:
            oldest = json.loads(self.ok("generations", "--json"))[-1]
            if (oldest["phase"], oldest["id"]) == ("retired", 1) or time.monotonic() > deadline:
                break
        self.assertRegex(oldest["kept_alive_by"][0], r"^held by \(p2pd\.pipe \d+: .*\)\.data\.cb$")

    def test_a_bad_save_costs_nothing_and_is_said(self):
        _, address = self.unwatched()
        client = self.client(address)
        path = self.write("echo.lua", "local M = {}\nfunction M.msg_cb(\nreturn M\n")
        done = self.fails("reload", words=["not reloaded", f"{path}:3:"])
        self.assertEqual(done.out, "")
        self.say(client, "still there")
        self.assertIn(f"{path}:3:", self.ok("status"))
        report = json.loads(self.run_program("reload", "--json").out)[0]
        self.assertEqual((report["result"], report["good"], report["protocol"]), ("rejected", False, "echo"))
        self.write("echo.lua", "local M = {}\nfunction M.msg_cb() end\nfunction M.check() error('no') end\nreturn M\n")
        self.fails("reload", words="no")
        self.say(client, "still there, too")
        self.write("echo.lua", ECHO)
        self.ok("reload")
        self.assertNotIn("\nat ", self.ok("status"))

    def test_one_protocol_of_several(self):
        first, second = self.write("a.lua", ECHO), self.write("b.lua", ECHO)
        self.unwatched(first, second)
        for path in ["a.lua", "b.lua"]:
            self.write(path, ECHO + "\n-- touched\n")
        self.assertRegex(self.ok("reload", "b"), r"^b: generation \d+ serves.*\n")
        self.assertEqual(len(json.loads(self.ok("reload", "--json"))), 2)
        self.fails("reload", "nobody", words="nobody")
        self.fails("rollback", "nobody", words="nobody")

    def test_a_prompt_follows_its_protocol(self):
        self.unwatched(text="number = 1\n" + ECHO)
        raw = self.raw()
        raw.send(id=1, op="attach", protocol="echo")
        raw.send(id=2, op="evaluate", code="number")
        self.assertEqual([raw.next()["id"], raw.next()["result"]["values"]], [1, "1"])
        self.write("echo.lua", "number = 2\n" + ECHO)
        self.ok("reload")
        raw.send(id=3, op="evaluate", code="number")
        self.assertEqual(raw.next()["result"]["values"], "2")


class TheSocket(Control):
    def test_garbage_is_answered_and_harms_nobody(self):
        self.host()
        raw = self.raw()
        self.assertEqual((raw.greeting["p2pd_control"], raw.greeting["name"]), (1, "echo"))
        for garbage in [b"hello", b"{", b"[]", b"\x00\xff", b"{\"id\":1}", b"[" * 100_000]:
            raw.socket.sendall(garbage + b"\n")
            self.assertEqual(raw.next()["error"]["code"], "bad_request")
        raw.send(id=9, op="fly")
        self.assertEqual(raw.next()["error"]["code"], "unknown_op")
        raw.send(id=10, op="evaluate", code="1")
        self.assertEqual(raw.next()["error"]["code"], "bad_request")
        self.assertIn("echo, pid", self.ok("status"))

    def test_a_line_without_end_is_cut_off(self):
        self.host()
        raw = self.raw()
        try:
            raw.socket.sendall(b"x" * (2 << 20))
        except OSError:
            pass  # it was faster
        self.assertEqual(raw.next()["error"]["code"], "too_long")
        self.assertIsNone(raw.next())

    def test_many_requests_and_clients_at_once(self):
        self.host()
        clients = [self.raw() for _ in range(32)]
        extra = self.raw()
        self.assertEqual(extra.greeting["error"]["code"], "limit")
        for raw in clients:
            raw.socket.sendall(b"".join(json.dumps({"v": 1, "id": i, "op": "status"}).encode() + b"\n" for i in range(50)))
        for raw in clients:
            self.assertEqual([raw.next()["id"] for _ in range(50)], list(range(50)))
        for raw in clients:
            raw.close()
        deadline = time.monotonic() + PATIENCE
        while "error" in self.raw().greeting:
            self.assertLess(time.monotonic(), deadline)

    def test_the_end_of_the_input_is_not_the_end_of_the_answers(self):
        self.host()
        raw = self.raw()
        raw.send(id=1, op="status")
        raw.socket.shutdown(socket.SHUT_WR)
        self.assertTrue(raw.next()["ok"])
        self.assertIsNone(raw.next())

    def test_a_client_that_reads_nothing_holds_nobody_up(self):
        _, address = self.host()
        raw = self.raw()
        try:
            raw.socket.settimeout(2)
            for i in range(200_000):
                raw.send(id=i, op="status")
        except OSError:
            pass  # the node takes no more of its requests
        self.assertIn("echo, pid", self.ok("status"))
        self.assertEqual(self.run_program("connect", address, stdin="x").out, "<x>\n")

    def test_another_user_is_refused(self):
        if os.geteuid() != 0:
            self.skipTest("only root can be another user")
        self.host()
        path = self.socket_path()
        for folder in [self.folder, self.runtime, os.path.dirname(path)]:
            os.chmod(folder, 0o755)
        os.chmod(path, 0o666)
        code = f"import os, socket; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect({path!r}); print(s.makefile().readline())"
        done = subprocess.run(["python3", "-c", code], capture_output=True, text=True, timeout=PATIENCE)
        self.assertEqual(json.loads(done.stdout)["error"]["code"], "permission", done)


if __name__ == "__main__":
    unittest.main()
