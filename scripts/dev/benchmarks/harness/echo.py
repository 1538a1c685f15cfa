"""Echo under load: every server is started once, and the rounds of a scenario go through all of them in turn, each
round beginning with another one. What the machine does meanwhile then meets all alike, and the figure to trust is
the median of the ratios within a round."""
from dataclasses import dataclass
from statistics import median

from .peers import C, LUV, P2PD, chosen_peers, start_server
from .tools import CannotRun, say

# A run in which server or generator waited for its CPU longer than this share of the time was disturbed, and is
# repeated. (A generator held up lets the server fall asleep; its waking up then counts as cost of the messages.)
WAITED_TOO_LONG = 0.08
TRIES = 3
FIGURES = ("rate", "mb_per_s", "cpu", "cpu_user", "cpu_system", "p50", "p99", "p999", "busy", "waited", "generator_busy",
           "generator_waited")


@dataclass(frozen=True)
class Scenario:
  name: str
  title: str
  proto: str
  connections: int
  size: int = 64
  depth: int = 1
  # One connection on two CPUs measures how long an idle CPU takes to wake up, the same for every server.
  same_cpu: bool = False
  extra: bool = False  # run only when asked for by name


SCENARIOS = [
  Scenario("tcp-1", "TCP, 1 connection, 64 B, generator on the same CPU", "tcp", 1, same_cpu=True),
  Scenario("tcp-50", "TCP, 50 connections, 64 B", "tcp", 50),
  Scenario("tcp-50x16", "TCP, 50 connections, 64 B, 16 deep", "tcp", 50, depth=16),
  Scenario("tcp-64k", "TCP, 4 connections, 64 KiB, 2 deep", "tcp", 4, size=65536, depth=2),
  Scenario("udp-1", "UDP, 1 socket, 64 B, generator on the same CPU", "udp", 1, same_cpu=True),
  Scenario("udp-50", "UDP, 50 sockets, 64 B", "udp", 50),
  Scenario("tcp-500", "TCP, 500 connections, 64 B", "tcp", 500, extra=True),
]


def measure(bench, scenarios):
  """{scenario: {"median": {peer: figures}, "ratios": {peer: {...}}, "rounds": [...]}}"""
  bench.tools.c("loadgen")
  servers = []
  for peer in chosen_peers(bench):
    try:
      servers.append(start_server(bench, peer))
    except CannotRun as reason:
      bench.left_out.add(peer.key)
      bench.failed(f"echo: {peer.title}", reason)
  results = {}
  try:
    for scenario in scenarios:
      results[scenario.name] = rounds(bench, scenario, servers)
  finally:
    for server in servers:
      bench.children.stop(server.child)
  return results


def rounds(bench, scenario, servers):
  say(f"echo/{scenario.name}: {scenario.title}, {bench.rounds} rounds of {len(servers)} x {bench.seconds:g} s")
  taken, broken = [], set()
  for number in range(bench.rounds):
    shift = number % max(len(servers), 1)
    this = {}
    for server in servers[shift:] + servers[:shift]:
      key = server.peer.key
      if key in broken:
        continue
      try:
        this[key] = undisturbed(bench, scenario, server)
      except CannotRun as reason:
        broken.add(key)
        bench.failed(f"echo/{scenario.name}: {server.peer.title}", reason)
    taken.append(this)
  return summary(taken)


def undisturbed(bench, scenario, server):
  """One run, or the calmest of three."""
  best = None
  for _ in range(1 if scenario.same_cpu else TRIES):
    figures = one_run(bench, scenario, server)
    if best is None or disturbance(figures) < disturbance(best):
      best = figures
    if disturbance(best) <= WAITED_TOO_LONG:
      break
  return best


def disturbance(figures):
  return max(figures["waited"], figures["generator_waited"])


def one_run(bench, scenario, server):
  warmup = min(0.4, bench.seconds / 3)
  command = [bench.tools.c("loadgen"), scenario.proto, "-p", server.port, "-c", scenario.connections,
             "-s", scenario.size, "-q", scenario.depth, "-d", bench.seconds, "-w", warmup, "-P", server.child.pid]
  cpu = bench.server_cpu if scenario.same_cpu else bench.client_cpu
  name = f"load-{scenario.name}-{server.peer.key}"
  figures = bench.children.result(name, command, bench.seconds + 30, cpu, server.child)
  if not figures["messages"]:
    raise CannotRun("not one message was answered")
  return figures


def summary(taken):
  keys = [key for key in dict.fromkeys(key for this in taken for key in this)]
  medians = {
    key: {name: median(this[key][name] for this in taken if key in this) for name in FIGURES} for key in keys}
  ratios = {}
  for key in keys:
    ratios[key] = {}
    for figure in ("cpu", "rate"):
      for base in (C, LUV, P2PD):
        pairs = [this[key][figure] / this[base][figure] for this in taken
                 if key in this and base in this and this[base][figure]]
        if pairs:
          ratios[key][f"{figure}/{base}"] = median(pairs)
  return {"median": medians, "ratios": ratios, "rounds": taken}
