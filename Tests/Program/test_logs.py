"""A running node from outside: `logs`, `trace`, `stop`."""

import json
import signal
import subprocess
import unittest

from control_kit import ECHO, Control
from program import PATIENCE, Left, end, left, read_line, read_until


class StopAndLogs(Control):
    def test_stop_waits_until_the_process_is_gone(self):
        process, address = self.host(text=ECHO.replace("return M", "function M.end_cb(p, r) print('ended ' .. r) end\nreturn M"))
        self.client(address)
        out = self.ok("stop")
        self.assertIn(f"pid {process.pid}", out)
        # Gone already: no waiting here.
        self.assertEqual(process.poll(), 0, Left(process))
        self.assertIn("ended local", process.stderr.read().decode())
        self.fails("stop", words="no node of yours")

    def test_a_node_that_hangs_is_stopped_too(self):
        process, address = self.host("--time-limit", "3600", text="local M = {}\nfunction M.msg_cb(m, t, p) p:send('<' .. m .. '>') if m == 'hang' then table.sort({1, 2, 3}, function() while true do end end) end end\nreturn M")
        client = self.client(address)
        raw = self.raw()
        raw.send(id=0, op="status")
        self.assertTrue(raw.next()["ok"])
        client.stdin.write(b"hang\n")
        client.stdin.flush()
        self.assertEqual(read_line(client.stdout), "<hang>\n")
        raw.send(id=1, op="stop")
        self.assertEqual(process.wait(PATIENCE), 128 + signal.SIGALRM, Left(process))

    def test_logs_and_follow(self):
        _, address = self.host()
        client = self.client(address)
        self.say(client, "log")
        self.assertIn("asked to log", self.ok("logs"))
        self.assertEqual(self.ok("logs", "-n", "0"), "")
        self.assertEqual(len(self.ok("logs", "-n", "1").splitlines()), 1)
        line = json.loads(self.ok("logs", "-n", "1", "--json"))
        self.assertEqual((line["level"], line["message"]), ("info", "asked to log"))
        follow = self.start_program("logs", "-f")
        read_until(follow.stdout, "asked to log")
        self.say(client, "log")
        read_until(follow.stdout, "asked to log")

    def test_follow_ends_with_the_node(self):
        process, address = self.host()
        self.say(self.client(address), "log")
        follow = self.start_program("logs", "-f")
        read_until(follow.stdout, "asked to log")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(follow.wait(PATIENCE), 1)
        self.assertIn("has ended", left(follow))

    def test_a_slow_reader_loses_lines_and_is_told(self):
        process, address = self.host("--time-limit", "60", "--log-level", "info")
        self.addCleanup(end, drain(process.stderr))
        raw = self.raw()
        raw.send(id=5, op="logs", follow=True, lines=0)
        raw.send(id=6, op="status")
        self.assertEqual(raw.next()["id"], 6)
        client = self.client(address)
        client.stdin.write(b"flood\n")
        client.stdin.flush()
        self.assertEqual(read_line(client.stdout), "<flood>\n")
        seen, dropped = 0, 0
        while seen + dropped < 20_000:
            event = raw.next()
            if event["event"] == "dropped":
                dropped += event["count"]
            elif "flood" in event["log"]["message"]:
                seen += 1
        self.assertEqual(seen + dropped, 20_000)
        self.assertGreater(dropped, 0)
        # And it goes on.
        self.say(client, "log")
        self.assertIn("asked to log", raw.next()["log"]["message"])


def drain(stream):
    """Nobody looks, but the other side is not held up."""
    return subprocess.Popen(["cat"], stdin=stream, stdout=subprocess.DEVNULL)


class Tracing(Control):
    def test_a_protocol(self):
        _, address = self.host()
        trace = self.start_program("trace", "echo")
        self.assertIn("tracing 0 pipes", read_line(trace.stderr))
        self.client(address)
        lines = [read_line(trace.stdout) for _ in range(3)]
        self.assertRegex(lines[0], r"^\d\d:\d\d:\d\d\.\d{3}  opened +\d+ +127\.0\.0\.1:\d+\n$")
        self.assertRegex(lines[1], r'  in +\d+ +127\.0\.0\.1:\d+ +5 B +"hello"\n$')
        self.assertRegex(lines[2], r'  out +\d+ +127\.0\.0\.1:\d+ +7 B +"<hello>"\n$')

    def test_a_pipe_until_it_ends(self):
        _, address = self.host()
        client = self.client(address)
        pipe = json.loads(self.ok("pipes", "--json"))[0]["id"]
        trace = self.start_program("trace", str(pipe), "--hex", "--bytes", "4")
        read_line(trace.stderr)
        self.say(client, "hello again")
        shown = read_until(trace.stdout, "|<hel|")
        self.assertIn("68 65 6c 6c", shown)
        self.assertIn("...", shown)
        client.stdin.close()
        end(client, close=False)
        self.assertEqual(trace.wait(PATIENCE), 0)
        self.assertIn("the pipe has ended", trace.stderr.read().decode())

    def test_json_and_what_is_not_there(self):
        _, address = self.host()
        trace = self.start_program("trace", "--json", "echo")
        raw = self.raw()
        raw.send(id=1, op="status")
        raw.next()
        while True:
            raw.send(id=2, op="trace", protocol="echo")
            if raw.next()["event"] == "tracing":
                break
        self.client(address)
        self.assertEqual(raw.next()["event"], "opened")
        message = raw.next()
        self.assertEqual((message["direction"], message["size"], bytes.fromhex(message["data"])), ("in", 5, b"hello"))
        raw.send(id=3, op="cancel", request=2)
        answers = [raw.next() for _ in range(3)]
        self.assertIn({"id": 2, "ok": True, "result": {}}, answers)
        self.assertIn({"id": 3, "ok": True, "result": {}}, answers)
        self.fails("trace", "nobody", words="no protocol")
        self.fails("trace", "99999", words="no open pipe")


if __name__ == "__main__":
    unittest.main()
