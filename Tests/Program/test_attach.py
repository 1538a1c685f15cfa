"""A prompt in a running node: `attach`."""

import signal
import time
import unittest

from control_kit import Control
from program import PATIENCE, Terminal, read_line


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


if __name__ == "__main__":
    unittest.main()
