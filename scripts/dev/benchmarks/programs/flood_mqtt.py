"""Pours junk onto one topic of an MQTT broker, as fast as the broker takes it.

  flood_mqtt.py PORT TOPIC SIZE SECONDS     prints {"sent": messages, "seconds": s}
"""
import json
import os
import pathlib
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import mqtt  # noqa: E402


def main():
  port, topic, size, seconds = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]), float(sys.argv[4])
  connection = socket.create_connection(("127.0.0.1", port))
  connection.sendall(mqtt.connect(b"flood%d" % os.getpid(), keep_alive=0))
  connection.recv(100)
  count = max(1, 262144 // size)
  # All different: a broker or a receiver that compares them gains nothing.
  burst = b"".join(mqtt.publish(topic, os.urandom(size)) for _ in range(count))
  began, sent = time.monotonic(), 0
  while time.monotonic() - began < seconds:
    connection.sendall(burst)
    sent += count
  print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}))


main()
