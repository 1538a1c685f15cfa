"""What an idle pipe costs: a server's memory before and after many pipes were opened, used once and left alone.
The server begins with the usual soft limit of 1024 open files, so that raising it is its own doing."""
import json
import time

from .children import free_port
from .nodes import node_script, script, start_node
from .tools import CannotRun, say

PIPES = {False: 10000, True: 1500}
USUAL_SOFT_LIMIT = 1024
SETTLE = 2.0  # seconds until what opening needed is given back


def measure(bench, kinds):
  """{kind: {"pipes": wanted, "opened": n, "echoed": n, "kib_per_pipe": x, ...}}"""
  results = {}
  for kind in kinds:
    say(f"memory/{kind}: {PIPES[bench.quick]} idle pipes")
    try:
      results[kind] = measure_kind(bench, kind)
    except CannotRun as reason:
      bench.failed(f"memory/{kind}", reason)
  return results


def measure_kind(bench, kind):
  wanted = PIPES[bench.quick]
  if kind == "encrypted":
    server, target = start_node(bench, soft_files=USUAL_SOFT_LIMIT)
    command = node_script(bench, "hold_nodes.lua", target, wanted)
  else:
    target = free_port()
    server = bench.children.start(
      "echo-many", script(bench, "echo_pipes.lua", target), bench.server_cpu, soft_files=USUAL_SOFT_LIMIT)
    server.line("READY", 20)
    command = [bench.tools.c("hold"), target, wanted]
  try:
    time.sleep(0.3)
    before = server.resident()
    began = time.monotonic()
    holder = bench.children.start(
      f"hold-{kind}", command, bench.client_cpu, stdin=True,
      soft_files=USUAL_SOFT_LIMIT if kind == "encrypted" else None)
    try:
      counts = json.loads(holder.line("{", 240))
      seconds = time.monotonic() - began
      time.sleep(SETTLE)
      after = server.resident()
      held = holder.resident()
    finally:
      bench.children.stop(holder)
  finally:
    bench.children.stop(server)
  if not counts["opened"]:
    raise CannotRun(f"no pipe was opened: {holder.last_words()}")
  return {
    "pipes": wanted, "opened": counts["opened"], "echoed": counts["echoed"], "seconds": seconds,
    "resident_before": before, "resident_after": after, "holder_resident": held,
    "kib_per_pipe": (after - before) / counts["opened"] / 1024,
  }
