"""The nodes of a matrix: one process a home, each led through a Unix socket."""
import contextlib
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from natlab.measure import expected
from natlab.model import SRV, SRV6, TURN_PASS, TURN_USER

SCRIPT = Path(__file__).resolve().parent / "peer.lua"


def servers(relay=True):
    """The laboratory's servers, as the program's environment names them."""
    return {
        "P2PD_STUN": ",".join(f"{SRV[i]}:3478" for i in (1, 2, 3, 4)),
        "P2PD_BROKERS": f"mqtt://{SRV[10]}:1883",
        "P2PD_TURN": f"turn:{TURN_USER}:{TURN_PASS}@{SRV[1]}:3478?transport=tcp" if relay else "none",
        "P2PD_NTP": "none",
    }


class Peer:
    """One running node. `python`: the interpreter that has Python P2PD, to run that instead."""

    def __init__(self, lab, home, binary, folder, environment, python=None):
        self.home = home
        self.folder = Path(folder) / home
        self.folder.mkdir()
        self.log = self.folder / "log"
        path = self.folder / "lead"
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(path))
        door.listen(1)
        # Python P2PD takes its time, and a matrix starts dozens at once.
        patience = 90 if python else 20
        door.settimeout(patience)
        names = {"XDG_STATE_HOME": "state", "XDG_CONFIG_HOME": "config", "XDG_RUNTIME_DIR": "run", "HOME": "home"}
        private = {variable: str(self.folder / name) for variable, name in names.items()}
        for place in private.values():
            Path(place).mkdir(mode=0o700)
        self._answers, self._ids, self._gone = {}, itertools.count(1), None
        self._lock = threading.Lock()
        command = [binary, "exec", "--log-level", "trace", SCRIPT, path]
        if python:
            command = [python, SCRIPT.with_name("p2pd_peer.py"), path]
            environment = {**environment, "P2PD_NAT": p2pd_nat(lab, home)}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", lab.ns(home), *(str(word) for word in command)],
                env={**os.environ, **environment, **private, "P2PD_LUA_LIB": str(SCRIPT.parents[2] / "lib")},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            self._lead, _ = door.accept()
        except TimeoutError:
            self.end()
            raise SystemExit(f"{home}: the node did not start; {self.tail()}") from None
        finally:
            door.close()
        self._first = queue.Queue()
        threading.Thread(target=self._hear, daemon=True).start()
        try:
            self.address = self._first.get(timeout=patience)["address"]
        except queue.Empty:
            self.end()
            raise SystemExit(f"{home}: the node told no address within {patience} s; {self.tail()}") from None

    def tail(self):
        return "its last words: " + " / ".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def _hear(self):
        rest = b""
        with self._lead:
            while True:
                try:
                    data = self._lead.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    answer = json.loads(line)
                    waiting = self._answers.pop(answer["id"], None) if "id" in answer else self._first
                    if waiting:
                        waiting.put(answer)
        with self._lock:
            self._gone = True
            for waiting in self._answers.values():
                waiting.put(None)

    def ask(self, timeout=30, **words):
        """Sends a question and waits for its answer."""
        waiting = queue.Queue()
        with self._lock:
            if self._gone:
                raise SystemExit(f"{self.home}: the node ended; {self.tail()}")
            number = next(self._ids)
            self._answers[number] = waiting
        self._lead.sendall(json.dumps({"id": number, **words}).encode() + b"\n")
        try:
            answer = waiting.get(timeout=timeout)
        except queue.Empty:
            raise SystemExit(f"{self.home}: no answer within {timeout} s; {self.tail()}") from None
        if answer is None:
            raise SystemExit(f"{self.home}: the node ended; {self.tail()}")
        return answer

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        # Python P2PD leaves processes behind; ours has none. The group is this peer's own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def p2pd_nat(lab, home):
    """What Python P2PD calls the NAT before a home: type/delta type/delta value."""
    node, _ = lab.host(home)
    claim = expected(lab, node)
    kind = {"none": 1 if claim["udp_filt"] == "EIF" else 2, "EIM": {"EIF": 3, "ADF": 4, "APDF": 5}.get(claim["udp_filt"]),
            "blocked": 5}.get(claim["udp_map"], 6)
    allocation = claim["udp_alloc"]
    if allocation.startswith("offset"):
        return f"{kind}/3/{int(allocation[6:])}"
    if allocation.startswith("seq"):
        return f"{kind}/4/{int(allocation[3:])}"
    return f"{kind}/{6 if allocation == 'random' else 2}/0"


def settled(peers, quiet=1.5, patience=12):
    """Waits until no node's address has changed for a while: what they know of their networks is complete."""
    known, since, end = None, time.monotonic(), time.monotonic() + patience
    while time.monotonic() < end:
        now = [peer.ask()["address"] for peer in peers]
        if now != known:
            known, since = now, time.monotonic()
        elif time.monotonic() - since >= quiet:
            break
        time.sleep(0.1)  # a poll: nodes tell nobody when they know enough
    for peer, address in zip(peers, known):
        peer.address = address
