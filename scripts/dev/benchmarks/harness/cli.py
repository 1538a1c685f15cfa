"""Options, the list of measurements, and what a run does from start to end."""
import argparse
import fnmatch
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

from . import echo, instructions, memory, nodes, reload, report, signalling
from .children import Children, end_on_signals
from .peers import P2PD
from .tools import HERE, ROOT, Absent, CannotRun, Tools, need, say

DESCRIPTION = """Measures p2pd-lua against a bare C epoll echo, lua-luv, bare swift-nio and Python P2PD, all in one
run and interleaved: messages/s, server CPU per message and latency of an echo through a Lua msg_cb; user
instructions per message; encrypted pipes between nodes; connect and start time; signalling under a flood; memory of
idle pipes. Prints one table with ratios and the project's targets, and writes everything as JSON. Linux only; opens
nothing but 127.0.0.1."""

EPILOG = """Ratios are medians of the ratios within a round. Trust CPU ÷C and the instruction counts first: bare C
keeps the load generator itself at its limit, and only instructions are free of noise. Exit status: 0 when everything
ran, however slow; 1 when something could not run; 2 for wrong options. Measure on a machine that does nothing else."""


def measurements(with_extra):
  """Names as --only takes them, with what each measures, in the order they run."""
  names = {f"echo/{s.name}": s.title for s in echo.SCENARIOS if with_extra or not s.extra}
  names |= {f"instructions/{p}": f"instructions per {p.upper()} message (callgrind)" for p in instructions.PROTOCOLS}
  names |= {f"node-pipes/{f.name}": f"encrypted node pipe and plain pipes, {f.title}" for f in nodes.FLOWS}
  names["connect"] = "connect to a known address, first echo back"
  names["start"] = "start of a node to its printed address"
  names["memory/plain"] = f"memory of {memory.PIPES[False]} idle plain pipes"
  names |= {f"signal-flood/{f.name}": f"a node's signalling: {f.title}" for f in signalling.FLOODS}
  names["memory/encrypted"] = f"memory of {memory.PIPES[False]} idle encrypted pipes"
  names["reload/swap"] = f"reloads of a large script with {reload.PIPES[False]} live pipes"
  names["reload/cost"] = "a message's cost with files watched and not"
  return names


def parse(arguments):
  parser = argparse.ArgumentParser(prog="scripts/dev/bench", description=DESCRIPTION, epilog=EPILOG)
  parser.add_argument("--quick", action="store_true", help="a short run for a first look: 3 rounds of 0.7 s, fewer "
                      "messages, connects and pipes")
  parser.add_argument("--only", metavar="PATTERN", action="append", default=[],
                      help="measure only what matches (echo/*, tcp, udp-50, memory/plain ...); may be given again")
  parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each comparison (5)")
  parser.add_argument("--seconds", type=float, metavar="S", help="length of each measured run in seconds (2)")
  parser.add_argument("--no-p2pd", action="store_true", help="leave Python P2PD out: nothing is taken from PyPI")
  parser.add_argument("--binary", metavar="PATH", help="the p2pd-lua to measure, instead of building it")
  parser.add_argument("--out", metavar="FILE", type=Path, default=HERE / "out" / "latest.json",
                      help="where the JSON goes (scripts/dev/benchmarks/out/latest.json)")
  parser.add_argument("--list", action="store_true", help="name the measurements and stop")
  options = parser.parse_args(arguments)
  options.rounds = options.rounds or (3 if options.quick else 5)
  options.seconds = options.seconds or (0.7 if options.quick else 2.0)
  if not 1 <= options.rounds <= 99 or not 0.1 <= options.seconds <= 60:
    parser.error("--rounds takes 1 to 99, --seconds 0.1 to 60")
  options.chosen = [name for name in measurements(bool(options.only)) if wanted(name, options.only)]
  if not options.chosen:
    parser.error(f"nothing matches {' '.join(options.only)}; --list names the measurements")
  return options


def wanted(name, patterns):
  """A pattern is a name with * and ?, or any part of a name."""
  extra = any(name == f"echo/{scenario.name}" for scenario in echo.SCENARIOS if scenario.extra)
  if extra:
    return any(pattern in (name, name.split("/")[-1]) for pattern in patterns)
  return not patterns or any(fnmatch.fnmatchcase(name, pattern) or pattern in name for pattern in patterns)


class Bench:
  """What every measurement is handed: programs, processes, CPUs, sizes, and where to note what did not run."""

  def __init__(self, options):
    self.quick = options.quick
    self.rounds = options.rounds
    self.seconds = options.seconds
    self.out = HERE / "out"
    self.tools = Tools(self.out, options.binary)
    # Neither the user's settings nor the user's key; and after a crash no backtracer that waits for a terminal.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("P2PD_")}
    environment |= {"P2PD_STATE_DIR": str(self.out / "state"), "P2PD_LUA_LIB": str(ROOT / "scripts" / "lib"),
                    "SWIFT_BACKTRACE": "enable=no"}
    self.children = Children(self.out / "logs", environment)
    cpus = sorted(os.sched_getaffinity(0))
    self.server_cpu, self.client_cpu = cpus[0], cpus[1 % len(cpus)]
    self.left_out = {P2PD} if options.no_p2pd else set()
    self.skipped = [("Python P2PD", "--no-p2pd")] if options.no_p2pd else []
    self.failures = []
    if len(cpus) < 2:
      self.skip("two CPUs", "only one here: servers and load share it, so messages/s and latencies mean little")

  def skip(self, what, why):
    say(f"left out: {what}: {why}")
    self.skipped.append((what, str(why)))

  def failed(self, what, why):
    say(f"COULD NOT RUN: {what}: {why}")
    self.failures.append((what, str(why)))

  def note(self, what, reason):
    """Left out without harm, or a failure, as the reason says itself."""
    (self.skip if isinstance(reason, Absent) else self.failed)(what, reason)


def measure(bench, chosen):
  """Runs the chosen measurements; a group that cannot run leaves the others alone."""
  def part(group):
    return [name.split("/")[1] for name in chosen if name.startswith(group + "/")]

  scenarios = [scenario for scenario in echo.SCENARIOS if scenario.name in part("echo")]
  flows = [flow for flow in nodes.FLOWS if flow.name in part("node-pipes")]
  groups = [
    ("echo", scenarios, lambda: echo.measure(bench, scenarios)),
    ("instructions", part("instructions"), lambda: instructions.measure(bench, part("instructions"))),
    ("node-pipes", flows, lambda: nodes.measure_flows(bench, flows)),
    ("connect", "connect" in chosen, lambda: nodes.measure_connect(bench)),
    ("start", "start" in chosen, lambda: nodes.measure_start(bench)),
    ("signal-flood", part("signal-flood"), lambda: signalling.measure(bench, part("signal-flood"))),
    ("memory", part("memory"), lambda: memory.measure(bench, part("memory"))),
    ("reload", part("reload"), lambda: reload.measure(bench, part("reload"))),
  ]
  results = {}
  for group, asked, run in groups:
    if not asked:
      continue
    try:
      results[group] = run()
    except CannotRun as reason:
      bench.failed(group, reason)
  return results


def machine(bench):
  model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
               platform.machine())
  commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
  return {
    "cpu": model, "cpus": os.cpu_count(), "kernel": f"{platform.system()} {platform.release()}",
    "when": time.strftime("%Y-%m-%d %H:%M:%S %z"), "commit": commit.stdout.strip(),
    "server_cpu": bench.server_cpu, "client_cpu": bench.client_cpu, "rounds": bench.rounds, "seconds": bench.seconds,
    "quick": bench.quick, "load_at_start": os.getloadavg()[0],
  }


def main(arguments):
  options = parse(arguments)
  if options.list:
    usual = measurements(False)
    for name, title in measurements(True).items():
      print(f"{name:20} {title}" + ("" if name in usual else " (only when asked for by name)"))
    return 0
  if platform.system() != "Linux":
    say("scripts/dev/bench measures on Linux only: it reads /proc and pins processes to CPUs")
    return 1
  try:
    need("util-linux")
  except CannotRun as reason:
    say(str(reason))
    return 1
  # 10 000 pipes in the load as well: what it starts inherits this limit.
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
  end_on_signals()
  bench = Bench(options)
  results = {"format": 1, "machine": machine(bench)}
  try:
    results |= measure(bench, options.chosen)
  finally:
    bench.children.stop_all()
  results |= {"skipped": bench.skipped, "failures": bench.failures}
  report.write(results, options.out)
  print(report.text(results))
  say(f"\nJSON: {options.out}")
  return 1 if bench.failures else 0


def run():
  try:
    sys.exit(main(sys.argv[1:]))
  except KeyboardInterrupt:
    say("interrupted")
    sys.exit(130)
