"""The echo servers compared. Each serves TCP and UDP on one port of 127.0.0.1 and prints READY."""
from dataclasses import dataclass
from typing import Callable

from .children import free_port
from .tools import P2PD_VERSION, PROGRAMS, CannotRun, need

OURS, C, LUV, P2PD, NIO = "p2pd-lua", "c", "luv", "p2pd", "nio"


@dataclass(frozen=True)
class Peer:
  key: str
  title: str
  command: Callable  # (tools, port) -> words; builds what it needs


def _ours(tools, port):
  return [tools.p2pd_lua(), "exec", PROGRAMS / "echo_pipes.lua", port]


def _c(tools, port):
  return [tools.c("echo_epoll"), port]


def _luv(tools, port):
  need("lua5.4", "lua-luv")
  return ["lua5.4", PROGRAMS / "echo_luv.lua", port]


def _p2pd(tools, port):
  return [tools.p2pd_python(), PROGRAMS / "echo_p2pd.py", port]


def _nio(tools, port):
  return [tools.nio_echo(), port]


PEERS = [
  Peer(OURS, "p2pd-lua, Lua msg_cb", _ours),
  Peer(C, "bare C epoll", _c),
  Peer(LUV, "lua-luv, write", _luv),
  Peer(NIO, "bare swift-nio", _nio),
  Peer(P2PD, f"Python P2PD {P2PD_VERSION}", _p2pd),
]


@dataclass
class Server:
  peer: Peer
  child: object
  port: int


def start_server(bench, peer):
  """Starts a peer on the servers' CPU and waits until it listens."""
  port = free_port()
  child = bench.children.start(f"echo-{peer.key}", peer.command(bench.tools, port), bench.server_cpu)
  child.line("READY", 20)
  return Server(peer, child, port)


def chosen_peers(bench, without=()):
  """The peers whose programs are there; the others are said aloud and noted, once."""
  present = []
  for peer in PEERS:
    if peer.key in without or peer.key in bench.left_out:
      continue
    try:
      peer.command(bench.tools, 0)
      present.append(peer)
    except CannotRun as reason:
      bench.left_out.add(peer.key)
      bench.note(peer.title, reason)
  return present
