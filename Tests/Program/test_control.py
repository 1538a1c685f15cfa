"""A running node from outside: `status`, `pipes`, `logs`, `trace`, `attach`, `stop`, and the socket they use."""

import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import time
import unittest

from program import BINARY, PATIENCE, Left, ProgramTest, Terminal, end, left, read_line, read_until

ECHO = """
local p2pd = require "p2pd"
local M = {}
function M.start() p2pd.state.count = p2pd.state.count or 0 end
function M.msg_cb(msg, client_tup, pipe)
  p2pd.state.count = p2pd.state.count + 1
  if msg == "log" then p2pd.log.info("asked to log") end
  if msg == "flood" then for i = 1, 20000 do p2pd.log.info("flood " .. i .. ("x"):rep(200)) end end
  pipe:send("<" .. msg .. ">", client_tup)
end
return M
"""


class Control(ProgramTest):
    def setUp(self):
        super().setUp()
        # Short: a socket's path has at most 107 bytes.
        self.runtime = os.path.join(self.folder, "run")
        os.mkdir(self.runtime, 0o700)

    def environment(self, **more):
        return super().environment(**{"XDG_RUNTIME_DIR": self.runtime, **more})

    def host(self, *options, name="echo.lua", text=ECHO, env=None):
        return self.start_node(*options, self.write(name, text), env=env)

    def client(self, address, *options):
        """`connect` in a pipeline that stays open."""
        process = self.start_program("connect", "--timeout", "60", *options, address)
        self.say(process, "hello")
        return process

    def say(self, process, line):
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        self.assertEqual(read_line(process.stdout), f"<{line}>\n", Left(process))

    def ok(self, *args, **more):
        done = self.run_program(*args, **more)
        self.assertEqual(done.status, 0, done)
        return done.out

    def fails(self, *args, words, status=1, **more):
        done = self.run_program(*args, **more)
        self.assertEqual(done.status, status, done)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, done.err, done)
        return done

    def socket_path(self):
        names = os.listdir(os.path.join(self.runtime, "p2pd-lua"))
        self.assertEqual(len(names), 1, names)
        return os.path.join(self.runtime, "p2pd-lua", names[0])

    def raw(self):
        """A connection to the control socket, its greeting read."""
        raw = Raw(self.socket_path())
        self.addCleanup(raw.close)
        return raw


class Raw:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        self.greeting = json.loads(self.file.readline())

    def send(self, **request):
        self.socket.sendall(json.dumps({"v": 1, **request}).encode() + b"\n")

    def next(self):
        try:
            line = self.file.readline()
        except ConnectionResetError:
            line = b""  # the node had not read everything when it hung up
        return json.loads(line) if line else None

    def close(self):
        self.file.close()
        self.socket.close()


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


class Attaching(Control):
    def ask(self, code, *options):
        return self.ok("attach", "-e", code, *options).rstrip("\n")

    def test_a_pipeline(self):
        self.host()
        self.assertEqual(self.ok("attach", stdin="return 1+1"), "2\n")
        self.assertEqual(self.ok("attach", stdin="local x = 20\nprint('a')\nreturn x + 1, 'b'\n"), "a\n21\tb\n")
        self.assertEqual(self.ok("attach", stdin=""), "")
        done = self.fails("attach", stdin="local function f() error('boom') end\nf()", words=["prompt:1: boom", "stack traceback"])
        self.fails("attach", stdin="for", words="<eof>")
        self.fails("attach", stdin="x" * (600 << 10), words="cannot read")

    def test_the_node_is_at_hand(self):
        _, address = self.host()
        client = self.client(address)
        self.assertEqual(self.ask("protocols.echo.state.count"), "1")
        self.assertEqual(self.ask("p2pd.state.count", "--protocol", "echo"), "1")
        self.assertEqual(self.ask("node:address()"), address)
        self.assertEqual(self.ask("#pipes"), "1")
        self.ask("for id, pipe in pairs(pipes) do pipe:send('from the prompt') end")
        self.assertEqual(read_line(client.stdout), "from the prompt\n")
        self.assertEqual(self.ask("p2pd.sleep(0.01) return 'slept'"), "slept")
        self.fails("attach", "--protocol", "nobody", "-e", "1", words="no protocol")

    def test_read_only(self):
        _, address = self.host()
        self.client(address)
        self.assertEqual(self.ask("p2pd.state.count", "--read-only", "--protocol", "echo"), "1")
        for code in ["p2pd.state.count = 5", "for id, pipe in pairs(pipes) do pipe:send('x') end", "pipes()[1]:close()", "os.exit(1)"]:
            self.fails("attach", "--read-only", "--protocol", "echo", "-e", code, words="")
        self.assertEqual(self.ask("protocols.echo.state.count"), "1")

    def test_an_error_or_a_loop_harms_nobody(self):
        _, address = self.host("--time-limit", "0.2")
        client = self.client(address)
        self.fails("attach", "-e", "while true do end", words="without a wait")
        self.fails("attach", "-e", "local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end", words="memory")
        self.fails("attach", "-e", "error({})", words="")
        self.say(client, "still there")

    def test_a_client_that_vanishes_takes_its_line_along(self):
        self.host()
        attach = self.start_program("attach", "-e", "local _ <close> = setmetatable({}, {__close = function() p2pd.log.info('let go') end}) print('on') p2pd.sleep(3600)")
        self.assertEqual(read_line(attach.stdout), "on\n")
        attach.kill()
        self.assertIn("let go", self.wait_for_log("let go"))

    def wait_for_log(self, words):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            out = self.ok("logs")
            if words in out:
                return out
            time.sleep(0.05)
        return ""

    def test_at_a_terminal(self):
        self.host()
        terminal = Terminal(self, "attach")
        terminal.expect("Lua in echo")
        terminal.type("1 + 1\r")
        terminal.expect("> 1 + 1\n")
        terminal.expect("2\n")
        terminal.type("for i = 1, 2 do\r")
        terminal.expect(">> ")
        terminal.type("print('line ' .. i)\rend\r")
        terminal.expect("line 1\n")
        terminal.expect("line 2\n")
        terminal.type("{ a = 'x', list = { 1, 2 } }\r")
        terminal.expect('{ a = "x", list = { 1, 2 } }\n')
        terminal.type("error('boom')\r")
        terminal.expect("prompt:1: boom")
        terminal.type("proto\t.echo.na\t\r")
        terminal.expect("> protocols.echo.name\n")
        terminal.expect('"echo"\n')
        terminal.type("p2pd.l\t\t")
        terminal.expect("list_interfaces")
        terminal.type("\x15\x1b[A\r")
        terminal.expect("> protocols.echo.name\n")
        terminal.expect('"echo"\n')
        terminal.type("p2pd.sleep(3600)\r")
        terminal.expect("> p2pd.sleep(3600)\n")
        terminal.type("\x03")
        terminal.expect("interrupted\n")
        terminal.type("if true then\r")
        terminal.expect(">> ")
        terminal.type("\x03")
        terminal.expect("> ")
        terminal.type("'still ' .. 'here'\r")
        terminal.expect('"still here"\n')
        terminal.type("\x1b[200~local a = 1\nprint(a)\n\x1b[201~")
        terminal.expect("nil\n")
        terminal.type("\x04")
        self.assertEqual(terminal.wait(), 0)
        # The lines are there the next time.
        again = Terminal(self, "attach")
        again.expect("Lua in echo")
        again.type("\x1b[A\x1b[A\x1b[A\r")
        again.expect('"still here"\n')

    def test_the_terminal_hears_of_the_nodes_end(self):
        process, _ = self.host()
        terminal = Terminal(self, "attach")
        terminal.expect("> ")
        process.send_signal(signal.SIGTERM)
        terminal.expect("has ended")
        self.assertEqual(terminal.wait(), 1)


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
              pipe:send("ok")
            end
            return M"""
        _, address = self.unwatched(text=text)
        client = self.client(address)
        client.stdin.write(b"keep\n")
        client.stdin.flush()
        self.assertEqual(read_line(client.stdout), "ok\n")
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
