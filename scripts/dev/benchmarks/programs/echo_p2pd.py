"""Python P2PD's echo: TCP and UDP pipes on one port of 127.0.0.1, answers from an async msg_cb.

    python echo_p2pd.py PORT      prints READY and serves until it is ended

`Bind(None, ...)` binds without looking interfaces up, so that no STUN server on the internet is asked.
"""
import asyncio
import sys

from p2pd import IP4, NET_CONF, TCP, UDP, Bind, dict_child, pipe_open


async def msg_cb(msg, client_tup, pipe):
  await pipe.send(msg, client_tup)


async def main(port):
  conf = dict_child({"reuse_addr": True}, NET_CONF)
  servers = []
  for proto in (TCP, UDP):
    route = await Bind(None, IP4, port, "127.0.0.1").bind()
    server = await pipe_open(proto, route=route, msg_cb=msg_cb, conf=conf)
    assert server is not None
    servers.append(server)
  print("READY", flush=True)
  await asyncio.Event().wait()


if __name__ == "__main__":
  asyncio.run(main(int(sys.argv[1])))
