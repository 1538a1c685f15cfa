"""Names' records made without the program: Ed25519 (RFC 8032 §5.1) in plain Python, and the record's form as docs/names-api.md
has it. Slow (some milliseconds a signature) and not safe against who measures it: for tests only."""

import base64
import hashlib
import http.client
import json
import time

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
I = pow(2, (P - 1) // 4, P)


def add(one, other):
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c = 2 * one[3] * other[3] * D % P
    d = 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def even_x(y):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * I % P
    return x if x % 2 == 0 else P - x


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = even_x(BASE_Y)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)
# Sixteen multiples of each 16th power: a signature is 64 additions.
TABLE = []
_power = BASE
for _ in range(64):
    row = [(0, 1, 1, 0)]
    for _ in range(15):
        row.append(add(row[-1], _power))
    TABLE.append(row)
    _power = add(row[-1], _power)


def times_base(number):
    point = (0, 1, 1, 0)
    for row in TABLE:
        point = add(point, row[number & 15])
        number >>= 4
    return point


def compress(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


class Owner:
    """A key that owns names."""

    def __init__(self, seed):
        digest = hashlib.sha512(hashlib.sha256(str(seed).encode()).digest()).digest()
        self.secret = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
        self.prefix = digest[32:]
        self.key = compress(times_base(self.secret))

    def sign(self, message):
        nonce = int.from_bytes(hashlib.sha512(self.prefix + message).digest(), "little") % L
        point = compress(times_base(nonce))
        hashed = int.from_bytes(hashlib.sha512(point + self.key + message).digest(), "little") % L
        return point + ((nonce + hashed * self.secret) % L).to_bytes(32, "little")

    def record(self, name, value="value", sequence=1, lifetime=86_400):
        """A record as it travels."""
        label, tld = (part.encode() for part in name.rsplit(".", 1))
        expires = int(time.time()) + lifetime
        text = value.encode()
        body = b"p2pd name 1\0" + bytes([len(label)]) + label + bytes([len(tld)]) + tld + self.key
        body += sequence.to_bytes(8, "big") + expires.to_bytes(8, "big") + len(text).to_bytes(2, "big") + text
        members = {"name": name, "key": encode(self.key), "sequence": sequence, "expires": expires, "value": value,
                   "signature": encode(self.sign(body))}
        return json.dumps(members)


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Client:
    """A connection to a name server that is kept open."""

    def __init__(self, port, address="127.0.0.1", timeout=30, source=None):
        self.http = http.client.HTTPConnection(address, port, timeout=timeout, source_address=source and (source, 0))

    def ask(self, method, path, body=None, headers=None):
        """Status, headers, and what was in the JSON (or the text where it is none)."""
        self.http.request(method, path, body, headers or {})
        answer = self.http.getresponse()
        text = answer.read()
        try:
            return answer.status, answer.headers, json.loads(text)
        except ValueError:
            return answer.status, answer.headers, text.decode()

    def push(self, record, headers=None):
        name = json.loads(record)["name"]
        return self.ask("PUT", f"/v1/names/{name}", record, headers)

    def lookup(self, name):
        return self.ask("GET", f"/v1/names/{name}")

    def close(self):
        self.http.close()
