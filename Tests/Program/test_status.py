"""A running node from outside: `status`, `pipes`, and how the commands find it."""

import json
import os
import signal
import stat
import time
import unittest

from control_kit import ECHO, Control
from program import PATIENCE, Left, Terminal, end, left, read_line, read_until


class StatusAndPipes(Control):
    def test_status_tells_who_and_where(self):
        _, address = self.host()
        out = self.ok("status")
        for word in ["echo, pid ", address, "127.0.0.1:", "echo (default)", "event loop", "Lua "]:
            self.assertIn(word, out)
        self.assertNotIn("\x1b", out)

    def test_status_as_json(self):
        process, address = self.host("--name", "probe")
        client = self.client(address)
        report = json.loads(self.ok("status", "--json"))
        self.assertEqual((report["name"], report["pid"], report["address"]), ("probe", process.pid, address))
        self.assertEqual(len(report["key"]), 52)
        self.assertEqual(report["listening"], [f"127.0.0.1:{report['port']}"])
        self.assertEqual([(p["name"], p["version"], p["messages"], p["pipes"]) for p in report["protocols"]], [("echo", 1, 1, 1)])
        self.assertEqual((report["traffic"]["messages_in"], report["traffic"]["messages_out"]), (1, 1))
        self.assertEqual(report["pipes"], {"open": 1, "between_nodes": 1})
        self.assertGreater(report["memory"]["lua"], 10_000)
        self.assertGreater(report["memory"]["process"], 1_000_000)
        self.assertIsNone(report["state_folder"])
        # What a pipe carried is counted on when it has ended.
        end(client)
        self.wait_for(lambda: json.loads(self.ok("status", "--json"))["pipes"]["open"] == 0)
        self.assertEqual(json.loads(self.ok("status", "--json"))["traffic"]["messages_in"], 1)

    def wait_for(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_errors_are_counted_and_the_last_is_shown(self):
        _, address = self.host(text="local M = {}\nfunction M.msg_cb(m, t, p) if m == 'bad' then error('boom') end p:send('<' .. m .. '>') end\nreturn M")
        client = self.client(address)
        client.stdin.write(b"bad\n")
        self.say(client, "on")
        report = json.loads(self.ok("status", "--json"))
        self.assertEqual((report["errors"]["count"], report["protocols"][0]["errors"]), (1, 1))
        self.assertIn("boom", report["errors"]["last"]["message"])
        self.assertIn("boom", self.ok("status"))

    def test_watch_gives_a_line_a_second_until_the_node_ends(self):
        process, _ = self.host()
        watch = self.start_program("status", "--watch", "--json")
        first, second = json.loads(read_line(watch.stdout)), json.loads(read_line(watch.stdout))
        self.assertGreater(second["uptime"], first["uptime"] + 0.5)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(watch.wait(PATIENCE), 1)
        self.assertIn("has ended", left(watch))

    def test_watch_redraws_at_a_terminal(self):
        self.host()
        terminal = Terminal(self, "status", "--watch", columns=60)
        terminal.expect("event loop")
        terminal.expect("event loop")
        terminal.type("\x03")
        self.assertNotEqual(terminal.wait(), 0)

    def test_pipes_are_listed_and_one_is_killed(self):
        _, address = self.host()
        self.assertEqual(self.ok("pipes"), "no pipe is open\n")
        client = self.client(address)
        out = self.ok("pipes")
        self.assertRegex(out, r"(?m)^ID +PROTOCOL +PEER +PATH +AGE +IN +OUT +QUEUE +UNSENT +RTT$")
        self.assertIn("same machine", out)
        pipe = json.loads(self.ok("pipes", "--json"))[0]
        self.assertEqual((pipe["protocol"], pipe["proto"], pipe["messages_in"], pipe["unsent"]), ("echo", "tcp", 1, 0))
        self.assertEqual(len(pipe["peer_id"]), 52)
        self.assertEqual(self.ok("pipes", "--kill", str(pipe["id"])), f"pipe {pipe['id']} has ended\n")
        self.assertEqual(client.wait(PATIENCE), 1)
        self.assertIn("operator", left(client))
        self.fails("pipes", "--kill", str(pipe["id"]), words="no open pipe")
        self.assertEqual(self.ok("pipes", "--json"), "[]\n")


class Finding(Control):
    def test_no_node_and_the_remedy(self):
        self.fails("status", words=["no node of yours is running", "p2pd-lua run"])

    def test_several_nodes_are_listed_and_named(self):
        self.host("--name", "one")
        self.host("--name", "two")
        self.fails("status", words=["several nodes", "one", "two", "--node"])
        self.assertIn("two, pid", self.ok("status", "two"))
        key = json.loads(self.ok("status", "one", "--json"))["key"]
        self.assertIn("one, pid", self.ok("status", "--node", key[:9]))
        self.assertIn("one, pid", self.ok("status", env={"P2PD_NODE": "one"}))
        self.fails("pipes", "three", words=["three", "one", "two"])
        self.fails("status", "one", "--node", "one", words="once", status=2)

    def test_nodes_of_one_name_are_told_apart_by_key(self):
        self.host()
        self.host()
        self.fails("status", "echo", words="several running nodes fit")

    def test_what_a_killed_node_left_behind_is_cleaned(self):
        process, _ = self.host()
        path = self.socket_path()
        process.kill()
        process.wait()
        self.assertTrue(os.path.exists(path))
        self.fails("status", words="no node of yours")
        self.assertFalse(os.path.exists(path))

    def test_a_node_takes_its_dead_predecessors_place(self):
        script, state = self.write("echo.lua", ECHO), os.path.join(self.folder, "state")
        arguments = ["run", "--listen", "127.0.0.1", "--state-dir", state, script]
        first = self.start_program(*arguments)
        read_line(first.stdout)
        first.kill()
        first.wait()
        second = self.start_program(*arguments)
        self.assertTrue(read_line(second.stdout).startswith("p2pd1"), Left(second))
        self.assertEqual(json.loads(self.ok("status", "--json"))["pid"], second.pid)
        # A second node of the same key, at another port, has a socket of its own.
        third = self.start_program(*arguments, "--port", "0")
        self.assertTrue(read_line(third.stdout).startswith("p2pd1"), Left(third))
        self.assertEqual(len(os.listdir(os.path.join(self.runtime, "p2pd-lua"))), 2)

    def test_the_socket_is_the_owners_alone_and_goes_with_the_node(self):
        process, _ = self.host()
        path = self.socket_path()
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode), 0o700)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 0, Left(process))
        self.assertEqual(os.listdir(os.path.dirname(path)), [])

    def test_without_a_runtime_folder_the_state_folder_has_it(self):
        env = {"XDG_RUNTIME_DIR": ""}
        process, _ = self.host(env=env)
        folder = os.path.join(self.folder, ".local/state/p2pd-lua/control")
        self.assertEqual(len(os.listdir(folder)), 1)
        self.assertEqual(json.loads(self.ok("status", "--json", env=env))["pid"], process.pid)
        # Found from an environment that has a runtime folder, too.
        self.assertEqual(json.loads(self.ok("status", "--json"))["pid"], process.pid)

    def test_a_state_folder_of_its_own(self):
        env, state = {"XDG_RUNTIME_DIR": ""}, os.path.join(self.folder, "s")
        process = self.start_program(
            "run", "--listen", "127.0.0.1", "--state-dir", state, self.write("echo.lua", ECHO), env=env)
        self.assertTrue(read_line(process.stdout).startswith("p2pd1"), Left(process))
        self.fails("status", words="--state-dir", env=env)
        self.assertIn("echo, pid", self.ok("status", "--state-dir", state, env=env))

    def test_a_path_that_is_too_long_is_said_and_the_node_runs(self):
        deep = os.path.join(self.folder, "d" * 100)
        os.mkdir(deep)
        process, address = self.host(env={"XDG_RUNTIME_DIR": deep})
        self.assertIn("107", read_until(process.stderr, "no control socket") + read_line(process.stderr) + read_line(process.stderr))
        self.assertEqual(self.run_program("connect", address, stdin="x").out, "<x>\n")

    def test_no_control(self):
        self.host("--no-control")
        self.assertFalse(os.path.exists(os.path.join(self.runtime, "p2pd-lua")))
        self.fails("status", words="no node of yours")

    def test_bad_names_are_usage_errors(self):
        script = self.write("echo.lua", ECHO)
        for name in ["a b", "-x", "a/b", "x" * 65]:
            self.fails("run", f"--name={name}", script, words="name", status=2)


if __name__ == "__main__":
    unittest.main()
