"""The shipped handlers as people run them: real sockets, one node with all of them, and `connect` or their own clients."""

import os

from program import ROOT, ProgramTest

HANDLERS = os.path.join(ROOT, "scripts/handlers")


class Handlers(ProgramTest):
    def setUp(self):
        super().setUp()
        self.share, self.inbox = os.path.join(self.folder, "share"), os.path.join(self.folder, "inbox")
        for folder in (self.share, self.inbox):
            os.mkdir(folder)
        # Before the node starts: it looks at the folder once a second.
        self.noise = os.urandom(1_000_003)
        with open(os.path.join(self.share, "noise.bin"), "wb") as file:
            file.write(self.noise)
        _, self.address = self.start_node(HANDLERS, env={"P2PD_SHARE": self.share, "P2PD_INBOX": self.inbox})

    def talk(self, protocol, text):
        done = self.run_program("connect", "--protocol", protocol, self.address, stdin=text)
        self.assertEqual(done.status, 0, done)
        return done.out

    def test_echo(self):
        self.assertEqual(self.talk("echo", "one\ntwo\n"), "one\ntwo\n")

    def test_kv_is_one_store_for_all(self):
        self.assertEqual(self.talk("kv", "SET colour dark blue\nGET colour\n"), "OK\nVALUE dark blue\n")
        self.assertEqual(self.talk("kv", "INCR n\nGET colour\n"), "INT 1\nVALUE dark blue\n")

    def test_chat_greets_and_says_goodbye(self):
        out = self.talk("chat", "/nick ana\nhello\n/quit\n")
        self.assertEqual(
            out.splitlines(),
            ["* you are guest1 in #lobby; /help lists the commands", "* guest1 is now ana", "<ana> hello", "* bye"])

    def test_files_come_and_go(self):
        client = os.path.join(HANDLERS, "clients/file.lua")
        got = self.run_program("exec", "--ephemeral", client, "get", self.address, "noise.bin", timeout=60)
        self.assertEqual(got.status, 0, got)
        with open(os.path.join(self.folder, "noise.bin"), "rb") as file:
            self.assertTrue(file.read() == self.noise, "the bytes differ")
        put = self.run_program("exec", "--ephemeral", client, "put", self.address, "noise.bin", "back.bin", timeout=60)
        self.assertEqual(put.status, 0, put)
        with open(os.path.join(self.inbox, "back.bin"), "rb") as file:
            self.assertTrue(file.read() == self.noise, "the bytes differ")
