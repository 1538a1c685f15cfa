"""Runs inside a laboratory (scripts/lab/natlab.py run ... -- this NAME BINARY [--skew MS,...] [--round N]): in each home
p2pd-punch-node, and every pair of a home a... and a home b... punches. What theory allows must succeed; the others must
say why within 6 s. Prints the table of times, and fails with what is against theory."""

import argparse
import concurrent.futures
import os
import random
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../..")
sys.path.insert(0, os.path.join(ROOT, "scripts/lab"))
sys.dont_write_bytecode = True

from natlab.lab import Lab  # noqa: E402
from natlab.matrix import can_punch  # noqa: E402
from natlab.measure import table  # noqa: E402
from natlab.model import SRV  # noqa: E402


class Node:
    """One home's p2pd-punch-node, driven by lines."""

    def __init__(self, lab, binary, home):
        self.home = home
        command = ["ip", "netns", "exec", lab.ns(home["hosts"][0]["name"]), binary]
        command += [f"{SRV[number]}:3478" for number in (1, 2, 3, 4)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def say(self, line):
        self.process.stdin.write(line + "\n")

    def hear(self, *heads):
        """The next line that begins with one of these words, and those before it."""
        before = []
        for line in self.process.stdout:
            if line.split(" ", 1)[0].strip() in heads:
                return line.strip(), before
            before.append(line.strip())
        raise AssertionError(f"{self.home.name}: the node ended with {self.process.wait()}")

    def take(self):
        self.say("take")
        return self.hear("SIDE")[0].partition(" ")[2]

    def end(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def punch(a, b, skew):
    """((a's line, its report), (b's line, its report), seconds)"""
    sides = a.take(), b.take()
    sid = f"{random.getrandbits(64):x}"
    began = time.monotonic()
    a.say(f"punch a 40 {sid} {sides[1]}")
    b.say(f"punch b {40 + skew} {sid} {sides[0]}")
    heard = a.hear("OK", "FAILED"), b.hear("OK", "FAILED")
    return heard + (time.monotonic() - began - 0.04 - skew / 1000, sides)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("binary")
    parser.add_argument("--skew", default="0")
    parser.add_argument("--rounds", type=int, help="of how many pairs each home takes part in; all otherwise")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    lab = Lab(args.name).load()
    homes = [[home for home in lab.nodes.values() if not home.carrier and home.name.startswith(word)] for word in "ab"]
    began = time.monotonic()
    nodes = [[Node(lab, args.binary, home) for home in side] for side in homes]
    wrong = []
    try:
        for node in nodes[0] + nodes[1]:
            node.hear("READY")
        print(f"{len(nodes[0]) + len(nodes[1])} nodes know their networks after {time.monotonic() - began:.1f} s")
        for skew in map(int, args.skew.split(",")):
            wrong += every_pair(args, nodes, skew)
    finally:
        for node in nodes[0] + nodes[1]:
            node.end()
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def every_pair(args, nodes, skew):
    count, found, wrong = len(nodes[0]), {}, []
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for shift in range(args.rounds or count):
            pairs = [(i, (i + shift) % len(nodes[1])) for i in range(count)]
            runs = [pool.submit(punch, nodes[0][i], nodes[1][j], skew) for i, j in pairs]
            for pair, run in zip(pairs, runs):
                found[pair] = run.result()
    for (i, j), (a, b, seconds, sides) in sorted(found.items()):
        homes = nodes[0][i].home, nodes[1][j].home
        name = f"{spell(homes[0])} > {spell(homes[1])}, skew {skew}"
        succeeded = [line.startswith("OK") for line, _ in (a, b)]
        # A's router and B's are the same where a home's carrier is: none here.
        allowed = can_punch(*homes, "tcp", True)
        if args.verbose or succeeded != [allowed] * 2:
            print(f"-- {name}\n  " + "\n  ".join([f"a told {sides[0]}", f"b told {sides[1]}"]))
            for word, (line, report) in (("a", a), ("b", b)):
                print("  " + "\n  ".join([f"{word}: {line}"] + report))
        if succeeded != [allowed] * 2:
            wrong.append(f"{name}: {a[0]} / {b[0]}, though the rule says {'yes' if allowed else 'no'}")
        if seconds > 6:
            wrong.append(f"{name}: over after {seconds:.1f} s only")
    names = [spell(node.home) for node in nodes[0]]
    rows = []
    for i, name in enumerate(names):
        rows.append([f"{i} {name}"] + [cell(found.get((i, j))) for j in range(len(nodes[1]))])
    print(f"TCP punch, b starts {skew} ms after a: ms until a has a confirmed path, '.' = refused by the rule, "
          f"'-' = failed; {len(found)} pairs in {time.monotonic() - began:.1f} s")
    table([""] + [str(i) for i in range(len(nodes[1]))], rows)
    times = sorted(float(a[0].split()[1]) for a, _, _, _ in found.values() if a[0].startswith("OK"))
    if times:
        print(f"{len(times)} connected, median {times[len(times) // 2]:.0f} ms, longest {times[-1]:.0f} ms\n", flush=True)
    return wrong


def cell(found):
    if not found:
        return ""
    line = found[0][0]
    if line.startswith("OK"):
        return f"{float(line.split()[1]):.0f}"
    return "." if float(line.split()[1]) < 1000 else "-"


def spell(home):
    return "+".join([home["type"]] + [k if v is True else f"{k}={v}" for k, v in home["opts"].items() if k != "delay"])


if __name__ == "__main__":
    sys.exit(main())
