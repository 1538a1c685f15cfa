"""What needs a network of its own, and what needs numbers: namespaces, vanished peers, floods."""

import os
import resource
import select
import signal
import socket
import subprocess
import threading
import time
import unittest

from program import BINARY, PATIENCE, ROOT, ProgramTest, read_line


def can_unshare():
    try:
        return subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Network(ProgramTest):
    def test_a_closed_node_holds_no_descriptor(self):
        """Though the script still holds the node."""
        script = self.write("closed.lua", """
            local p2pd = require "p2pd"
            local function descriptors()
              local list <close> = io.popen("ls /proc/$PPID/fd | wc -l")
              return list:read("n")
            end
            local held = {}
            local function make(count)
              for _ = 1, count do
                local node = assert(p2pd.node {})
                held[#held + 1] = node
                node:close()
              end
              p2pd.sleep(0.3)
              return descriptors()
            end
            local before = make(2)
            local after = make(10)
            -- Two were kept of each; one may still be on its way.
            assert(after < before + 10, before .. " descriptors, then " .. after)
            print("all held")""")
        done = self.run_program("exec", "--ephemeral", "--offline", script)
        self.assertEqual((done.status, done.out), (0, "all held\n"), done)

    @unittest.skipUnless(can_unshare(), "needs root or a user namespace, and ip(8)")
    def test_multicast_and_broadcast(self):
        """In a namespace whose only interface is lo: no datagram leaves it."""
        setup = "ip link set lo up && ip addr add 10.77.0.1/24 brd 10.77.0.255 dev lo && ip route add 239.0.0.0/8 dev lo"
        script = os.path.join(ROOT, "Tests/Program/lua/multicast.lua")
        done = subprocess.run(
            ["unshare", "-n", "sh", "-c", f'{setup} && exec "$0" exec "$1"', BINARY, script],
            capture_output=True, text=True, timeout=PATIENCE, env=self.environment())
        self.assertEqual((done.returncode, done.stdout), (0, "heard\n"), done.stderr)

    @unittest.skipUnless(can_unshare(), "needs root or a user namespace")
    def test_a_script_says_which_public_servers_its_nodes_contact(self):
        """In a namespace without any way out."""
        script = self.write("two.lua", "local p2pd = require 'p2pd' p2pd.node():close() p2pd.node():close() print('over')")
        nobody = {name: "" for name in ("P2PD_STUN", "P2PD_BROKERS", "P2PD_TURN", "P2PD_NTP", "P2PD_NAMES", "P2PD_OFFLINE")}

        def run(*options):
            done = subprocess.run(["unshare", "-n", BINARY, "exec", *options, script], capture_output=True, text=True, timeout=PATIENCE,
                                  env=self.environment(**nobody), check=False)
            self.assertEqual((done.returncode, done.stdout), (0, "over\n"), done.stderr)
            return done.stderr

        said = run()
        self.assertEqual(said.count("public servers"), 1, "once a run: " + said)
        self.assertIn("mqtts://broker.emqx.io,", said)
        self.assertEqual(run("--offline"), "")
        self.assertEqual(run("--servers", self.write("mine", "stun:192.0.2.1\n")), "")

    def test_pipes_of_a_script(self):
        """TLS, a Unix-domain socket, duplicates, subscriptions and error codes, as a script meets them."""
        path = os.path.join(self.folder, "echo.sock")
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(server.close)
        server.bind(path)
        server.listen()

        def answer():
            peer, _ = server.accept()
            with peer:
                while data := peer.recv(4096):
                    peer.sendall(data)

        threading.Thread(target=answer, daemon=True).start()
        script = os.path.join(ROOT, "Tests/Program/lua/pipes.lua")
        done = self.run_program("exec", script, os.path.join(ROOT, "Tests/Fixtures/tls"), path)
        self.assertEqual((done.status, done.out), (0, "all held\n"), done)

    def test_a_sandboxed_script_has_no_files_and_no_shell(self):
        script = self.write("bare.lua", """
          assert(io == nil and os.execute == nil and package.loadlib == nil and os.getenv == nil)
          assert(not pcall(require, "no_such_module"))
          print(os.time() > 0, string.rep("x", 3))
        """)
        done = self.run_program("exec", "--sandbox", script)
        self.assertEqual((done.status, done.out), (0, "true\txxx\n"), done)

    def test_a_gibibyte_pushed_at_a_peer_that_does_not_read(self):
        """`send` waits, and the pusher stays small."""
        script = self.write("push.lua", """
          local p2pd = require "p2pd"
          local server = assert(p2pd.pipe_open("tcp", { bind = { "127.0.0.1", 0 } }))
          local _, port = table.unpack(server:getsockname())
          local client = assert(p2pd.pipe_open("tcp", { dest = { "127.0.0.1", port } }))
          local peer = assert(server:accept(5))
          local piece = ("x"):rep(1 << 20)
          local sent = 0
          p2pd.spawn(function()
            for _ = 1, 1024 do assert(client:send(piece)) sent = sent + 1 end
          end)
          io.write("ready\\n") io.flush()
          local before = -1
          repeat before = sent p2pd.sleep(0.3) until sent == before and sent > 0
          io.write(sent, "\\n") io.flush()
          p2pd.sleep(60)
        """)
        process = self.start_program("exec", script)
        self.assertEqual(read_line(process.stdout), "ready\n")
        before = resident(process.pid)
        sent = int(read_line(process.stdout))
        self.assertLess(sent, 100, "the pusher was not stopped")
        self.assertLess(resident(process.pid) - before, 16 << 20)

    def test_out_of_descriptors(self):
        """The kernel's backlog holds the callers meanwhile, the loop does not spin, and who leaves makes room."""
        script = self.write("few.lua", """
          local p2pd = require "p2pd"
          local server = assert(p2pd.pipe_open("tcp", { bind = { "127.0.0.1", 0 },
            msg_cb = function(msg, tup, pipe) pipe:send(msg) end }))
          local _, port = table.unpack(server:getsockname())
          io.write(port, "\\n") io.flush()
          p2pd.sleep(60)
        """)
        room = 40
        process = self.start_program(
            "exec", script, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (room, room)))
        port = int(read_line(process.stdout))
        callers = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(2 * room)]
        for caller in callers:
            self.addCleanup(caller.close)
            caller.sendall(b"x")
        self.assertEqual(callers[0].recv(1), b"x")
        before, start = cpu_seconds(process.pid), time.monotonic()
        time.sleep(0.5)
        spent = (cpu_seconds(process.pid) - before) / (time.monotonic() - start)
        self.assertLess(spent, 0.5, "it waits for descriptors without spinning")
        waiting = [caller for caller in callers if not select.select([caller], [], [], 0)[0]][1:]
        self.assertGreater(len(waiting), room // 2, "there was no room for them")
        for caller in callers:
            if caller not in waiting:
                caller.close()
        for caller in waiting[:room // 2]:
            self.assertEqual(caller.recv(1), b"x")

    def test_a_killed_peer_is_told_to_the_script(self):
        script = self.write("watch.lua", """
          local M = {}
          function M.up_cb(pipe) io.stderr:write("UP\\n") end
          function M.end_cb(pipe, reason) io.stderr:write("END ", reason, "\\n") end
          function M.msg_cb(msg, tup, pipe) pipe:send(msg) end
          return M
        """)
        node, address = self.start_node(script)
        guest = self.start_program("connect", address)
        guest.stdin.write(b"hello\n")
        guest.stdin.flush()
        self.assertEqual(read_line(guest.stdout), "hello\n")
        guest.send_signal(signal.SIGKILL)
        guest.wait()
        deadline = time.monotonic() + PATIENCE
        seen = ""
        while "END" not in seen and time.monotonic() < deadline:
            seen = read_line(node.stderr)
        self.assertRegex(seen, "END (reset|closed)")
        self.assertIsNone(node.poll(), "the node serves on")


if __name__ == "__main__":
    unittest.main()
