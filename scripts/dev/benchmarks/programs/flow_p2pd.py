"""flow.lua for Python P2PD: keeps messages in flight through one of its TCP pipes to an echo server.

    python flow_p2pd.py PORT SIZE DEPTH SECONDS      PORT is that of echo_p2pd.py; prints JSON

A client pipe asks its route's interface for a name. Loading a real interface would ask STUN servers on the internet,
so the route gets one that only answers that.
"""
import asyncio
import json
import sys
import time
from collections import deque
from types import SimpleNamespace

from p2pd import IP4, TCP, Bind, pipe_open

WARMUP = 0.4


async def main(port, size, depth, seconds):
  sent_at, latencies = deque(), []
  message = b"x" * size
  pending = 0
  running = True

  async def msg_cb(msg, client_tup, pipe):
    # A stream brings a message in pieces, or several at once.
    nonlocal pending
    pending += len(msg)
    while pending >= size:
      pending -= size
      latencies.append(time.monotonic() - sent_at.popleft())
      if running:
        await send(pipe)

  async def send(pipe):
    sent_at.append(time.monotonic())
    await pipe.send(message, pipe_to)

  pipe_to = ("127.0.0.1", port)
  route = await Bind(None, IP4, 0, "127.0.0.1").bind()
  route.interface = SimpleNamespace(id="lo")
  pipe = await pipe_open(TCP, pipe_to, route, msg_cb=msg_cb)
  assert pipe is not None
  for _ in range(depth):
    await send(pipe)
  await asyncio.sleep(WARMUP)
  latencies.clear()
  start = time.monotonic()
  await asyncio.sleep(seconds)
  elapsed = time.monotonic() - start
  taken = sorted(latencies)
  running = False
  count = len(taken)
  print(json.dumps({
    "messages": count, "seconds": elapsed, "rate": count / elapsed, "mb_per_s": count * size / elapsed / 1e6,
    "p50": taken[count // 2] * 1e6 if count else 0, "p99": taken[count * 99 // 100] * 1e6 if count else 0,
  }), flush=True)
  await pipe.close()


if __name__ == "__main__":
  asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
