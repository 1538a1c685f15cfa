"""Reloads under load: every message is answered exactly once, in order per pipe, by one generation of the script or the
next, and never by a broken one."""

import json
import os
import subprocess
import sys
import threading
import unittest

from program import PATIENCE, ROOT, Left, ProgramTest, end, read_line

RELOADS = 200
TCP_PIPES = 1000
UDP_SOCKETS = 200

# Counts its generations in the text: the load generator sees which one answered.
SCRIPT = """
local p2pd = require "p2pd"
local M = {}
local generation = %(generation)d
local function answer(msg, client_tup, pipe)
  pipe:send(("%(mark)s%%d %%s"):format(generation, msg), client_tup)
end
M.msg_cb = answer
local lines = p2pd.daemon { msg_cb = answer, framing = "line" }
local datagrams = p2pd.daemon { msg_cb = answer }
lines:add_listener(p2pd.TCP, "127.0.0.1:%(port)d")
datagrams:add_listener(p2pd.UDP, "127.0.0.1:%(port)d")
%(more)s
return M
"""

# Ways a script can be broken; each must be found before the swap.
BROKEN = {
    "a syntax error": "local function (",
    "an error at the top level": "error('this script is broken')",
    "a missing module": "require 'no_such_module_here'",
    "a callback of the wrong type": "M.end_cb = 5",
    "an unknown callback": "function M.mgs_cb() end",
    "a failing check": "function M.check() return false, 'not today' end",
    "a check that raises": "function M.check() error('checked') end",
    "a failing migrate": "M.version = 2 function M.migrate() error('no way') end",
    "a wait at the top level": "p2pd.sleep(0.01)",
    "state at the top level": "p2pd.state.x = 1",
    "a listener that cannot bind": "lines:add_listener(p2pd.TCP, '203.0.113.1:7')",
}


class ReloadUnderLoad(ProgramTest):
    def setUp(self):
        super().setUp()
        self.load = os.path.join(self.folder, "reload_load")
        source = os.path.join(ROOT, "scripts/dev/benchmarks/programs/reload_load.c")
        subprocess.run(["cc", "-O2", "-o", self.load, source], check=True)

    def script(self, port, generation, broken=None):
        return SCRIPT % {
            "port": port, "generation": generation, "mark": "BROKEN " if broken else "",
            "more": BROKEN[broken] if broken else ""}

    def test_no_message_is_lost_doubled_or_answered_by_a_broken_script(self):
        port = free_port()
        path = self.write("load.lua", self.script(port, 1))
        node, _ = self.start_node("--no-watch", path)
        # Nobody looks at the log, but a full pipe would stop the node.
        threading.Thread(target=node.stderr.read, daemon=True).start()
        process = subprocess.Popen(
            [self.load, "-p", str(port), "-c", str(TCP_PIPES), "-u", str(UDP_SOCKETS), "-q", "2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(end, process)
        self.assertEqual(read_line(process.stdout, 4 * PATIENCE), "READY\n", Left(process))

        generation, kinds = 1, list(BROKEN)
        for number in range(RELOADS):
            broken = kinds[number // 2 % len(kinds)] if number % 2 else None
            generation += 0 if broken else 1
            self.write("load.lua", self.script(port, generation, broken))
            done = self.run_program("reload", "load", "--json")
            self.assertEqual(done.status == 0, broken is None, f"{broken}: {done!r}")
            report = json.loads(done.out)[0]
            self.assertEqual(report["result"], "rejected" if broken else "active", (broken, report))

        out, err = process.communicate(timeout=4 * PATIENCE)
        self.assertTrue(out, (process.returncode, err))
        found = json.loads(out.splitlines()[-1])
        self.assertEqual(process.returncode, 0, (found, err))
        self.assertEqual(found["generation"], generation, found)
        for kind in ["tcp", "udp"]:
            self.assertGreater(found[kind], RELOADS * 10, found)
        sys.stderr.write(f"{found}\n")


def free_port():
    """A port that is free for TCP and UDP at this moment."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    unittest.main()
