"""Names of nodes, with real name servers: `names serve` processes that die, are wiped, stand still and lie."""

import json
import os
import signal
import subprocess
import time
import unittest

from program import BINARY, PATIENCE, ProgramTest, end, left, read_line, read_until

ECHO = """
local M = {}
function M.msg_cb(msg, client_tup, pipe) pipe:send("echo " .. msg) end
return M
"""


class NameTest(ProgramTest):
    def server(self, name, port=0):
        """A name server with its file in this test's folder; gives the process and its URL."""
        process = self.start_program("names", "serve", "--db", os.path.join(self.folder, f"{name}.sqlite"),
                                     "--listen", f"127.0.0.1:{port}")
        url = read_line(process.stdout).strip()
        self.assertTrue(url.startswith("http://127.0.0.1:"), url or left(process))
        return process, url

    def servers(self, count=3):
        made = [self.server(f"names{number}") for number in range(count)]
        self.urls = [url for _, url in made]
        self.names = {"P2PD_NAMES": ",".join(self.urls)}
        return [process for process, _ in made]

    def named(self, name, *more, env=None):
        """A node with this name; gives its process once the name is registered."""
        handler = self.write("echo.lua", ECHO)
        process, self.address = self.start_node(handler, "--no-control", "--nickname", name, *more, env=env or self.names)
        read_until(process.stderr, "The node is called")
        return process

    def talk(self, name, env=None, status=0):
        done = self.run_program("connect", name, stdin="hi\n", env=env or self.names)
        self.assertEqual(done.status, status, done)
        if status == 0:
            self.assertEqual(done.out, "echo hi\n", done)
        return done

    def lookup(self, name, env=None):
        done = self.run_program("names", "lookup", "--json", name, env=env or self.names)
        return done.status, json.loads(done.out)


class Servers(NameTest):
    def test_a_node_is_found_by_its_name_while_one_of_three_servers_is_dead_wiped_or_stands_still(self):
        processes = self.servers()
        self.named("Example")
        self.talk("example.peer")
        done = self.run_program("names", "lookup", "example.peer", env=self.names)
        self.assertEqual(done.status, 0, done)
        self.assertIn(self.address, done.out)
        self.assertIn("* name servers", done.out)
        for url in self.urls:
            self.assertIn(url, done.out)

        processes[0].kill()
        processes[0].wait()
        self.talk("example.peer")
        status, report = self.lookup("example.peer")
        self.assertEqual((status, report["source"], report["address"]), (0, "servers", self.address), report)

        # Back, and empty: asking it gives it the record again.
        for ending in ("", "-wal", "-shm"):
            path = os.path.join(self.folder, f"names0.sqlite{ending}")
            if os.path.exists(path):
                os.unlink(path)
        processes[0], url = self.server("names0", self.urls[0].rsplit(":", 1)[1])
        self.assertEqual(url, self.urls[0])
        self.talk("example.peer")
        deadline = time.monotonic() + PATIENCE
        while True:
            self.lookup("example.peer")
            one = self.run_program("names", "lookup", "example.peer", env={"P2PD_NAMES": self.urls[0]})
            if one.status == 0 or time.monotonic() > deadline:
                break
        self.assertEqual(one.status, 0, f"the wiped server was not given the record: {one}")

        processes[1].send_signal(signal.SIGSTOP)
        try:
            self.talk("example.peer")
        finally:
            processes[1].send_signal(signal.SIGCONT)

        # Two of three: nobody can say.
        for process in processes[:2]:
            process.kill()
            process.wait()
        done = self.run_program("connect", "--ephemeral", "example.peer", stdin="hi\n", env=self.names)
        self.assertEqual(done.status, 1, done)
        status, report = self.lookup("example.peer")
        self.assertEqual((status, report["error"]["code"]), (1, "no_quorum"), report)

    def test_two_nodes_fight_for_a_name(self):
        self.servers()
        first = self.named("example")
        handler = self.write("other.lua", ECHO)
        second, _ = self.start_node(handler, "--no-control", "--nickname", "example.peer", env=self.names)
        text = read_until(second.stderr, "does not have the name")
        self.assertIn("example.peer", text)
        self.talk("example.peer")
        # The node goes on without.
        self.assertIsNone(second.poll())
        end(first)

    def test_a_changed_key_is_an_error_until_it_is_accepted(self):
        self.servers(1)
        state = os.path.join(self.folder, "owner")
        owner = ["--state-dir", state]
        handler = self.write("echo.lua", ECHO)

        def start():
            process = self.start_program("run", "--listen", "127.0.0.1", "--port", "0", "--no-control", *owner, handler,
                                         "--nickname", "example", env=self.names)
            read_until(process.stderr, "The node is called")
            return process

        node = start()
        self.talk("example.peer")
        listed = self.run_program("names", "list", "--json")
        self.assertEqual([row["name"] for row in json.loads(listed.out)], ["example.peer"], listed)
        end(node)
        done = self.run_program("names", "delete", "example", *owner, env=self.names)
        self.assertEqual((done.status, done.out), (0, "example.peer is deleted\n"), done)
        status, report = self.lookup("example.peer")
        self.assertEqual((status, report["error"]["code"]), (1, "not_found"), report)
        os.unlink(os.path.join(state, "node.key"))
        start()
        done = self.talk("example.peer", status=1)
        self.assertIn("THE KEY OF example.peer IS ANOTHER ONE NOW", done.err)
        self.assertIn("names forget example.peer", done.err)
        old = self.run_program("names", "list").out.split()[1]
        self.assertIn(old, done.err)
        # By a file of one's own as well.
        folder = os.path.join(self.folder, ".config/p2pd")
        os.makedirs(folder)
        with open(os.path.join(folder, "names"), "w", encoding="utf-8") as file:
            file.write(f"# friends\nexample.peer {old}\n")
        done = self.talk("example.peer", status=1)
        self.assertIn(".config/p2pd/names:2", done.err)
        os.unlink(os.path.join(folder, "names"))
        done = self.run_program("names", "forget", "example.peer")
        self.assertEqual(done.status, 0, done)
        self.talk("example.peer")
        self.assertEqual(self.run_program("names", "forget", "other.peer").status, 1)

    def test_push_delete_and_what_they_refuse(self):
        self.servers(1)
        done = self.run_program("names", "push", "example", env=self.names)
        self.assertEqual(done.status, 1, done)
        self.assertIn("no node of this machine's key runs", done.err)
        address = self.run_program("addr", "--offline", "--listen", "127.0.0.1", "--if", "lo", env=self.names).out.strip()
        done = self.run_program("names", "push", "--json", "example", address, env=self.names)
        self.assertEqual(done.status, 0, done)
        self.assertEqual(json.loads(done.out)["name"], "example.peer")
        status, report = self.lookup("EXAMPLE.peer")
        self.assertEqual((status, report["address"]), (0, address), report)
        for name in ("a!b", "x" * 51, "-", "a.b.c", ""):
            done = self.run_program("names", "push", "--", name, address, env=self.names)
            self.assertNotEqual(done.status, 0, (name, done))
        other = self.run_program("addr", "--offline", "--state-dir", os.path.join(self.folder, "other")).out.strip()
        done = self.run_program("names", "push", "example", other, env=self.names)
        self.assertIn("this machine's key is", done.err)
        done = self.run_program("names", "delete", "example", "--state-dir", os.path.join(self.folder, "other"), env=self.names)
        self.assertEqual(done.status, 1, done)
        self.assertIn("another key owns it", done.err)
        self.assertEqual(self.run_program("names", "delete", "example", env=self.names).status, 0)
        # Nobody has it now, as nobody ever had the other.
        for name in ("example", "never"):
            done = self.run_program("names", "delete", name, env=self.names)
            self.assertEqual((done.status, done.out), (1, ""), done)
            self.assertIn(f"delete {name}.peer: nobody has this name", done.err)

    def test_scripts_take_find_and_give_up_names(self):
        self.servers()
        self.named("friend")
        script = self.write("names.lua", """
            local p2pd = require "p2pd"
            local node = assert(p2pd.node { listen = { "127.0.0.1" } })
            print(assert(node:nickname("mine")))
            local found = assert(p2pd.names.lookup("mine.peer"))
            assert(found.id == node.id and found.address == node:address() and found.source == "servers")
            assert(#found.answers >= 2 and #found.answers[#found.answers].parts == 3, p2pd.json.encode(found))
            local pipe = assert(node:connect("friend.peer", { timeout = 10 }))
            pipe:send("hi") print((pipe:recv(5)))
            assert(p2pd.names.delete("mine"))
            for _, case in ipairs { { "mine.peer", "not_found" }, { "a b", "bad_name" }, { "x.local", "not_found" } } do
              local none, err = p2pd.names.lookup(case[1])
              assert(none == nil and err.code == case[2], case[1] .. ": " .. tostring(err))
            end
            print(select(2, node:nickname("friend")).code, select(2, p2pd.names.delete("friend")).code)
            print(select(2, node:nickname("x.home")).code, select(2, node:connect("no.peer")).code)
            print(pcall(p2pd.names.lookup))
            node:close()
            """)
        done = self.run_program("exec", "--if", "lo", script, env=self.names)
        self.assertEqual(done.status, 0, done)
        lines = done.out.splitlines()
        self.assertEqual(lines[:4], ["mine.peer", "echo hi", "taken\ttaken", "unsupported\tnot_found"], done)
        self.assertIn("bad argument #1 to 'lookup'", lines[4])


class Unconfigured(NameTest):
    names = {}

    def test_without_servers_it_says_what_to_configure(self):
        done = self.run_program("connect", "example.peer", env={"P2PD_NAMES": "none"})
        self.assertEqual(done.status, 1, done)
        self.assertIn("no name servers are configured for .peer", done.err)
        self.assertIn("P2PD_NAMES", done.err)
        done = self.run_program("names", "push", "example", "p2pd1x", env={"P2PD_NAMES": "none"})
        self.assertEqual(done.status, 1, done)

    def test_dead_servers_and_words_that_are_no_names(self):
        status, report = self.lookup("example.peer", env={"P2PD_NAMES": "http://127.0.0.1:1"})
        self.assertEqual(status, 1)
        self.assertIn(report["error"]["code"], ("unreachable", "no_quorum"), report)
        for url in ("ftp://x", "http://", "http://a:0", "http://a?tld=_", "stun:a"):
            done = self.run_program("names", "lookup", "a.peer", env={"P2PD_NAMES": url})
            self.assertEqual(done.status, 2, (url, done))
        done = self.run_program("connect", "two words")
        self.assertEqual(done.status, 2, done)

    def test_an_address_in_the_names_file_needs_nobody(self):
        handler = self.write("echo.lua", ECHO)
        _, address = self.start_node(handler, "--no-control")
        folder = os.path.join(self.folder, ".config/p2pd")
        os.makedirs(folder)
        with open(os.path.join(folder, "names"), "w", encoding="utf-8") as file:
            file.write(f"friend {address}\n")
        self.talk("friend", env={"P2PD_NAMES": "none"})
        done = self.run_program("names", "list")
        self.assertIn("friend.local", done.out)
        with open(os.path.join(folder, "names"), "a", encoding="utf-8") as file:
            file.write("broken\n")
        done = self.talk("friend", env={"P2PD_NAMES": "none"}, status=1)
        self.assertIn(".config/p2pd/names:2", done.err)

    def test_simulated_hosts_have_names_too(self):
        self.write("greet.lua", ECHO)
        test = self.write("greet_test.lua", """
            local p2pd, lab = require "p2pd", require "p2pd.test"
            it("is found by its name", function()
              local a, b = lab.node("greet.lua"), lab.node()
              assert.equal("greet.peer", assert(a:nickname("greet")))
              local pipe = assert(b:connect("greet.peer"))
              pipe:send("hi")
              assert.equal("echo hi", (pipe:recv(1)))
              pipe:close()
              local none, err = b:nickname("greet")
              assert.equal("taken", err.code)
            end)
            it("begins without names", function()
              local none, err = p2pd.names.lookup("greet.peer")
              assert.equal("not_found", err.code)
            end)
            """)
        done = self.run_program("test", test)
        self.assertEqual(done.status, 0, done)


if __name__ == "__main__":
    unittest.main()
