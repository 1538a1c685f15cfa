"""`run` and `exec` with nodes on 127.0.0.1, and `connect` to them."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import unittest

from program import BINARY, PATIENCE, Left, ProgramTest, Terminal, left, read_line, read_until

ECHO = """
local M = {}
function M.msg_cb(msg, client_tup, pipe) pipe:send("<" .. msg .. ">", client_tup) end
return M
"""


class Run(ProgramTest):
    def host(self, text=ECHO, *options, name="probe.lua", env=None):
        return self.start_node(*options, self.write(name, text), env=env)

    def test_the_builtin_echo(self):
        _, address = self.host()
        done = self.run_program("connect", address, stdin="ECHO hi\n")
        self.assertEqual((done.status, done.out), (0, "hi\n"), done)

    def test_the_handler_answers_each_line(self):
        _, address = self.host()
        done = self.run_program("connect", address, stdin="one\ntwo\n")
        self.assertEqual((done.status, done.out), (0, "<one>\n<two>\n"), done)

    def test_bytes_cross_raw(self):
        _, address = self.host("local M = {}\nfunction M.msg_cb(m, _, p) p:send(m) end\nreturn M")
        data = os.urandom(1_000_003)
        done = self.run_program("connect", "--raw", address, stdin=data)
        self.assertEqual(done.status, 0, done.err)
        self.assertTrue(done.bytes == data, "the bytes differ")

    def test_several_protocols_by_name_and_a_wrong_one(self):
        first, second = self.write("a.lua", ECHO), self.write("b.lua", ECHO.replace("<", "["))
        process, address = self.start_node(first, second)
        self.assertEqual(self.run_program("connect", address, stdin="x").out, "<x>\n")
        self.assertEqual(self.run_program("connect", "--protocol", "b", address, stdin="x").out, "[x>\n")
        done = self.run_program("connect", "--protocol", "c", address, stdin="x")
        self.assertEqual(done.status, 1, done)
        self.assertIn("protocol", done.err)

    def test_the_command_it_shows_works(self):
        process = self.start_program(
            "run", "--ephemeral", "--listen", "127.0.0.1", self.write("probe.lua", ECHO), env={"P2PD_PROGRAM": "my run"})
        shown = read_until(process.stderr, "Control-C")
        line = next(line for line in shown.splitlines() if " connect " in line)
        self.assertTrue(line.strip().startswith("'my run' connect p2pd1"), line)
        done = self.run_program(*line.split()[2:], stdin="x")
        self.assertEqual(done.out, "<x>\n", done)

    def test_at_a_terminal(self):
        _, address = self.host()
        terminal = Terminal(self, "connect", address)
        terminal.expect("Connected to the node (direct, same machine)")
        terminal.type("hello\r")
        terminal.expect("> hello\n")
        terminal.expect("<hello>\n")
        terminal.type("\x04")
        self.assertEqual(terminal.wait(), 0)

    def test_standard_output_has_the_address_alone(self):
        process, _ = self.host("print('from the script')\n" + ECHO)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(out, b"")

    def test_a_stop_runs_end_cb_flushes_and_has_status_0(self):
        text = ECHO.replace(
            "return M", 'function M.end_cb(pipe, reason) print("ended: " .. reason) end\nreturn M')
        for number in [signal.SIGINT, signal.SIGTERM]:
            with self.subTest(number):
                process, address = self.host(text)
                client = self.start_program("connect", address)
                client.stdin.write(b"x\n")
                client.stdin.flush()
                self.assertEqual(read_line(client.stdout), "<x>\n")
                began = time.monotonic()
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE), 0)
                self.assertLess(time.monotonic() - began, 5)
                self.assertIn("ended: local", left(process))
                self.assertEqual(client.wait(PATIENCE), 0, Left(client))

    def test_a_second_signal_ends_at_once(self):
        text = ECHO + ""
        text = text.replace(
            "return M", 'function M.end_cb() while true do end end\nreturn M')
        process, address = self.host(text, "--time-limit", "60")
        client = self.start_program("connect", address)
        client.stdin.write(b"x\n")
        client.stdin.flush()
        self.assertEqual(read_line(client.stdout), "<x>\n")
        process.send_signal(signal.SIGINT)
        read_until(process.stderr, "closing")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(2), 128 + signal.SIGINT)

    def test_a_handler_that_raises_or_loops_does_not_end_the_node(self):
        text = """
local M = {}
function M.msg_cb(msg, client_tup, pipe)
  if msg == "raise" then error("boom") end
  if msg == "loop" then while true do pcall(error) end end
  pipe:send("fine", client_tup)
end
return M
"""
        process, address = self.host(text, "--time-limit", "0.3")
        done = self.run_program("connect", address, stdin="raise\nloop\nx\n")
        self.assertEqual((done.status, done.out), (0, "fine\n"), done)
        log = left(process)
        self.assertIn("probe.lua:4: boom", log)
        self.assertIn("probe.lua:5", log)

    def test_a_broken_script_opens_no_port_and_is_told_with_its_line(self):
        done = self.run_program("run", "--ephemeral", self.write("bad.lua", "local M = {\nreturn M\n"))
        self.assertEqual(done.status, 1, done)
        self.assertIn("bad.lua:2:", done.err)
        self.assertEqual(done.out, "")

    def test_missing_files_and_empty_folders(self):
        done = self.run_program("run", "nowhere.lua")
        self.assertEqual(done.status, 1, done)
        self.assertIn("there is no file nowhere.lua", done.err)
        os.mkdir(os.path.join(self.folder, "empty"))
        done = self.run_program("run", "empty")
        self.assertEqual(done.status, 1, done)
        self.assertIn("holds no script", done.err)

    def test_a_folder_is_its_scripts(self):
        os.mkdir(os.path.join(self.folder, "many"))
        for name in ["a", "b"]:
            self.write(f"many/{name}.lua", ECHO)
        self.write("many/a_test.lua", "error('a test is no handler')")
        process, address = self.start_node(os.path.join(self.folder, "many"))
        self.assertEqual(self.run_program("connect", "--protocol", "b", address, stdin="x").out, "<x>\n")

    def test_a_port_in_use_is_told_with_a_remedy(self):
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        self.addCleanup(taken.close)
        port = str(taken.getsockname()[1])
        done = self.run_program("run", "--ephemeral", "--listen", "127.0.0.1", "--port", port, self.write("a.lua", ECHO))
        self.assertEqual(done.status, 1, done)
        self.assertIn(port, done.err)
        self.assertIn("--port", done.err)

    def test_the_port_and_the_key_are_kept(self):
        script = self.write("a.lua", ECHO)
        seen = []
        for _ in range(2):
            process = self.start_program("run", "--listen", "127.0.0.1", script)
            address = read_line(process.stdout).strip()
            explained = self.run_program("addr", "explain", address).out
            seen.append([line for line in explained.splitlines() if line.startswith(("node id", "route"))])
            self.assertEqual(self.run_program("connect", address, stdin="x").out, "<x>\n", Left(process))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(seen[0], seen[1])

    def test_addr_gives_the_running_nodes_address(self):
        process = self.start_program("run", "--listen", "127.0.0.1", self.write("a.lua", ECHO))
        self.assertTrue(read_line(process.stdout).startswith("p2pd1"), Left(process))
        done = self.run_program("addr", "--listen", "127.0.0.1")
        self.assertEqual((done.status, done.err), (0, ""), done)
        talked = self.run_program("connect", done.out.strip(), stdin="x")
        self.assertEqual(talked.out, "<x>\n", talked)

    def test_json_log(self):
        process, address = self.host(ECHO, "--log-format", "json", "--log-level", "debug", "--quiet")
        self.run_program("connect", address, stdin="x")
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        lines = [json.loads(line) for line in process.stderr.read().decode().splitlines()]
        self.assertTrue(lines)
        for line in lines:
            self.assertLessEqual({"time", "level", "label", "message"}, set(line))

    def test_standard_error_that_nobody_reads_holds_up_nothing(self):
        script = self.write("loud.lua", """
            local M, count = {}, 0
            function M.msg_cb(msg, tup, pipe)
              count = count + 1
              for i = 1, 20 do print(count .. "/" .. i .. (" "):rep(4000) .. "end") end
              pipe:send("said " .. count)
            end
            return M""")
        node, address = self.start_node("--no-watch", script)
        client = self.start_program("connect", address)
        # Each message logs 80 KB: more than a pipe holds, and in the end more than the node keeps.
        for count in range(1, 41):
            client.stdin.write(b"x\n")
            client.stdin.flush()
            self.assertEqual(read_line(client.stdout), f"said {count}\n")
        node.send_signal(signal.SIGTERM)
        began = time.monotonic()
        self.assertEqual(node.wait(PATIENCE), 0, "it ends although its last words are not read")
        self.assertLess(time.monotonic() - began, 6)
        self.assertIn(b"/1 ", node.stderr.read())

    def test_a_reader_that_comes_late_is_told_what_it_missed(self):
        script = self.write("loud.lua", """
            local M, count = {}, 0
            function M.msg_cb(msg, tup, pipe)
              for _ = 1, 20 do
                count = count + 1
                print("line " .. count .. (" "):rep(4000))
              end
              pipe:send("said")
            end
            return M""")
        node, address = self.start_node("--no-watch", script)
        client = self.start_program("connect", address)
        for _ in range(20):
            client.stdin.write(b"x\n")
            client.stdin.flush()
            self.assertEqual(read_line(client.stdout), "said\n")
        seen = read_until(node.stderr, "line 400 ")
        lost = re.search(r"warn +p2pd.*: (\d+) log lines were lost: standard error is not read fast enough", seen)
        self.assertIsNotNone(lost, seen[:2000])
        self.assertEqual(len(re.findall(r": line \d+ ", seen)) + int(lost.group(1)), 400)

    def test_no_colours_in_a_file_or_where_they_are_not_wanted(self):
        process, _ = self.host()
        self.assertNotIn("\x1b", left(process))
        for env, coloured in [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]:
            with self.subTest(env):
                terminal = Terminal(
                    self, "run", "--ephemeral", "--listen", "127.0.0.1", self.write("probe.lua", ECHO), env=env)
                raw = ""
                while "Control-C" not in raw and terminal.read(time.monotonic() + PATIENCE):
                    raw = terminal.seen
                self.assertEqual("\x1b[" in raw, coloured, raw)

    def test_a_dead_address_lists_its_attempts(self):
        process, address = self.host()
        process.kill()
        process.wait()
        done = self.run_program("connect", address, stdin="x")
        self.assertEqual(done.status, 1, done)
        self.assertIn("refused", done.err)
        self.assertIn("127.0.0.1", done.err)

    def test_many_clients_over_the_limit_are_refused_and_it_is_logged(self):
        process, address = self.host(ECHO, "--max-pipes", "1")
        first = self.start_program("connect", address)
        first.stdin.write(b"x\n")
        first.stdin.flush()
        self.assertEqual(read_line(first.stdout), "<x>\n")
        self.assertEqual(self.run_program("connect", address, "--connect-timeout", "3", stdin="x").status, 1)
        self.assertIn("limit", left(process))


class Exec(ProgramTest):
    def exec(self, text, *args, options=(), stdin=""):
        return self.run_program("exec", "--ephemeral", *options, self.write("probe.lua", text), *args, stdin=stdin)

    def test_the_status_is_the_scripts(self):
        for text, status in [
            ("", 0), ("return 3", 3), ("return true", 0), ("return false", 1), ("os.exit(7)", 7), ("os.exit(true)", 0),
            ("os.exit(false)", 1), ("error('boom')", 1), ("local x =", 1),
        ]:
            with self.subTest(text):
                self.assertEqual(self.exec(text).status, status)

    def test_arguments_reach_the_script_untouched(self):
        done = self.exec("print(#arg, ...)\nprint(arg[0])", "a b", "--port", "-x", "")
        self.assertEqual(done.status, 0, done)
        self.assertTrue(done.out.startswith("4\ta b\t--port\t-x\t\n"), done)
        self.assertIn("probe.lua", done.out)

    def test_an_error_has_file_line_and_traceback(self):
        done = self.exec("local function inner() error('boom') end\ninner()")
        self.assertIn("probe.lua:1: boom", done.err)
        self.assertIn("traceback", done.err)

    def test_it_reads_standard_input(self):
        self.assertEqual(self.exec("print(io.read('a'))", stdin="hello").out, "hello\n")

    def test_the_sandbox_takes_away(self):
        self.assertEqual(self.exec("return io == nil and os.execute == nil", options=["--sandbox"]).status, 0)
        self.assertEqual(self.exec("return io ~= nil and os.execute ~= nil").status, 0)

    def test_limits(self):
        done = self.exec("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", options=["--memory", "4"])
        self.assertEqual(done.status, 1, done)
        self.assertIn("memory", done.err)
        done = self.exec("while true do end", options=["--time-limit", "0.2"])
        self.assertEqual(done.status, 1, done)
        self.assertIn("probe.lua:1", done.err)

    def test_a_signal_ends_a_wait(self):
        for number in [signal.SIGINT, signal.SIGTERM]:
            with self.subTest(number):
                process = self.start_program("exec", "--ephemeral", self.write(
                    "probe.lua", "print('ready') io.stdout:flush() require('p2pd').sleep(100)"))
                self.assertEqual(read_line(process.stdout), "ready\n")
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE), 128 + number, Left(process))

    FLOOD = """
local p2pd = require "p2pd"
p2pd.every(0.02, function() io.stderr:write("beat\\n") end)
for i = 1, 40000 do print(i, ("x"):rep(100)) end
"""

    def test_standard_output_that_nobody_reads_holds_up_the_script_alone(self):
        process = self.start_program("exec", "--ephemeral", self.write("flood.lua", self.FLOOD))
        for _ in range(20):
            self.assertEqual(read_line(process.stderr), "beat\n", Left(process))
        self.assertIsNone(process.poll(), "4 MiB are more than may wait")
        out, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(out.decode(), "".join(f"{i}\t{'x' * 100}\n" for i in range(1, 40001)), "all of it, in order")

    def test_a_signal_ends_a_script_whose_lines_nobody_reads(self):
        process = self.start_program("exec", "--ephemeral", self.write("flood.lua", self.FLOOD))
        for _ in range(20):
            read_line(process.stderr)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(4), 130)

    def test_a_reader_that_goes_away_is_no_error(self):
        process = self.start_program("exec", "--ephemeral", self.write("flood.lua", self.FLOOD))
        self.assertTrue(read_line(process.stdout).startswith("1\t"))
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 0)

    def test_descriptors_that_are_closed_are_nobody_elses(self):
        """What is printed must not go to a socket that got the number of standard output."""
        script = self.write("probe.lua", """
            print("x") io.stdout:write("y") io.stdout:flush()
            local p = io.popen("for n in 0 1 2; do readlink /proc/$PPID/fd/$n; done")
            return p:read("a") == ("/dev/null\\n"):rep(3)""")
        done = subprocess.run(["sh", "-c", 'exec "$0" exec --ephemeral "$1" <&- >&- 2>&-', BINARY, script], env=self.environment(),
                              timeout=PATIENCE, check=False)
        self.assertEqual(done.returncode, 0)

    def test_lines_keep_their_order_and_their_bytes(self):
        done = self.exec("print('\\xff\\0\\xfe')")
        self.assertEqual(done.bytes, b"\xff\0\xfe\n")
        script = self.write("probe.lua", "for i = 1, 500 do print('a' .. i) io.write('b', i, '\\n') end")
        terminal = Terminal(self, "exec", "--ephemeral", script)
        self.assertEqual(terminal.wait(), 0)
        while terminal.read(time.monotonic()):
            pass
        self.assertEqual(terminal.seen.split(), [f"{letter}{i}" for i in range(1, 501) for letter in "ab"])

    def test_missing(self):
        done = self.run_program("exec", "nowhere.lua")
        self.assertEqual(done.status, 1, done)
        self.assertIn("there is no file", done.err)

    def test_the_script_of_the_design(self):
        done = self.exec("""
local p2pd = require "p2pd"
local node = p2pd.node{ listen = { "127.0.0.1" } }
node:add_msg_cb(function(msg, client_tup, pipe)
  if msg:find("PING", 1, true) then pipe:send("PONG", client_tup) end
end)
local pipe = assert(node:connect(node:address()))
pipe:send("ECHO test send")
assert(pipe:recv() == "test send")
pipe:send("PING")
assert(pipe:recv() == "PONG")
pipe:close()
node:close()
""")
        self.assertEqual(done.status, 0, done)


if __name__ == "__main__":
    unittest.main()
