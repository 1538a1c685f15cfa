"""Runs inside a laboratory (scripts/lab/natlab.py -n NAME run ... -- this NAME WHAT BINARY UNIT_TESTS): homes that can reach
each other through a relay alone. Prints a line a pair, and fails with the first that does not talk."""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "scripts/lab"))
sys.dont_write_bytecode = True

from natlab.lab import Lab  # noqa: E402
from natlab.model import SRV, TURN_PASS, TURN_SECRET, TURN_USER  # noqa: E402

URL = f"turn:{TURN_USER}:{TURN_PASS}@{SRV[1]}"
SECRET = f"turn:{SRV[5]}?secret={TURN_SECRET}"
PATIENCE = 60


def scripts(lab, binary):
    """Datagrams: both have a relay; c speaks to it over TCP, since its router lets no UDP out."""
    script = os.path.join(ROOT, "Tests/Program/lua/turn.lua")
    for one, other, url in (("a", "b", URL), ("a", "c", URL), ("b", "c", SECRET)):
        with tempfile.TemporaryDirectory(prefix="lab-relay.") as folder:
            running = []
            for me, them in ((one, other), (other, one)):
                env = {**os.environ, "P2PD_TURN": url, "P2PD_STUN": "none", "P2PD_BROKERS": "none", "HOME": folder}
                running.append(subprocess.Popen(
                    ["ip", "netns", "exec", lab.ns(me), binary, "exec", script, "peer", folder, me, them], env=env,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            for process, them in zip(running, (other, one)):
                out, err = process.communicate(timeout=PATIENCE)
                if process.returncode or f"hello from {them}" not in out:
                    raise AssertionError(f"{one} and {other}: {out}{err}")
        print(f"datagrams {one} {other}: ok")


def streams(lab, tests):
    """RelayPath at one home and RelayDial at the other, both in one process of the unit tests, on a thread in each home."""
    for near, far, url in (("a", "b", URL), ("c", "a", URL), ("b", "c", SECRET)):
        env = {**os.environ, "P2PD_LAB_NEAR": f"/run/netns/{lab.ns(near)}", "P2PD_LAB_FAR": f"/run/netns/{lab.ns(far)}",
               "P2PD_LAB_TURN": url, "P2PD_LAB_FAR_IP": lab.host(far)[0]["public"], "SWIFT_BACKTRACE": "enable=no"}
        done = subprocess.run(
            [tests, "--testing-library", "swift-testing", "--filter", "RelayLabTests"], env=env, capture_output=True, text=True,
            timeout=PATIENCE)
        words = [line for line in done.stdout.splitlines() if line.startswith("relayed")]
        if done.returncode or not words:
            raise AssertionError(f"{near} and {far}: {done.stdout[-3000:]}{done.stderr[-1000:]}")
        print(f"streams {near} {far}: {words[0]}")


def main():
    name, what, binary, tests = sys.argv[1:5]
    lab = Lab(name).load()
    if what == "scripts":
        scripts(lab, binary)
    else:
        streams(lab, tests)


if __name__ == "__main__":
    main()
