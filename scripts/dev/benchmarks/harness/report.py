"""The table for people and the file for programs."""
import json

from .echo import SCENARIOS
from .nodes import FLOWS, FRAMED, NODE, RAW
from .peers import C, LUV, P2PD, PEERS
from .signalling import FLOODS
from .targets import reached

TITLES = {peer.key: peer.title for peer in PEERS}
BASES = ((C, "÷C"), (LUV, "÷luv"), (P2PD, "÷P2PD"))


def text(results):
  """All tables, then the targets, then what could not run."""
  parts = [_machine(results["machine"])]
  echo = results.get("echo", {})
  parts += [_echo(scenario, echo[scenario.name]) for scenario in SCENARIOS if echo.get(scenario.name)]
  if results.get("instructions"):
    parts.append(_instructions(results["instructions"]))
  if results.get("node-pipes"):
    parts.append(_flows(results["node-pipes"]))
  if results.get("signal-flood"):
    parts.append(_signalling(results["signal-flood"]))
  parts += [part for part in (_single(results), _memory(results.get("memory", {})), _reload(results.get("reload", {})),
                              _targets(results)) if part]
  parts += [f"{heading}\n" + "\n".join(f"  {what}: {why}" for what, why in results[key])
            for key, heading in (("skipped", "Left out"), ("failures", "COULD NOT RUN")) if results[key]]
  return "\n\n".join(parts)


def write(results, path):
  document = dict(results, targets=[dict(vars(target), reached=target.reached) for target in reached(results)])
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(document, indent=1) + "\n")


def table(heading, columns, rows):
  """A heading and aligned columns: the first to the left, the others to the right."""
  cells = [columns, *rows]
  widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
  lines = ["  " + "  ".join([row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in
                                                       zip(row[1:], widths[1:])]).rstrip() for row in cells]
  return "\n".join([heading, *lines])


def number(value, digits=None):
  """Four digits that matter, or `digits` after the point; a dash for what was not measured."""
  if value is None:
    return "-"
  if digits is None:
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2
  return f"{value:,.{digits}f}"


def _machine(machine):
  return (f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['kernel']}; {machine['when']}; "
          f"{machine['rounds']} rounds, {machine['seconds']:g} s a run\n"
          f"servers on CPU {machine['server_cpu']}, load on CPU {machine['client_cpu']}, 127.0.0.1")


def _echo(scenario, measured):
  large = scenario.size >= 65536
  columns = ["server", "MB/s" if large else "msgs/s", *(mark for _, mark in BASES),
             "CPU µs/msg", *(mark for _, mark in BASES), "p50 µs", "p99 µs"]
  rows = []
  for key in (key for key in TITLES if key in measured["median"]):
    figures, ratios = measured["median"][key], measured["ratios"][key]
    rows.append([
      TITLES[key], number(figures["mb_per_s"] if large else figures["rate"], 0),
      *(number(ratios.get(f"rate/{base}")) for base, _ in BASES), number(figures["cpu"]),
      *(number(ratios.get(f"cpu/{base}")) for base, _ in BASES), number(figures["p50"]), number(figures["p99"])])
  return table(f"{scenario.name}: {scenario.title}", columns, rows)


def _instructions(measured):
  columns, rows = ["server"], []
  for protocol in measured:
    columns += [protocol.upper(), "÷C", "÷luv"]
  for key in (key for key in TITLES if any(key in spent for spent in measured.values())):
    row = [TITLES[key]]
    for spent in measured.values():
      own = spent.get(key)
      row.append(number(own, 0))
      row += [number(own / spent[base]) if own and spent.get(base) else "-" for base in (C, LUV)]
    rows.append(row)
  return table("User instructions per 64 B message (callgrind, 10 connections)", columns, rows)


def _flows(measured):
  names = {NODE: "encrypted node pipe", FRAMED: "plain TCP, u32 framing", RAW: "plain TCP, raw",
           P2PD: "Python P2PD at both ends, TCP"}
  bases = ((FRAMED, "÷u32"), (RAW, "÷raw"), (P2PD, "÷P2PD"))
  rows = []
  for flow in (flow for flow in FLOWS if measured.get(flow.name)):
    found = measured[flow.name]
    for kind, figures in found["median"].items():
      rows.append([f"{flow.title}: {names[kind]}", number(figures["rate"], 0), number(figures["mb_per_s"]),
                   *(number(1 if kind == base else found["ratios"].get(f"{kind}/{base}")) for base, _ in bases),
                   number(figures["p50"]), number(figures["p99"])])
  return table("Pipe to pipe: p2pd-lua at both ends, a process and a CPU each",
               ["messages in flight, pipe", "msgs/s", "MB/s", *(mark for _, mark in bases), "p50 µs", "p99 µs"], rows)


def _signalling(measured):
  titles = {flood.name: flood.title for flood in FLOODS}
  rows = [[titles[name], number(figures["sent_per_s"], 0), number(figures["received_per_s"], 0),
           number(100 * figures["cpu"], 1), number(figures["mib"], 1), number(figures["grown_mib"], 1),
           number(100 * figures["answered"], 0), number(figures["p50_ms"], 1),
           number(100 * figures["answered_flooded"], 0), number(figures["p50_flooded_ms"], 1)]
          for name, figures in measured.items()]
  return table("A node's signalling while its topic at one of its two brokers is flooded; answered: requests of a node that "
               "is not the flood",
               ["flood", "sent/s", "arrived/s", "CPU %", "MiB", "grown MiB", "answered %", "p50 ms",
                "by that broker alone %", "p50 ms"], rows)


def _single(results):
  lines = []
  connect, start = results.get("connect"), results.get("start")
  if connect:
    lines.append(f"Connect to a known address, {connect['connects']:.0f} times: first echo back p50 "
                 f"{connect['p50']:.2f} ms, p99 {connect['p99']:.2f} ms (pipe open p50 {connect['connect_p50']:.2f}, "
                 f"p99 {connect['connect_p99']:.2f})")
  if start:
    lines.append(f"Node start to printed address, {start['starts']} times: p50 {start['p50']:.0f} ms, "
                 f"longest {start['max']:.0f} ms")
  return "\n".join(lines)


def _memory(measured):
  if not measured:
    return ""
  mib = 1 << 20
  rows = [[kind, number(figures["opened"], 0), number(figures["echoed"], 0), number(figures["seconds"], 1),
           number(figures["resident_before"] / mib, 1), number(figures["resident_after"] / mib, 1),
           number(figures["kib_per_pipe"])] for kind, figures in measured.items()]
  return table("Idle pipes in one server process", ["pipes", "opened", "echoed", "opened in s", "MiB before",
                                                    "MiB after", "KiB a pipe"], rows)


def _reload(measured):
  lines = []
  swap, cost = measured.get("swap"), measured.get("cost")
  if swap:
    lines.append(
      f"Reload of a 100 KB script, {swap['reloads']} times, {swap['pipes']} live pipes: swap {swap['swap_us']:.1f} µs "
      f"(longest {swap['swap_max_us']:.1f}), staging {swap['stage_ms']:.1f} ms, loop busy {swap['pause_ms']:.1f} ms, longest "
      f"wait of any peer {swap['wait_ms']:.1f} ms (worst {swap['wait_max_ms']:.1f}), without a reload "
      f"{swap['quiet_ms']:.1f} (worst {swap['quiet_max_ms']:.1f})")
  if cost:
    lines.append(f"CPU per message with the script watched {cost['on']:.2f} µs, not watched {cost['off']:.2f} µs: "
                 f"ratio {cost['ratio']:.3f}")
  return "\n".join(lines)


def _targets(results):
  rows = []
  for target in reached(results):
    bound = f"{'at most' if target.relation == '<=' else 'at least'} {target.limit:,g} {target.unit}".strip()
    verdict = "ok" if target.reached else "MISSED"
    if target.remark:
      verdict += f" ({target.remark})"
    rows.append([target.name, f"{number(target.value)} {target.unit}".strip(), bound, verdict])
  if not rows:
    return ""
  return table("Targets", ["figure", "measured", "target", ""], rows)
