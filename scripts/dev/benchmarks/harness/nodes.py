"""Pipes between nodes. The load generator cannot speak their encryption, so both ends are p2pd-lua, in a process
and on a CPU each, and the plain pipes they are compared with are driven by the same script in the same rounds."""
import selectors
import time
from dataclasses import dataclass
from statistics import median

from .children import free_port
from .peers import P2PD
from .tools import PROGRAMS, ROOT, CannotRun, say

# What a pipe is: between nodes, or plain with a framing (`u32` keeps message boundaries, as node pipes do), or one of
# Python P2PD at both ends, for the road a message of its users takes.
NODE, FRAMED, RAW = "node", "u32", "raw"
PLAIN = (FRAMED, RAW)
# A node on 127.0.0.1 with a key of its own, that asks no server and lets in all that one measurement opens.
NODE_OPTIONS = ["--ephemeral", "--offline", "--listen", "127.0.0.1"]
LET_IN = ["--max-pipes", 20000, "--max-pipes-per-peer", 20000, "--max-pipes-per-address", 20000]
START_TRIES = {False: 20, True: 7}
CONNECTS = {False: 200, True: 60}


@dataclass(frozen=True)
class Flow:
  name: str
  title: str
  size: int
  depth: int


FLOWS = [
  Flow("64k", "64 KiB, 8 in flight", 65536, 8),
  Flow("64b", "64 B, 1 in flight", 64, 1),
  Flow("64bx16", "64 B, 16 in flight", 64, 16),
]


def script(bench, name, *arguments, options=()):
  """The command that runs a Lua script of programs/."""
  return [bench.tools.p2pd_lua(), "exec", *options, PROGRAMS / name, *arguments]


def node_script(bench, name, *arguments):
  return script(bench, name, *arguments, options=NODE_OPTIONS)


def start_node(bench, **more):
  """A node that echoes, and its address."""
  command = script(bench, "echo_node.lua", options=[*NODE_OPTIONS, *LET_IN])
  child = bench.children.start("echo-node", command, bench.server_cpu, **more)
  return child, child.line("READY", 20).split()[1]


def measure_flows(bench, flows):
  """{flow: {"median": {kind: figures}, "ratios": {"node/u32": ..., "raw/p2pd": ...}, "rounds": [...]}}"""
  servers, clients = {}, {}

  def serve(kind, command):
    servers[kind] = bench.children.start(f"echo-{kind}", command, bench.server_cpu)
    servers[kind].line("READY", 20)

  try:
    servers[NODE], address = start_node(bench)
    clients[NODE] = node_script(bench, "flow.lua", NODE, address)
    for framing in PLAIN:
      port = free_port()
      serve(framing, script(bench, "echo_pipes.lua", port, framing))
      clients[framing] = script(bench, "flow.lua", framing, port)
    if P2PD not in bench.left_out:
      try:
        port, interpreter = free_port(), bench.tools.p2pd_python()
        serve(P2PD, [interpreter, PROGRAMS / "echo_p2pd.py", port])
        clients[P2PD] = [interpreter, PROGRAMS / "flow_p2pd.py", port]
      except CannotRun as reason:
        bench.left_out.add(P2PD)
        bench.note("Python P2PD", reason)
    return {flow.name: flow_rounds(bench, flow, servers, clients) for flow in flows}
  finally:
    for child in servers.values():
      bench.children.stop(child)


def flow_rounds(bench, flow, servers, clients):
  say(f"node-pipes/{flow.name}: {flow.title}, {bench.rounds} rounds of {len(clients)} x {bench.seconds:g} s")
  kinds, taken, broken = list(clients), [], set()
  for number in range(bench.rounds):
    shift = number % len(kinds)
    this = {}
    for kind in kinds[shift:] + kinds[:shift]:
      if kind in broken:
        continue
      command = [*clients[kind], flow.size, flow.depth, bench.seconds]
      try:
        this[kind] = bench.children.result(
          f"flow-{flow.name}-{kind}", command, bench.seconds + 30, bench.client_cpu, servers[kind])
      except CannotRun as reason:
        broken.add(kind)
        bench.failed(f"node-pipes/{flow.name}: {kind}", reason)
    taken.append(this)
  figures = ("rate", "mb_per_s", "p50", "p99")
  medians, ratios = {}, {}
  for kind in kinds:
    whole = [this[kind] for this in taken if kind in this]
    if whole:
      medians[kind] = {name: median(figure[name] for figure in whole) for name in figures}
    for base in kinds:
      pairs = [this[kind]["rate"] / this[base]["rate"] for this in taken if kind in this and base in this]
      if pairs and base != kind:
        ratios[f"{kind}/{base}"] = median(pairs)
  return {"median": medians, "ratios": ratios, "rounds": taken}


def measure_connect(bench):
  """Milliseconds from the call of connect to the first echo back, and to the open pipe alone."""
  count = CONNECTS[bench.quick]
  say(f"connect: {count} connects to a known address, first echo back")
  server, address = start_node(bench)
  try:
    figures = bench.children.result("connect", node_script(bench, "connect.lua", address, count), 120,
                                    bench.client_cpu, server)
  finally:
    bench.children.stop(server)
  return {name: value if name == "connects" else value / 1000 for name, value in figures.items()}


def measure_start(bench):
  """Milliseconds from starting the program to the line with the node's address, medians over several starts."""
  tries = START_TRIES[bench.quick]
  say(f"start: {tries} starts of a node hosting echo.lua")
  command = [bench.tools.p2pd_lua(), "run", ROOT / "scripts" / "handlers" / "echo.lua",
             "--offline", "--listen", "127.0.0.1", "--state-dir", bench.out / "state"]
  # The first start makes the key and is not counted.
  taken = sorted([one_start(bench, command) for _ in range(tries + 1)][1:])
  return {"starts": tries, "p50": median(taken), "max": taken[-1]}


def one_start(bench, command):
  began = time.perf_counter()
  child = bench.children.start("start", command, pipes=True)
  try:
    with selectors.DefaultSelector() as outputs:
      outputs.register(child.process.stdout, selectors.EVENT_READ)
      seen = b""
      while b"p2pd1" not in seen:
        if not outputs.select(10):
          raise CannotRun(f"no address within 10 s; printed so far: {seen[-300:].decode(errors='replace')!r}")
        part = child.process.stdout.read1(65536)
        if not part:
          raise CannotRun(f"it ended without an address: {seen[-300:].decode(errors='replace')!r}")
        seen += part
    return (time.perf_counter() - began) * 1000
  finally:
    bench.children.stop(child)
