"""The bytes of a few MQTT 3.1.1 packets (OASIS, 2014), for tests and benchmarks that speak to a real broker."""


def packet(kind, body):
    """A whole packet: its first byte, the length of what follows (§2.2.3), what follows."""
    length, field = len(body), b""
    while True:
        low, length = length & 0x7F, length >> 7
        field += bytes([low | 0x80 if length else low])
        if not length:
            return bytes([kind]) + field + body


def text(value):
    """A string or topic (§1.5.3)."""
    return len(value).to_bytes(2, "big") + value


def connect(client, keep_alive=60):
    """CONNECT with a clean session and no will, user or password (§3.1)."""
    return packet(0x10, text(b"MQTT") + b"\x04\x02" + keep_alive.to_bytes(2, "big") + text(client))


def subscribe(topic):
    """SUBSCRIBE at quality 0 (§3.8)."""
    return packet(0x82, b"\0\x01" + text(topic) + b"\0")


def publish(topic, payload, retain=False):
    """PUBLISH at quality 0 (§3.3)."""
    return packet(0x31 if retain else 0x30, text(topic) + payload)


class Receiver:
    """What a broker says, packet by packet."""

    def __init__(self, connection):
        self.connection, self.kept = connection, b""

    def take(self, count):
        while len(self.kept) < count:
            more = self.connection.recv(65536)
            if not more:
                raise EOFError
            self.kept += more
        taken, self.kept = self.kept[:count], self.kept[count:]
        return taken

    def packet(self):
        """The next packet's first byte, and its body."""
        kind, length, shift = self.take(1)[0], 0, 0
        while True:
            byte = self.take(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return kind, self.take(length)
