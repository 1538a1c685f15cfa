"""The figures the project promises, each as a ratio of two measurements of one run or as an absolute bound.

What the numbers come from: bare C epoll is what the kernel costs; a prototype of this engine stood at 1.18 (TCP) and
1.30 (UDP) of it; lua-luv is what a Lua user would take otherwise, Python P2PD what this program descends from."""
from dataclasses import dataclass

from .echo import SCENARIOS
from .memory import PIPES
from .nodes import NODE, PLAIN
from .peers import C, LUV, OURS, P2PD

CPU_OF_LUV = 0.95
CPU_OF_C = {"tcp": 1.25, "udp": 1.40}
RATE_OF_P2PD = 8
RATE_OF_C_64K = 0.8
NODE_PIPE_OF_PLAIN_64K = 0.4
CONNECT_MS = 4
START_MS = 150
ENCRYPTED_PIPE_KIB = 48
# Of one CPU, and MiB: what a flood on a node's topic may cost it.
FLOOD_CPU_PERCENT = 10
FLOOD_MIB = 8
SWAP_US = 1000
RELOAD_WAIT_MS = 20
WATCHED_COST = 1.02


@dataclass
class Target:
  name: str
  value: float
  relation: str  # "<=" or ">="
  limit: float
  unit: str = "x"
  remark: str = ""

  @property
  def reached(self):
    return self.value <= self.limit if self.relation == "<=" else self.value >= self.limit


def reached(results):
  """A Target for each promise this run has measured."""
  return [*_echo(results.get("echo", {})), *_nodes(results), *_signalling(results.get("signal-flood", {})),
          *_memory(results.get("memory", {})), *_reload(results.get("reload", {}))]


def _echo(echo):
  for scenario in (scenario for scenario in SCENARIOS if not scenario.extra):
    found = echo.get(scenario.name, {}).get("ratios", {})
    ours, c = found.get(OURS, {}), found.get(C, {})
    bounds = [
      (f"cpu/{LUV}", "CPU per message ÷ lua-luv", "<=", CPU_OF_LUV),
      (f"cpu/{C}", "CPU per message ÷ bare C", "<=", CPU_OF_C[scenario.proto]),
      (f"rate/{P2PD}", "messages/s ÷ Python P2PD", ">=", RATE_OF_P2PD),
    ]
    if scenario.name == "tcp-64k":
      bounds.append((f"rate/{C}", "throughput ÷ bare C", ">=", RATE_OF_C_64K))
    for key, title, relation, limit in bounds:
      if key not in ours:
        continue
      # Where even bare C does not reach a bound, the bound says nothing about this program.
      remark = f"bare C: {c[key]:.1f}" if key == f"rate/{P2PD}" and key in c else ""
      yield Target(f"{scenario.name}: {title}", ours[key], relation, limit, remark=remark)


def _nodes(results):
  flow = results.get("node-pipes", {}).get("64k")
  if flow:
    for plain in PLAIN:
      if f"{NODE}/{plain}" in flow["ratios"]:
        yield Target(f"64 KiB: encrypted node pipe ÷ plain pipe ({plain})", flow["ratios"][f"{NODE}/{plain}"], ">=",
                     NODE_PIPE_OF_PLAIN_64K)
  if results.get("connect"):
    yield Target("connect to the first echo back, p50", results["connect"]["p50"], "<=", CONNECT_MS, "ms")
  if results.get("start"):
    yield Target("node start to printed address, p50", results["start"]["p50"], "<=", START_MS, "ms")


def _signalling(floods):
  for name, figures in floods.items():
    yield Target(f"signal-flood {name}: CPU", 100 * figures["cpu"], "<=", FLOOD_CPU_PERCENT, "%")
    yield Target(f"signal-flood {name}: memory grown by", figures["grown_mib"], "<=", FLOOD_MIB, "MiB")
    # Who knows the node's id competes with other strangers for the same budget: that flood has no such promise.
    if name != "insider":
      yield Target(f"signal-flood {name}: requests answered", 100 * figures["answered"], ">=", 100, "%")


def _memory(memory):
  for kind, figures in memory.items():
    if kind == "encrypted":
      yield Target("idle encrypted pipe", figures["kib_per_pipe"], "<=", ENCRYPTED_PIPE_KIB, "KiB")
    wanted = figures["pipes"]
    remark = "" if wanted == PIPES[False] else "a short run opens fewer"
    yield Target(f"{kind} pipes served in one process", figures["echoed"], ">=", wanted, "", remark)


def _reload(reload):
  if "swap" in reload:
    yield Target("reload: swap, longest", reload["swap"]["swap_max_us"], "<=", SWAP_US, "µs")
    yield Target("reload: longest wait of any peer", reload["swap"]["wait_max_ms"], "<=", RELOAD_WAIT_MS, "ms",
                 f"without a reload: {reload['swap']['quiet_max_ms']:.1f}")
  if "cost" in reload:
    yield Target("CPU per message, watched ÷ not", reload["cost"]["ratio"], "<=", WATCHED_COST)
