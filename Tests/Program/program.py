"""What the tests of the built program share: running it, talking to it at a terminal, and peers to talk to."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BINARY = os.path.realpath(os.environ.get("P2PD_TEST_BINARY", os.path.join(ROOT, ".build/debug/p2pd-lua")))

# Seconds after which whatever is waited for counts as not coming. Generous: the machine may be busy.
PATIENCE = 30


class ProgramTest(unittest.TestCase):
    """A test with a folder of its own, which is also the home of the program's state."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="p2pd-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def environment(self, **more):
        """The caller's, without what would change the program's ways."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("P2PD_", "XDG_")) and k != "NO_COLOR"}
        env.update(HOME=self.folder, TERM="xterm", SWIFT_BACKTRACE="enable=no", TZ="UTC")
        env["P2PD_LUA_LIB"] = os.path.join(ROOT, "scripts/lib")
        # No test contacts a server of the Internet, nor one of this machine that it did not start.
        env.update(P2PD_STUN="none", P2PD_TURN="none", P2PD_BROKERS="none", P2PD_NTP="none", P2PD_NAMES="none",
                   P2PD_CONFIG="none", P2PD_NO_PORT_MAPPING="1", P2PD_MDNS="off")
        env.update(more)
        return env

    def run_program(self, *args, stdin="", env=None, timeout=PATIENCE, cwd=None):
        """Runs it to its end; stdin as text or bytes. Gives status, stdout and stderr (as text where it is some)."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [BINARY, *args], input=data, capture_output=True, timeout=timeout, cwd=cwd or self.folder,
            env=self.environment(**(env or {})))
        return Done(done.returncode, done.stdout, done.stderr)

    def start_program(self, *args, env=None, **options):
        """Starts it with pipes on all three descriptors; it is ended with the test."""
        process = subprocess.Popen(
            [BINARY, *args], stdin=options.pop("stdin", subprocess.PIPE), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=self.folder, env=self.environment(**(env or {})), **options)
        self.addCleanup(end, process)
        return process

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start_node(self, *args, env=None):
        """`run ...` on 127.0.0.1 with a fresh key; gives the process and its address once it is printed."""
        process = self.start_program("run", "--ephemeral", "--listen", "127.0.0.1", "--port", "0", *args, env=env)
        line = read_line(process.stdout)
        self.assertTrue(line.startswith("p2pd1"), Left(process))
        return process, line.strip()


class Done:
    def __init__(self, status, stdout, stderr):
        self.status, self.bytes = status, stdout
        self.out = stdout.decode(errors="replace")
        self.err = stderr.decode(errors="replace")

    def __repr__(self):
        return f"status {self.status}\n-- stdout\n{self.out[:2000]}\n-- stderr\n{self.err[:4000]}"


def read_line(stream, patience=PATIENCE):
    """A line of the stream as text; what there is when the time is over or the stream ends."""
    out, deadline = b"", time.monotonic() + patience
    while not out.endswith(b"\n"):
        ready, _, _ = select.select([stream], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            break
        byte = os.read(stream.fileno(), 1)
        if not byte:
            break
        out += byte
    return out.decode(errors="replace")


def read_until(stream, words, patience=PATIENCE):
    """Reads until the text holds `words`; gives all of it."""
    out, deadline = b"", time.monotonic() + patience
    while words.encode() not in out:
        ready, _, _ = select.select([stream], [], [], max(0, deadline - time.monotonic()))
        piece = os.read(stream.fileno(), 65536) if ready else b""
        if not piece:
            raise AssertionError(f"waited in vain for {words!r} in {out.decode(errors='replace')!r}")
        out += piece
    return out.decode(errors="replace")


def left(process):
    """What an ended (or now killed) process left on standard error."""
    end(process, close=False)
    return process.stderr.read().decode(errors="replace")[-4000:]


def wait_for_signal_handler(process, number, patience=PATIENCE):
    """Waits until the process catches the signal; before that the signal would simply end it."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as file:
            caught = next((int(line.split()[1], 16) for line in file if line.startswith("SigCgt")), 0)
        if caught & 1 << (number - 1):
            return
        time.sleep(0.005)
    raise AssertionError("the process does not catch the signal")


class Left:
    """The same as the message of an assertion: the process is looked at (and ended) only where that fails."""

    def __init__(self, process):
        self.process = process

    def __str__(self):
        return left(self.process)

    __repr__ = __str__


def end(process, close=True):
    if process.poll() is None:
        process.kill()
    process.wait()
    if close:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


class Terminal:
    """The program at a terminal of its own. What it draws is kept as it came in `seen`."""

    def __init__(self, test, *args, command=BINARY, env=None, columns=80):
        self.seen, self.status = "", None
        self.process_id, self.file = pty.fork()
        if self.process_id == 0:
            try:
                # Who runs the tests in the background ignores it, and what is ignored stays so.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.chdir(test.folder)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
                os.execve(command, [command, *args], test.environment(**(env or {})))
            finally:
                os._exit(127)
        test.addCleanup(self.close)

    def type(self, text):
        os.write(self.file, text.encode())

    def expect(self, words, patience=PATIENCE):
        """Waits until `words` were drawn after what was expected before."""
        deadline = time.monotonic() + patience
        while True:
            place = plain(self.seen).find(words)
            if place >= 0:
                self.seen = plain(self.seen)[place + len(words) :]
                return
            if not self.read(deadline):
                raise AssertionError(f"waited in vain for {words!r}; the screen has {plain(self.seen)!r}")

    def read(self, deadline):
        ready, _, _ = select.select([self.file], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            piece = os.read(self.file, 65536)
        except OSError:
            piece = b""
        self.seen += piece.decode(errors="replace")
        return bool(piece)

    def wait(self, patience=PATIENCE):
        """The exit status, once it has ended."""
        deadline = time.monotonic() + patience
        while self.status is None:
            self.read(min(deadline, time.monotonic() + 0.05))
            done, status = os.waitpid(self.process_id, os.WNOHANG)
            if done:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise AssertionError(f"it does not end; the screen has {plain(self.seen)!r}")
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.process_id, signal.SIGKILL)
            os.waitpid(self.process_id, 0)
        os.close(self.file)


def plain(text):
    """What a terminal would show, roughly: no escape sequences, no carriage returns."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


class Server:
    """A TCP server on 127.0.0.1 that gives each connection to `serve(connection)` on a thread."""

    def __init__(self, test, serve, family=socket.AF_INET):
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.target = f"127.0.0.1:{self.port}" if family == socket.AF_INET else f"[::1]:{self.port}"
        threading.Thread(target=self.accept, args=(serve,), daemon=True).start()
        test.addCleanup(self.listener.close)

    def accept(self, serve):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.guarded, args=(serve, connection), daemon=True).start()

    @staticmethod
    def guarded(serve, connection):
        with connection:
            try:
                serve(connection)
            except OSError:
                pass  # the program under test ended first


def echo(connection):
    while True:
        data = connection.recv(65536)
        if not data:
            return
        connection.sendall(data)
