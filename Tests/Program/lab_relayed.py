"""Relays and what becomes of pipes over them: runs inside a laboratory as lab_connect.py does (`this NAME BINARY SCENE`)."""

import threading
import time

from lab_scene import PATIENCE, expect, line, main, only_ipv6, settled
from natlab.model import SRV


def relay_then_better(scene):
    """A relayed pipe moves to the better way once there is one: a firewall that kept the other node out opens, while the
    first race still goes on, and long after it."""
    a, b = scene.peers("a", "b")
    outside = scene.lab.nodes["b"]["public"]
    for seconds in (1.5, 7):
        scene.inside("a", "nft", "add table inet gate; add chain inet gate in { type filter hook input priority 0 ; }; "
                     f"add rule inet gate in ip saddr {outside} ct state new drop")
        timer = threading.Timer(seconds, lambda: scene.inside("a", "nft", "delete table inet gate"))
        timer.start()
        answer = a.ask(to=b.address, strategies=["direct", "reverse", "relay"], watch=25, timeout=40)
        timer.join()
        expect(answer, "relay")
        print(f"  {answer['moved']} after {answer['moved_after']:.1f} s")
        assert answer["moved"] == "reverse" and answer["moved_after"] > seconds, answer


def better_way_dies(scene):
    """A relayed pipe goes on on a better way that then swallows everything: it comes back, and nothing is missing."""
    script, b = scene.folder / "talk.lua", scene.peer("b")
    script.write_text(TALK)
    settled([b])
    outside = scene.lab.nodes["b"]["public"]
    scene.inside("a", "nft", f"add table inet gate; add chain inet gate in {{ type filter hook input priority 0 ; }}; "
                 f"add rule inet gate in ip saddr {outside} ct state new drop")
    talk = scene.program("a", "exec", str(script), b.address, "11")
    assert line(talk, "PIPE") == "PIPE relay"
    scene.inside("a", "nft", "delete table inet gate")
    end = time.monotonic() + PATIENCE
    while f"{outside}:" not in scene.inside("a", "ss", "-Htn", "state", "established"):
        assert time.monotonic() < end, "no better way came about"
        time.sleep(0.02)
    time.sleep(1)
    scene.inside("a", "nft", f"add table inet dead; add chain inet dead in {{ type filter hook input priority 0 ; }}; "
                 f"add rule inet dead in ip saddr {outside} drop; "
                 f"add chain inet dead out {{ type filter hook output priority 0 ; }}; "
                 f"add rule inet dead out ip daddr {outside} drop")
    told = line(talk, "DONE")
    print(f"  {told}")
    _, sent, got, strategy, longest = told.split()
    assert sent == got and strategy == "relay", (told, talk.complaints.read_text()[-3000:])
    assert float(longest) > 1, f"the way was not dead: {told}"


def called_off(scene):
    """Connects that are called off, each at another moment of the race, by relay too: no socket is left in either home, and
    no allocation at the relay."""
    b = scene.peer("b")
    settled([b])
    script = scene.folder / "off.lua"
    script.write_text(OFF)
    process = scene.program("a", "exec", str(script), b.address)

    def held():
        sockets = [text for home in ("a", "b", "srv") for text in scene.inside(home, "ss", "-Htuanp").splitlines()]
        return sum("users:" in text for text in sockets)

    line(process, "READY")
    before = held()
    process.stdin.write("\n")
    process.stdin.flush()
    told = line(process, "DONE")
    print(f"  {told}")
    assert int(told.split()[1]) > 20, told
    end = time.monotonic() + PATIENCE
    while held() != before:
        assert time.monotonic() < end, f"{held()} sockets are left, and {before} were there before"
        time.sleep(0.5)


def their_relay(scene):
    """Two symmetric routers, and a relay that only the node that is called knows, or whose own is dead."""
    b = scene.peer("b")
    for turn in ("none", f"turn:nobody:nothing@{SRV[1]}:9?transport=tcp"):
        a = scene.peer("a", {"P2PD_TURN": turn})
        settled([a, b])
        expect(a.ask(to=b.address), "relay")
        # It need not be tried with the other ways to be found.
        expect(a.ask(to=b.address, strategies=["relay"]), "relay")
        a.end()


def ipv6_relay(scene):
    """No IPv4 anywhere, and only the relay allowed: its address is one of IPv6."""
    names = only_ipv6(scene, "a", "b")
    a, b = scene.peers("a", "b", environment=names)
    expect(a.ask(to=b.address, strategies=["relay"]), "relay")
    c = scene.peer("a", {**names, "P2PD_TURN": "none"})
    settled([c])
    expect(c.ask(to=b.address, strategies=["relay"]), "relay")


def why_relayed(scene):
    """Two symmetric routers and a relay: the pipe says why it stands on that, to the script and to a person."""
    (b,) = scene.peers("b")
    script = scene.folder / "why.lua"
    script.write_text(WHY)
    asked = [scene.program("a", "exec", str(script), b.address), scene.program("a", "explain", b.address)]
    told, out = (process.communicate(timeout=PATIENCE)[0] for process in asked)
    print("  " + (told + out).replace("\n", "\n  ").rstrip())
    for word in ("relay at first nil", "unreachable", "punch", "by the other", "router"):
        assert word in told, f"nothing of '{word}'\n{asked[0].complaints.read_text()[-2000:]}"
    assert asked[1].returncode == 0 and "nothing better than the relay:" in out and "router" in out.splitlines()[-1], out


TALK = """
local p2pd = require "p2pd"
local node = assert(p2pd.node { ephemeral = true })
node:address(5)
local pipe = assert(node:connect(arg[1], { strategies = { p2pd.DIRECT, p2pd.REVERSE, p2pd.RELAY } }))
print("PIPE " .. pipe.strategy)
local stop, sent, got, longest = p2pd.now() + tonumber(arg[2]), 0, 0, 0
p2pd.spawn(function()
  while p2pd.now() < stop do
    sent = sent + 1
    assert(pipe:send("ECHO " .. sent .. (" "):rep(sent % 3000)))
    p2pd.sleep(0.01)
  end
end)
while p2pd.now() < stop or got < sent do
  local before = p2pd.now()
  local msg = assert(pipe:recv(15))
  longest, got = math.max(longest, p2pd.now() - before), got + 1
  assert(msg == got .. (" "):rep(got % 3000), "out of order")
end
print("DONE " .. sent .. " " .. got .. " " .. pipe.strategy .. " " .. longest)
pipe:close()
node:close()
"""

OFF = """
local p2pd = require "p2pd"
local node = assert(p2pd.node { ephemeral = true })
node:address(5)
p2pd.sleep(1)
print("READY")
io.read()
local off, jobs = 0, {}
for i = 1, 60 do
  jobs[i] = function()
    p2pd.sleep(i * 0.02)
    local pipe, err = p2pd.with_timeout(i * 0.005, function() return node:connect(arg[1]) end)
    if pipe then pipe:close() elseif err.code == "timeout" then off = off + 1 else print(err) end
  end
end
p2pd.gather(table.unpack(jobs))
print("DONE " .. off .. " called off")
p2pd.sleep(60)
"""

WHY = """
local p2pd = require "p2pd"
local node = assert(p2pd.node { ephemeral = true })
node:address(5)
local pipe = assert(node:connect(arg[1]))
print(pipe.strategy .. " at first " .. tostring(pipe.why_relayed))
local stop = p2pd.now() + 10
while not pipe.why_relayed and p2pd.now() < stop do p2pd.sleep(0.1) end
local why = pipe.why_relayed
print(why.code, why.remedy)
for _, attempt in ipairs(why.attempts) do print(attempt.strategy, attempt.by_peer and "by the other" or "", attempt.code, attempt.to) end
pipe:close()
node:close()
"""


if __name__ == "__main__":
    main((relay_then_better, better_way_dies, called_off, their_relay, ipv6_relay, why_relayed))
