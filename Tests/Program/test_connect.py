"""`connect`: in a pipeline and at a terminal, against plain peers."""

import os
import shlex
import signal
import socket
import struct
import termios
import threading
import unittest

from program import BINARY, PATIENCE, ProgramTest, Server, Terminal, echo, read_line, read_until, wait_for_signal_handler


class Pipeline(ProgramTest):
    def test_bytes_cross_and_come_back(self):
        server = Server(self, echo)
        data = os.urandom(3_000_001)
        done = self.run_program("connect", server.target, stdin=data)
        self.assertEqual(done.status, 0, done.err)
        self.assertTrue(done.bytes == data, "the bytes differ")

    def test_names_and_both_families(self):
        done = self.run_program("connect", f"localhost:{Server(self, echo).port}", stdin="hi\n")
        self.assertEqual((done.status, done.out), (0, "hi\n"), done)
        if socket.has_ipv6:
            done = self.run_program("connect", Server(self, echo, socket.AF_INET6).target, stdin="hi\n")
            self.assertEqual((done.status, done.out), (0, "hi\n"), done)

    def test_a_unix_socket(self):
        path = os.path.join(self.folder, "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        self.addCleanup(listener.close)
        threading.Thread(target=lambda: echo(listener.accept()[0]), daemon=True).start()
        done = self.run_program("connect", f"unix:{path}", "--timeout", "0.5", stdin="hi\n")
        self.assertEqual((done.status, done.out), (0, "hi\n"), done)

    def test_the_half_close_reaches_the_peer_before_its_answer(self):
        def answer_at_the_end(connection):
            count = 0
            while data := connection.recv(65536):
                count += len(data)
            connection.sendall(b"%d\n" % count)

        done = self.run_program("connect", Server(self, answer_at_the_end).target, stdin="x" * 100_000)
        self.assertEqual((done.status, done.out), (0, "100000\n"), done)

    def test_a_peer_that_never_ends_is_left_after_the_timeout(self):
        def stay(connection):
            connection.sendall(b"hello\n")
            while connection.recv(65536):
                pass
            threading.Event().wait(PATIENCE)

        done = self.run_program("connect", Server(self, stay).target, "--timeout", "0.3", stdin="")
        self.assertEqual((done.status, done.out), (0, "hello\n"), done)

    def test_line_and_length_framing_show_messages(self):
        def lengths(connection):
            while head := connection.recv(4, socket.MSG_WAITALL):
                body = connection.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
                connection.sendall(struct.pack(">I", len(body) + 1) + body + b"!")

        done = self.run_program("connect", "--framing", "u32", Server(self, lengths).target, stdin="one\ntwo\nthree")
        self.assertEqual((done.status, done.out), (0, "one!\ntwo!\nthree!\n"), done)
        done = self.run_program("connect", "--framing", "line", Server(self, echo).target, stdin="one\ntwo")
        self.assertEqual((done.status, done.out), (0, "one\ntwo\n"), done)

    def test_udp_sends_a_datagram_a_line(self):
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        self.addCleanup(peer.close)

        def answer():
            for _ in range(2):
                data, sender = peer.recvfrom(65536)
                peer.sendto(b"<" + data + b">", sender)

        threading.Thread(target=answer, daemon=True).start()
        done = self.run_program(
            "connect", "--udp", f"127.0.0.1:{peer.getsockname()[1]}", "--timeout", "0.5", stdin="one\ntwo\n")
        self.assertEqual((done.status, done.out), (0, "<one>\n<two>\n"), done)

    def test_refused_says_so_and_has_status_1(self):
        unused = socket.socket()
        unused.bind(("127.0.0.1", 0))
        self.addCleanup(unused.close)
        done = self.run_program("connect", f"127.0.0.1:{unused.getsockname()[1]}", stdin="x")
        self.assertEqual(done.status, 1, done)
        self.assertIn("refused", done.err)
        self.assertEqual(done.out, "")

    def test_a_name_that_does_not_exist(self):
        done = self.run_program("connect", "does-not-exist.invalid:7", stdin="x")
        self.assertEqual(done.status, 1, done)
        self.assertIn("does-not-exist.invalid", done.err)

    def test_a_reset_has_status_1(self):
        def reset(connection):
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        process = self.start_program("connect", Server(self, reset).target)
        process.stdin.write(b"x")
        process.stdin.flush()
        self.assertEqual(process.wait(PATIENCE), 1)
        self.assertIn(b"reset", process.stderr.read())

    def test_a_reader_that_goes_away_is_no_error(self):
        def flood(connection):
            while True:
                connection.sendall(b"x" * 65536)

        process = self.start_program("connect", Server(self, flood).target)
        process.stdout.read(10)
        process.stdout.close()
        self.assertEqual(process.wait(PATIENCE), 0, process.stderr.read())

    def test_a_slow_reader_stops_the_peer(self):
        """What nobody reads must not pile up in the program."""
        sent = [0]
        stopped = threading.Event()

        def flood(connection):
            connection.settimeout(1)
            try:
                while sent[0] < 200 << 20:
                    sent[0] += connection.send(b"x" * 65536)
            except TimeoutError:
                pass
            stopped.set()

        process = self.start_program("connect", Server(self, flood).target)
        self.assertTrue(stopped.wait(PATIENCE))
        self.assertLess(sent[0], 64 << 20, "the peer was never stopped")
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            held = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        self.assertLess(held, 200 << 10, "kB held in memory")

    def test_signals_end_it(self):
        for number in [signal.SIGINT, signal.SIGTERM]:
            with self.subTest(number):
                process = self.start_program("connect", Server(self, echo).target)
                process.stdin.write(b"ready\n")
                process.stdin.flush()
                self.assertEqual(read_line(process.stdout), "ready\n")
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE), 128 + number)


    def test_a_signal_while_connecting(self):
        # A listener whose queue is full lets nobody in and refuses nobody.
        full = socket.socket()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        self.addCleanup(full.close)
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
            self.addCleanup(waiting.close)
        process = self.start_program("connect", f"127.0.0.1:{full.getsockname()[1]}", "--log-level", "trace")
        wait_for_signal_handler(process, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE), 130)


class AtATerminal(ProgramTest):
    def test_lines_go_out_messages_come_in_and_control_d_ends(self):
        terminal = Terminal(self, "connect", Server(self, echo).target)
        terminal.expect("Connected to 127.0.0.1")
        terminal.type("helo\x1b[Dl\r")
        terminal.expect("> hello\n")
        terminal.expect("hello\n")
        terminal.type("\x04")
        self.assertEqual(terminal.wait(), 0)

    def test_what_is_being_typed_survives_a_message(self):
        go = threading.Event()

        def speak(connection):
            go.wait(PATIENCE)
            connection.sendall(b"surprise\n")
            echo(connection)

        terminal = Terminal(self, "connect", Server(self, speak).target)
        terminal.expect("> ")
        terminal.type("half a li")
        terminal.expect("half a li")
        go.set()
        terminal.expect("surprise\n")
        terminal.expect("> half a li")
        terminal.type("ne\r")
        terminal.expect("half a line\n")
        terminal.expect("half a line\n")

    def test_history_outlives_the_program(self):
        server = Server(self, echo)
        terminal = Terminal(self, "connect", server.target)
        terminal.expect("> ")
        terminal.type("remember me\r")
        terminal.expect("remember me\n")
        terminal.type("\x04")
        terminal.wait()
        path = os.path.join(self.folder, ".local/state/p2pd-lua/connect_history")
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        terminal = Terminal(self, "connect", server.target)
        terminal.expect("> ")
        terminal.type("\x1b[A\r")
        terminal.expect("> remember me\n")
        terminal.expect("remember me\n")

    def test_a_peer_cannot_drive_the_terminal(self):
        def attack(connection):
            connection.sendall(b"\x1b]0;owned\x07\x1b[2Jdone\n")
            connection.recv(1)

        terminal = Terminal(self, "connect", Server(self, attack).target)
        terminal.expect("\\x1b]0;owned\\x07\\x1b[2Jdone\n")

    def test_control_c_gives_up_the_line_and_then_the_program(self):
        terminal = Terminal(self, "connect", Server(self, echo).target)
        terminal.expect("> ")
        terminal.type("no\x03")
        terminal.expect("no^C\n")
        terminal.type("\x03")
        self.assertEqual(terminal.wait(), 0)

    def test_the_peers_end_is_told(self):
        terminal = Terminal(self, "connect", Server(self, lambda connection: connection.recv(100)).target)
        terminal.expect("> ")
        terminal.type("x\r")
        terminal.expect("the peer closed the pipe")
        self.assertEqual(terminal.wait(), 0)

    def test_crlf(self):
        got = []
        done = threading.Event()

        def take(connection):
            got.append(connection.recv(100))
            done.set()

        terminal = Terminal(self, "connect", "--crlf", Server(self, take).target)
        terminal.expect("> ")
        terminal.type("GET\r")
        self.assertTrue(done.wait(PATIENCE))
        self.assertEqual(got, [b"GET\r\n"])

    def test_the_terminal_is_given_back(self):
        terminal = Terminal(self, "connect", Server(self, echo).target)
        before = termios.tcgetattr(terminal.file)
        terminal.expect("> ")
        self.assertFalse(termios.tcgetattr(terminal.file)[3] & termios.ECHO)
        terminal.type("\x04")
        terminal.wait()
        self.assertTrue(before[3] & termios.ECHO)
        self.assertEqual(termios.tcgetattr(terminal.file)[3], before[3])

    def test_progress_is_shown_for_a_piped_file(self):
        """Standard error is a terminal, standard input a file: a shell at the terminal makes it so."""
        slow = threading.Event()

        def read_slowly(connection):
            while connection.recv(65536):
                slow.wait(0.02)

        server = Server(self, read_slowly)
        self.write("data", "x" * (8 << 20))
        command = f"{shlex.quote(BINARY)} connect {server.target} --timeout 1 < data > /dev/null"
        terminal = Terminal(self, "-c", command, command="/bin/sh")
        terminal.expect(" of 8 MiB (")
        slow.set()
        self.assertEqual(terminal.wait(), 0)


if __name__ == "__main__":
    unittest.main()
