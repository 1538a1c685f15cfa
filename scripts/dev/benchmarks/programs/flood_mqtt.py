"""Pours junk onto one topic of an MQTT broker, as fast as the broker takes it.

  flood_mqtt.py PORT TOPIC SIZE SECONDS     prints {"sent": messages, "seconds": s}
"""
import json
import os
import socket
import sys
import time


def packet(kind, body):
  length, field = len(body), b""
  while True:
    low, length = length & 0x7F, length >> 7
    field += bytes([low | 0x80 if length else low])
    if not length:
      return bytes([kind]) + field + body


def text(value):
  return len(value).to_bytes(2, "big") + value


def main():
  port, topic, size, seconds = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]), float(sys.argv[4])
  connection = socket.create_connection(("127.0.0.1", port))
  connection.sendall(packet(0x10, text(b"MQTT") + b"\x04\x02\x00\x00" + text(b"flood%d" % os.getpid())))
  connection.recv(100)
  count = max(1, 262144 // size)
  # All different: a broker or a receiver that compares them gains nothing.
  burst = b"".join(packet(0x30, text(topic) + os.urandom(size)) for _ in range(count))
  began, sent = time.monotonic(), 0
  while time.monotonic() - began < seconds:
    connection.sendall(burst)
    sent += count
  print(json.dumps({"sent": sent, "seconds": time.monotonic() - began}))


main()
