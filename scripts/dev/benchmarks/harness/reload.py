"""What a reload costs those who are connected: the swap with many pipes open, the longest wait of any peer for an answer
while a large script takes over, and what a message costs with reloading on and off."""
import json
import subprocess
import time
from statistics import median

from .children import free_port
from .nodes import LET_IN, NODE_OPTIONS
from .tools import PROGRAMS, CannotRun, say

PIPES = {False: 10000, True: 1500}
RELOADS = {False: 20, True: 5}
# Peers that speak while the others are idle, and messages a second of all of them together: far from the machine's limit, so
# that a wait is the reload's and not a queue's.
SPEAKING = {"tcp": 40, "udp": 10, "rate": 2000}
SCRIPT_BYTES = 100_000
SETTLE = 1.0
ON, OFF = "watched", "not watched"


def measure(bench, kinds):
  """{"swap": {...}, "cost": {...}}"""
  measurements = {"swap": measure_swap, "cost": measure_cost}
  results = {}
  for kind in kinds:
    try:
      results[kind] = measurements[kind](bench)
    except CannotRun as reason:
      bench.failed(f"reload/{kind}", reason)
  return results


class Script:
  """The file that the node hosts, written anew for each generation."""

  def __init__(self, bench, name, size, is_plain=False):
    self.path = bench.out / f"{name}.lua"
    self.port = free_port()
    self.generation = 0
    text = (PROGRAMS / "reload_echo.lua").read_text().replace("0 -- PORT", f"{self.port} -- PORT")
    if is_plain:
      # The bytes as they came, for the echo's load generator.
      text = text.replace('generation .. " " .. msg', "msg").replace(', framing = "line"', "")
    lines, filled = [], len(text)
    while filled < size:
      lines.append(f"local function filling_{len(lines) % 150}(a, b) return a + b * {len(lines)} end")
      filled += len(lines[-1]) + 1
      if len(lines) % 150 == 0:
        # A function has room for 200 local variables: each block of them is closed again.
        lines.append("end do")
    self.text = text.replace("-- FILLING", "do\n" + "\n".join(lines) + "\nend")
    self.write()

  def write(self):
    self.generation += 1
    new = self.path.with_suffix(".new")
    new.write_text(self.text.replace("1 -- GENERATION", f"{self.generation} -- GENERATION"))
    new.rename(self.path)


def start(bench, script, *options):
  command = [bench.tools.p2pd_lua(), "run", *NODE_OPTIONS, *LET_IN, "--port", 0, "--name", script.path.stem, *options,
             script.path]
  child = bench.children.start(f"reload-{script.path.stem}", command, bench.server_cpu)
  child.line("p2pd1", 20)
  return child


def status(bench, script):
  """The node's own report of the last reload."""
  done = subprocess.run([str(bench.tools.p2pd_lua()), "status", "--json", script.path.stem], text=True,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=bench.children.environment, timeout=30)
  if done.returncode:
    raise CannotRun(f"p2pd-lua status: {done.stderr.strip()}")
  return json.loads(done.stdout)


def last_report(bench, script, generation):
  """Waits until the node says that this generation serves."""
  deadline = time.monotonic() + 20
  while time.monotonic() < deadline:
    found = status(bench, script)["protocols"][0]
    report = found.get("last_reload")
    if report and report["result"] == "active" and found["generation"] >= generation:
      return report
    time.sleep(0.05)
  raise CannotRun(f"the node did not reload to generation {generation}")


def measure_swap(bench):
  pipes, reloads = PIPES[bench.quick], RELOADS[bench.quick]
  say(f"reload/swap: {reloads} reloads of a script of {SCRIPT_BYTES // 1000} KB with {pipes} live pipes")
  script = Script(bench, "reload-swap", SCRIPT_BYTES)
  server = start(bench, script)
  idle = pipes - SPEAKING["tcp"]
  command = [bench.tools.c("reload_load"), "-p", script.port, "-c", SPEAKING["tcp"], "-u", SPEAKING["udp"], "-i", idle,
             "-r", SPEAKING["rate"]]
  try:
    load = bench.children.start("reload-load", command, bench.client_cpu, stdin=True)
    load.line("READY", 120)
    quiet, waits, reports = [], [], []
    for _ in range(reloads):
      time.sleep(SETTLE)
      quiet.append(lap(load))
      script.write()
      # The node waits for the burst of saves to be over; then the wait is over within this time or a failure.
      time.sleep(SETTLE)
      waits.append(lap(load))
      reports.append(last_report(bench, script, script.generation)["times"])
      lap(load)
    load.process.stdin.close()
    status_code = load.wait(60)
    final = laps(load)[-1]
    if status_code:
      raise CannotRun(f"not every message was answered once: {final}")
  finally:
    bench.children.stop(server)
  return {
    "pipes": pipes, "reloads": reloads, "generation": final["generation"],
    "swap_us": median(times["swap"] for times in reports) * 1e6, "swap_max_us": max(t["swap"] for t in reports) * 1e6,
    "pause_ms": median(times["pause"] for times in reports) * 1e3,
    "stage_ms": median(times["stage"] for times in reports) * 1e3,
    "wait_ms": median(waits) / 1e3, "wait_max_ms": max(waits) / 1e3, "quiet_ms": median(quiet) / 1e3,
    "quiet_max_ms": max(quiet) / 1e3,
  }


def laps(load):
  return [json.loads(line) for line in load.output.read_text().splitlines() if line.startswith("{")]


def lap(load):
  """The longest wait of any peer since the last lap, in µs."""
  before = len(laps(load))
  load.process.stdin.write(b"lap\n")
  load.process.stdin.flush()
  deadline = time.monotonic() + 10
  while time.monotonic() < deadline:
    found = laps(load)
    if len(found) > before:
      return found[-1]["lap_longest"]
    time.sleep(0.005)
  raise CannotRun("the load generator does not answer")


def measure_cost(bench):
  """Server CPU per message over TCP, 50 connections, with the files watched and not, in turn."""
  say(f"reload/cost: {bench.rounds} rounds of 2 x {bench.seconds:g} s")
  scripts = {kind: Script(bench, f"reload-{number}", 0, is_plain=True) for number, kind in enumerate((ON, OFF))}
  servers = {}
  taken = []
  try:
    for kind, script in scripts.items():
      servers[kind] = start(bench, script, *([] if kind == ON else ["--no-watch"]))
    for number in range(bench.rounds):
      this = {}
      for kind in ((ON, OFF), (OFF, ON))[number % 2]:
        command = [bench.tools.c("loadgen"), "tcp", "-p", scripts[kind].port, "-c", 50, "-s", 64, "-d", bench.seconds,
                   "-w", 0.3, "-P", servers[kind].pid]
        this[kind] = bench.children.result(f"cost-{kind}", command, bench.seconds + 30, bench.client_cpu, servers[kind])
      taken.append(this)
  finally:
    for child in servers.values():
      bench.children.stop(child)
  return {
    "on": median(this[ON]["cpu"] for this in taken), "off": median(this[OFF]["cpu"] for this in taken),
    "ratio": median(this[ON]["cpu"] / this[OFF]["cpu"] for this in taken),
  }
