"""User instructions per message under callgrind: no other work on the machine changes them. Two runs with different
numbers of messages; their difference leaves start and end of the program out."""
from pathlib import Path

from .children import free_port
from .peers import P2PD, chosen_peers
from .tools import CannotRun, need, say

PROTOCOLS = ("tcp", "udp")
# Few enough for a program slowed down fifty times, enough that a stray timer does not show.
MESSAGES = {False: (2000, 22000), True: (1000, 6000)}
CONNECTIONS = 10


def measure(bench, protocols):
  """{protocol: {peer: instructions per message}}"""
  need("valgrind")
  results = {}
  for protocol in protocols:
    say(f"instructions/{protocol}: callgrind, 64 B, {CONNECTIONS} connections")
    results[protocol] = {}
    # An interpreter's instructions would say nothing: Python P2PD is left out.
    for peer in chosen_peers(bench, without=(P2PD,)):
      try:
        few, many = MESSAGES[bench.quick]
        spent = counted(bench, peer, protocol, many) - counted(bench, peer, protocol, few)
        results[protocol][peer.key] = spent / (many - few)
      except CannotRun as reason:
        bench.failed(f"instructions/{protocol}: {peer.title}", reason)
  return results


def counted(bench, peer, protocol, messages):
  """Instructions of a whole life of the server that answered `messages`."""
  port = free_port()
  profile = Path(bench.out) / f"callgrind.{protocol}.{peer.key}"
  profile.unlink(missing_ok=True)
  program, *arguments = peer.command(bench.tools, port)
  command = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={profile}",
             bench.tools.without_debug_information(program), *arguments]
  server = bench.children.start(f"callgrind-{protocol}-{peer.key}", command, bench.server_cpu)
  try:
    server.line("READY", 90)
    bench.children.result(
      f"load-callgrind-{protocol}-{peer.key}",
      [bench.tools.c("loadgen"), protocol, "-p", port, "-c", CONNECTIONS, "-n", messages], 130, bench.client_cpu,
      server)
  finally:
    server.stop(30)
    bench.children.stop(server)
  if not profile.exists():
    raise CannotRun(f"callgrind wrote no profile: {server.last_words()}")
  with open(profile) as lines:
    for line in lines:
      if line.startswith(("summary:", "totals:")):
        return int(line.split()[1])
  raise CannotRun(f"no total in {profile}")
