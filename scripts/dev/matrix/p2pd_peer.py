"""One Python P2PD node of a matrix, led as peer.lua is: run inside a home of the laboratory, by P2PD's own interpreter.

  python p2pd_peer.py SOCKET

P2PD has its servers written into its modules; here their lists are replaced by the laboratory's, in place. Everything else is
P2PD's own: how it learns its addresses, the order of its strategies and their timeouts.
"""
import asyncio
import hashlib
import ipaddress
import json
import os
import sys
import time
from decimal import Decimal

import p2pd.settings as settings
from p2pd.settings import IP4, IP6, TCP, UDP


def server(mode, ip, other=None):
    return {"mode": mode, "host": ip, "primary": {"ip": ip, "port": 3478},
            "secondary": {"ip": other, "port": 3479 if other else None}}


STUN = os.environ["P2PD_STUN"].replace(":3478", "").split(",")
# It asks twelve servers for one verdict: each of the laboratory's stands for three.
for proto in (UDP, TCP):
    settings.STUN_MAP_SERVERS[proto] = {IP4: [server(2, ip) for ip in STUN], IP6: []}
    settings.STUN_CHANGE_SERVERS[proto] = {
        IP4: [server(1, STUN[i % 4], STUN[i % 4 ^ 1]) for i in range(12)], IP6: []}
broker = os.environ["P2PD_BROKERS"].split("//")[1].split(":")[0]
settings.MQTT_SERVERS[:] = [{"host": broker, "port": 1883, IP4: broker, IP6: None}]
settings.NTP_SERVERS[:] = []
settings.TURN_SERVERS[:] = []
settings.PNP_SERVERS[IP4] = []
settings.PNP_SERVERS[IP6] = []

# The laboratory's internet has the addresses of RFC 5737, which Python calls private and P2PD would not use.
ipaddress._IPv4Constants._private_networks[:] = [
    network for network in ipaddress._IPv4Constants._private_networks
    if str(network) not in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]

from p2pd.clock_skew import SysClock  # noqa: E402  (the lists come first)
from p2pd.interface import Interface  # noqa: E402
from p2pd.nat_utils import delta_info, nat_info  # noqa: E402
from p2pd.p2p_node import NODE_CONF, P2PNode  # noqa: E402
from p2pd.utils import dict_child  # noqa: E402

NUMBERS = {"direct": 1, "reverse": 2, "punch": 3}


async def connect(node, ask):
    before = time.monotonic()
    answer = {"id": ask["id"]}
    for name, number in NUMBERS.items():
        if name not in ask.get("strategies", NUMBERS):
            continue
        # One strategy at a time, which is how P2PD tries them; asked for singly it is known which one it was.
        pipe = await node.connect(ask["to"].encode(), strategies=[number])
        if pipe is not None:
            answer["strategy"] = name
            break
    answer["seconds"] = time.monotonic() - before
    if pipe is None:
        answer["error"] = {"code": "failed", "text": "connect returned None"}
        return answer
    await pipe.close()
    return answer


async def main(path):
    reader, writer = await asyncio.open_unix_connection(path)

    def say(answer):
        writer.write(json.dumps(answer).encode() + b"\n")

    nic = await Interface("eth0")
    # Its own test of the NAT wants twelve servers that answer change requests; it is told what the test would have to find.
    kind, delta, value = (int(word) for word in os.environ["P2PD_NAT"].split("/"))
    nic.set_nat(nat_info(kind, delta_info(delta, value)))
    node = P2PNode(ifs=[nic], port=20000 + os.getpid() % 20000, conf=dict_child({"enable_upnp": False, "sig_pipe_no": 1}, NODE_CONF))
    # All homes are one machine here; P2PD would not use outside addresses between nodes of one.
    machine = hashlib.sha256(path.encode()).hexdigest()

    async def machine_id(*_):
        return machine
    node.load_machine_id = machine_id
    # The clocks of a laboratory agree.
    await node.start(sys_clock=SysClock(nic, Decimal("0.01")))
    address = node.address().decode()
    say({"address": address})
    while line := await reader.readline():
        ask = json.loads(line)
        if "to" in ask:
            say(await connect(node, ask))
        else:
            say({"id": ask["id"], "address": address})
    # Its punching processes do not end with it.
    os.killpg(0, 9)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
