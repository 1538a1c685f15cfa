"""What tests of a running node have in common: a node that echoes, the commands that ask it, its socket."""

import json
import os
import socket

from program import PATIENCE, Left, ProgramTest, read_line

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
