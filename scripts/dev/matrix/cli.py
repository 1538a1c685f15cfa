"""Options, the run from start to end, and what it prints."""
import argparse
import concurrent.futures
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from natlab.lab import Lab
from natlab.measure import table
from natlab.model import LabError

from . import homes
from .homes import KINDS, NEAR, QUICK, Pair
from .peers import Peer, servers, settled

ROOT = Path(__file__).resolve().parents[3]
# Seconds: the race that is under way gets 5, then there is a pause of 5, and one more race.
MOVES_WITHIN = 25
WITHOUT = ["direct", "reverse", "punch"]
LETTERS = {"direct": "d", "reverse": "r", "punch": "p", "relay": "R"}


def options(argv):
    parser = argparse.ArgumentParser(prog="natmatrix", description="Every pair of NAT types connects, in the laboratory.")
    add = parser.add_argument
    add("--quick", action="store_true", help="a selection of pairs")
    add("--kinds", help="only these kinds, set apart by commas; " + ", ".join(KINDS))
    add("--pairs", help="only these pairs: A:B,C:D")
    add("--relay", choices=("with", "without", "both"), default="both", help="with a relay server, without, or both (default)")
    add("--delay", type=float, default=10, help="of each access link, one way, in ms (default 10: a round trip of 40)")
    add("--jitter", type=float, default=0, help="of each access link, in ms")
    add("--loss", type=float, default=0, help="of each access link, in %%")
    add("--clock", type=int, default=0, help="seconds by which the clocks of the two sides differ (needs cc)")
    add("--times", type=int, default=3, help="connects for each pair's median (default 3)")
    add("--jobs", type=int, default=2, help="pairs at once (default 2)")
    add("--p2pd", action="store_true", help="measure Python P2PD 3.1.0 beside it, once a pair, without a relay "
        "(from PyPI; it takes up to a minute a pair that fails)")
    add("--binary", help="the program; default: the release build, else the debug build")
    add("--bounds", action="store_true", help="fail on a median over the bound, also where the links lose packets")
    add("--no-bounds", action="store_true", help="times are shown, and fail nothing")
    add("--json", metavar="FILE", help="write every connect to FILE")
    add("--keep", action="store_true", help="keep the nodes' logs, and say where")
    return parser.parse_args(argv)


def chosen(asked):
    if asked.pairs:
        return [Pair(*pair.split(":")) for pair in asked.pairs.split(",")]
    if asked.quick:
        return [Pair(a, b) for a, b in QUICK]
    kinds = asked.kinds.split(",") if asked.kinds else list(KINDS)
    return [Pair(a, b) for a in kinds for b in kinds] + ([] if asked.kinds else [Pair(near, near) for near in NEAR])


def binary(asked):
    for path in [Path(asked)] if asked else [ROOT / ".build/release/p2pd-lua", ROOT / ".build/debug/p2pd-lua"]:
        if os.access(path, os.X_OK):
            return path
    raise SystemExit("there is no program to measure: build it first, scripts/run version does")


def other_clock(seconds, folder):
    """What makes a process see another time of day; the monotonic clock stays."""
    library = Path(folder) / "clock.so"
    source = Path(__file__).with_name("clock.c")
    made = subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], capture_output=True, text=True)
    if made.returncode:
        raise SystemExit(f"--clock: {source} cannot be built: {made.stderr.strip()}")
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(seconds)}


def p2pd_python():
    """The interpreter of a virtual environment that has Python P2PD 3.1.0, the last whose strategies work."""
    folder = ROOT / "scripts/dev/benchmarks/out/p2pd-3.1.0"
    interpreter, stamp = folder / "bin/python", folder / "installed"
    if not stamp.exists():
        print(f"installing Python P2PD 3.1.0 from PyPI into {folder}", file=sys.stderr)
        folder.parent.mkdir(parents=True, exist_ok=True)
        for command in (["python3", "-m", "venv", folder], [interpreter, "-m", "pip", "install", "-q", "p2pd==3.1.0"]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"Python P2PD cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        stamp.touch()
    return interpreter


class Matrix:
    """One laboratory with its nodes, and the pairs that are tried in it."""

    def __init__(self, asked, pairs, python=None):
        self.asked, self.pairs, self.python = asked, pairs, python
        self.lab = Lab(f"m{os.getpid() % 10000}")
        self.folder = tempfile.mkdtemp(prefix="natmatrix.")
        self.peers, self.results = {}, []
        self.busy, self.free = set(), threading.Condition()

    def __enter__(self):
        try:
            if self.asked.clock:
                self.clock = other_clock(self.asked.clock, self.folder)
            self.lab.up(homes.spec(self.pairs), self.asked.delay, self.asked.jitter, self.asked.loss)
            program = None if self.python else binary(self.asked.binary)
            names = sorted({(side, home) for pair in self.pairs for side, home in (("a", pair.home_a), ("b", pair.home_b))})
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                jobs = {name: pool.submit(self._start, name, program) for name in names}
                self.peers = {name: job.result() for name, job in jobs.items()}
            if not self.python:
                settled(list(self.peers.values()))
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, name, program):
        side, home = name
        folder = Path(self.folder) / side
        folder.mkdir(exist_ok=True)
        environment = servers()
        if self.python:
            try:
                return Peer(self.lab, home, None, folder, environment, self.python)
            except SystemExit as why:
                # P2PD's own failure, and a result: it does not start where UDP is blocked.
                print(f"Python P2PD: {why}", file=sys.stderr)
                return None
        if side == "b" and self.asked.clock:
            environment |= self.clock
        return Peer(self.lab, home, program, folder, environment)

    def __exit__(self, *_):
        for peer in filter(None, self.peers.values()):
            peer.end()
        self.lab.down(quiet=True)
        if self.asked.keep:
            print(f"logs: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, relay):
        """Every pair, some at once, no node in two pairs at a time."""
        self.done = 0
        with concurrent.futures.ThreadPoolExecutor(self.asked.jobs if relay else max(self.asked.jobs, 6)) as pool:
            try:
                return list(pool.map(lambda pair: self._pair(pair, relay), self.pairs))
            except BaseException:
                # Who stops the run does not want the rest of it; nodes that end answer who waits for them.
                pool.shutdown(wait=False, cancel_futures=True)
                for peer in filter(None, self.peers.values()):
                    peer.end()
                raise

    def _pair(self, pair, relay):
        names = {("a", pair.home_a), ("b", pair.home_b)}
        with self.free:
            while names & self.busy:
                self.free.wait()
            self.busy |= names
        try:
            return self._connects(pair, relay)
        finally:
            with self.free:
                self.busy -= names
                self.done += 1
                self._progress(relay)
                self.free.notify_all()

    def _progress(self, relay):
        """On a terminal a line that counts, elsewhere a line now and then: a whole matrix takes minutes."""
        over = self.done == len(self.pairs)
        words = f"{self.done} of {len(self.pairs)} pairs {'with' if relay else 'without'} a relay"
        if sys.stderr.isatty():
            print(f"\r{words}", end="\n" if over else "", file=sys.stderr, flush=True)
        elif self.done % 50 == 0:
            print(words, file=sys.stderr, flush=True)

    def _connects(self, pair, relay):
        a, b = self.peers["a", pair.home_a], self.peers["b", pair.home_b]
        way = pair.way(self.lab)
        times = 1 if self.python or not (relay or way) else self.asked.times
        if not (a and b):
            return Cell(pair, relay, way, [{"seconds": 0, "error": {"code": "start", "text": "a node did not start"}}], self.asked)
        answers = []
        for _ in range(times):
            words = {} if relay else {"strategies": WITHOUT}
            if relay and way and self.asked.loss:
                # A packet lost costs a second, in which the relay wins: then the pipe has to move.
                words["watch"] = MOVES_WITHIN
            answers.append(a.ask(timeout=150 if self.python else 30 + words.get("watch", 0), to=b.address, **words))
        return Cell(pair, relay, way, answers, self.asked)


class Cell:
    """What became of one pair."""

    def __init__(self, pair, relay, way, answers, asked):
        self.pair, self.relay, self.way, self.answers = pair, relay, way, answers
        good = [answer for answer in answers if "error" not in answer]
        self.median = statistics.median(answer["seconds"] for answer in good) if good else None
        self.strategies = sorted({answer["strategy"] for answer in good})
        self.faults = list(self._faults(good, asked))

    def _faults(self, good, asked):
        for answer in self.answers:
            if "error" in answer and (self.relay or self.way):
                yield f"failed: {answer['error']['text']}"
                return
        if not self.relay and not self.way:
            if good:
                yield f"connected by {self.strategies}, which theory says cannot be"
            slow = max(answer["seconds"] for answer in self.answers)
            if slow > 6.0 and not good:
                yield f"took {slow:.1f} s to fail, 6 at most"
            if any(not answer["error"].get("attempts") for answer in self.answers if "error" in answer):
                yield "failed without saying what was tried"
            return
        if self.way and any(answer.get("moved", answer["strategy"]) == "relay" for answer in good):
            yield f"was relayed, and {self.way} leads there"
        exact = not (asked.loss or asked.jitter) or asked.bounds
        if exact and not asked.no_bounds and good:
            limit = max(self.pair.bound(strategy, asked.delay, asked.jitter) for strategy in self.strategies)
            if self.median > limit:
                yield f"took {self.median * 1e3:.0f} ms by {self.strategies}, {limit * 1e3:.0f} at most"

    @property
    def text(self):
        if self.median is None:
            return "." + "!" * bool(self.faults)
        letters = "".join(LETTERS[strategy] for strategy in self.strategies)
        return f"{letters}{self.median * 1e3:.0f}" + "!" * bool(self.faults)


def beside(cells, theirs):
    """Ours and Python P2PD's, pair by pair."""
    print("\nbeside Python P2PD 3.1.0 (unencrypted pipes), without a relay: ms until the pipe was open; . no way there, or no start")
    other = {str(c.pair): c for c in theirs}
    table(["pair", "p2pd-lua", "P2PD"], [[str(c.pair), c.text.rstrip("!"), other[str(c.pair)].text.rstrip("!")] for c in cells])


def show(cells, asked, relay):
    """The table: rows connect to columns."""
    print(f"\n{'with' if relay else 'without'} a relay: d direct, r reverse, p punch, R relay, and ms until the pipe was open "
          f"(median of {asked.times}, links of {asked.delay:g} ms"
          + (f", jitter {asked.jitter:g} ms" if asked.jitter else "") + (f", loss {asked.loss:g} %" if asked.loss else "")
          + "); . no way there; ! not as it must be; row connects to column")
    cell = {(c.pair.a, c.pair.b): c for c in cells}
    square = [k for k in KINDS if any(k in key for key in cell)]
    inside = [c for c in cells if c.pair.a in square and c.pair.b in square]
    if len(inside) == len(square) ** 2 > 1:
        table([""] + [str(i) for i in range(len(square))],
              [[f"{i} {a}"] + [cell[a, b].text for b in square] for i, a in enumerate(square)])
    else:
        inside = []
    cells_apart = [c for c in cells if c not in inside]
    for c in cells_apart:
        print(f"  {str(c.pair):34} {c.text}")
    for c in cells:
        for fault in c.faults:
            print(f"  ! {c.pair}: {fault}")
    for strategy in ("direct", "reverse", "punch", "relay"):
        times = [a["seconds"] for c in cells for a in c.answers if a.get("strategy") == strategy and "error" not in a]
        if times:
            print(f"  {strategy:8} median {statistics.median(times) * 1e3:4.0f} ms, bound "
                  f"{homes.bound(strategy, asked.delay, asked.jitter) * 1e3:.0f} ms, of {len(times)} connects")


def run(argv):
    asked = options(argv)
    if os.geteuid():
        os.execvp("unshare", ["unshare", "-Urmnpf", "--mount-proc", "sh", "-c",
                  "mount -t tmpfs none /run && mkdir -p /run/netns && mount -t tmpfs none /etc/netns 2>/dev/null; exec \"$0\" \"$@\"",
                  sys.executable, str(ROOT / "scripts/dev/natmatrix"), *argv])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    pairs = chosen(asked)
    began, everything = time.monotonic(), []
    python = p2pd_python() if asked.p2pd else None
    try:
        with Matrix(asked, pairs) as matrix:
            for relay in {"with": [True], "without": [False], "both": [True, False]}[asked.relay]:
                cells = matrix.run(relay)
                show(cells, asked, relay)
                everything += cells
        if python:
            ours = [cell for cell in everything if not cell.relay]
            with Matrix(asked, pairs, python) as matrix:
                beside(ours or everything, matrix.run(False))
    except LabError as error:
        print(f"the laboratory: {error}", file=sys.stderr)
        return 77
    if asked.json:
        Path(asked.json).write_text(json.dumps([
            {"pair": str(c.pair), "relay": c.relay, "way": c.way, "faults": c.faults, "connects": c.answers}
            for c in everything], indent=1))
    bad = sum(bool(c.faults) for c in everything)
    print(f"\n{len(everything) - bad} passed, {bad} failed, 0 skipped ({time.monotonic() - began:.0f} s)")
    return 1 if bad else 0
