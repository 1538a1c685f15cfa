"""A node's signalling under a flood of junk on its topic: the CPU and memory it takes, and whether those who are not the
flood still get through, by the broker that is flooded and by another one."""
import json
import os
import time
from dataclasses import dataclass

from .children import free_port
from .tools import HERE, CannotRun, need, python, say

PROGRAMS = HERE / "programs"


@dataclass(frozen=True)
class Flood:
  name: str
  title: str
  size: int = 0  # bytes of a junk message; 0: no junk
  insider: bool = False  # whoever floods knows the node's id and seals properly


FLOODS = (
  Flood("quiet", "no flood"),
  Flood("junk-64", "junk of no message's length, 64 B", 64),
  Flood("junk-512", "junk of a message's length, 512 B", 512),
  Flood("junk-4k", "junk of the longest message's length, 4 KiB", 4096),
  Flood("junk-64k", "junk over the limit, 64 KiB", 65536),
  Flood("insider", "true messages of twenty senders", insider=True),
)


def measure(bench, names):
  """{flood: {"cpu": share of one CPU, "mib": resident, "grown_mib": more than before, "answered": share by both brokers,
  "answered_flooded": share by the flooded broker alone, "p50_ms": ..., "sent": messages a second, "received": ...}}"""
  node = bench.tools.signal_node()
  need("mosquitto")
  results = {}
  for flood in (flood for flood in FLOODS if flood.name in names):
    say(f"signal-flood/{flood.name}: {flood.title}")
    try:
      results[flood.name] = measure_flood(bench, node, flood)
    except CannotRun as reason:
      bench.failed(f"signal-flood/{flood.name}", reason)
  return results


def start_broker(bench, name):
  port = free_port()
  conf = bench.out / f"{name}.conf"
  conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest stderr\nuser root\n")
  broker = bench.children.start(name, [bench.tools.mosquitto(), "-c", conf], bench.client_cpu)
  broker.line("running", 10)
  return broker, port


def cpu_seconds(child):
  fields = open(f"/proc/{child.pid}/stat").read().rsplit(")", 1)[1].split()
  return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_flood(bench, node, flood):
  seconds = 3 if bench.quick else 10
  children = []
  try:
    flooded, port = start_broker(bench, "broker-flooded")
    children.append(flooded)
    other, other_port = start_broker(bench, "broker-other")
    children.append(other)
    urls = [f"mqtt://127.0.0.1:{port}", f"mqtt://127.0.0.1:{other_port}"]
    server = bench.children.start("signal-node", [node, "serve", *urls], bench.server_cpu)
    children.append(server)
    ready = json.loads(server.line("READY", 20)[len("READY"):])
    time.sleep(0.5)
    before, began, used = server.resident(), time.monotonic(), cpu_seconds(server)
    load = None
    if flood.insider:
      load = bench.children.start("insider", [node, "insider", ready["key"], seconds, urls[0]], bench.client_cpu)
    elif flood.size:
      load = bench.children.start(
        "flood", [python(), PROGRAMS / "flood_mqtt.py", port, ready["topics"][0], flood.size, seconds], bench.client_cpu)
    if load:
      children.append(load)
    # While it goes on: by both brokers, and by the flooded one alone.
    total = seconds * 10 // 3
    asked = bench.children.result("ask", [node, "ask", ready["key"], total, *urls], seconds + 20, bench.client_cpu)
    alone = bench.children.result("ask", [node, "ask", ready["key"], total, urls[0]], seconds + 20, bench.client_cpu)
    wall, spent, after = time.monotonic() - began, cpu_seconds(server) - used, server.resident()
    sent = json.loads(load.line("{", seconds + 20)) if load else {}
    time.sleep(1.1)
    lines = [line for line in server.output.read_text().splitlines() if line.startswith("STATS ")]
    stats = json.loads(lines[-1][len("STATS "):])
  finally:
    for child in reversed(children):
      bench.children.stop(child)
  return {
    "seconds": wall, "cpu": spent / wall, "mib": after / (1 << 20), "grown_mib": (after - before) / (1 << 20),
    "answered": asked["answered"] / asked["asked"], "p50_ms": asked["p50_ms"],
    "answered_flooded": alone["answered"] / alone["asked"], "p50_flooded_ms": alone["p50_ms"],
    "sent_per_s": sent.get("sent", 0) / seconds, "received_per_s": sum(stats.values()) / wall, "stats": stats,
  }
