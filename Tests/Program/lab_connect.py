"""Runs inside a laboratory (scripts/lab/natlab.py -n NAME run ... -- this NAME BINARY SCENE): what happens to people whose
nodes sit behind routers. Each scene is a function below; it says what it saw and raises where that is wrong."""

import os
import subprocess
import threading
import time

from lab_scene import PATIENCE, expect, line, main, only_ipv6, settled, stop
from natlab.model import SRV, SRV6

# --- Scenes. The homes each needs stand in test_lab.py.


def design_script(scene):
    """The script of the README, from one home to another: strategies named, no relay."""
    handler = scene.folder / "ping.lua"
    handler.write_text(PING)
    node = scene.program("b", "run", "--ephemeral", "--no-control", str(handler))
    address = line(node, "p2pd1")
    hello = scene.folder / "hello.lua"
    hello.write_text(HELLO)
    # The node tells its address at once, and what it learns of its router a little later: the first must do.
    done = scene.program("a", "exec", str(hello), address)
    out, _ = done.communicate(timeout=PATIENCE)
    assert done.returncode == 0, f"{out}\n{done.complaints.read_text()[-3000:]}"
    print("  " + out.strip())
    assert "PONG" in out and "punch" in out, out


def reload_in_conversation(scene):
    """`connect` at one home, a hot reload at the other in the middle: the same pipe, the new answer."""
    handler = scene.folder / "greet.lua"
    handler.write_text(GREET.replace("WORD", "one"))
    node = scene.program("b", "run", "--ephemeral", "--no-control", str(handler))
    address = line(node, "p2pd1")
    talk = scene.program("a", "connect", "--ephemeral", "--protocol", "greet", "-v", address)
    talk.stdin.write("first\n")
    talk.stdin.flush()
    first = line(talk, "one")
    fresh = scene.folder / "greet.new"
    fresh.write_text(GREET.replace("WORD", "two"))
    os.rename(fresh, handler)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        talk.stdin.write("again\n")
        talk.stdin.flush()
        answer = line(talk)
        if answer.startswith("two"):
            break
    # The handler counts the messages of its pipe: the pipe is the one that saw the first.
    assert answer.split()[1] == first.split()[1], (first, answer)
    print(f"  {first!r}, then {answer!r}")
    talk.stdin.close()
    talk.wait(PATIENCE)
    assert "punch" in talk.complaints.read_text(), talk.complaints.read_text()[-2000:]


def broker_restarts(scene):
    """Two brokers, of which now one and now the other is away, also while a connect waits for it."""
    second = scene.broker(1884)
    names = {"P2PD_BROKERS": f"mqtt://{SRV[10]}:1883,mqtt://{SRV[10]}:1884", "P2PD_TURN": "none"}
    a, b = scene.peers("a", "b", environment=names)
    expect(a.ask(to=b.address), "punch")
    stop(second)
    expect(a.ask(to=b.address), "punch")
    print("  the second broker is gone")
    scene.broker(1884)
    first = scene.inside("srv", "sh", "-c", "ss -Hltnp 'sport = :1883' | grep -o 'pid=[0-9]*' | head -1 | cut -d= -f2").strip()
    # Nodes come back to a broker by themselves; how soon depends on their backoff.
    end = time.monotonic() + PATIENCE
    os.kill(int(first), 15)
    while True:
        answer = a.ask(to=b.address, timeout=20)
        if "error" not in answer or time.monotonic() > end:
            break
    expect(answer, "punch")
    print("  the first is gone, the second is back")


def ipv6_only(scene):
    """No IPv4 anywhere: an open home is dialled, and two that refuse strangers meet by a punch."""
    names = only_ipv6(scene, "a", "b", "c") | {"P2PD_TURN": "none"}
    a, b, c = scene.peers("a", "b", "c", environment=names)
    expect(a.ask(to=c.address), "direct")
    expect(c.ask(to=a.address), "reverse")
    expect(a.ask(to=b.address), "punch")


def broken_ipv4(scene):
    """Both families have a way out, and IPv4's leads nowhere."""
    for router in ("r.a", "r.b"):
        scene.inside(router, "nft", "add table ip broken; add chain ip broken every { type filter hook forward priority -300; }; "
                                    "add rule ip broken every drop")
    names = {"P2PD_STUN": ",".join([f"{SRV[1]}:3478", f"{SRV[2]}:3478"] + [f"[{SRV6[i]}]:3478" for i in (1, 2)]),
             "P2PD_BROKERS": f"mqtt://{SRV[10]}:1883,mqtt://[{SRV6[10]}]:1883", "P2PD_TURN": "none"}
    a, b = scene.peers("a", "b", environment=names)
    answer = expect(a.ask(to=b.address), "direct", "reverse", "punch")
    assert answer["seconds"] < 3, answer


def dead_interface(scene):
    """A second interface with an address and no way out costs nothing."""
    for home in ("a", "b"):
        scene.inside(home, "sh", "-c", "ip link add dead0 type veth peer name dead1 && ip addr add 10.66.0.2/24 dev dead0 && "
                                       "ip link set dead1 up && ip link set dead0 up && "
                                       "ip route add default via 10.66.0.1 dev dead0 metric 4000")
    a, b = scene.peers("a", "b", environment={"P2PD_TURN": "none"})
    answer = expect(a.ask(to=b.address), "punch")
    assert answer["seconds"] < 2, answer


def network_change(scene):
    """A host that gets another address: its node finds out by itself what that looks like from outside, and tells it."""
    a, b = scene.peers("a", "b", environment={"P2PD_TURN": "none"})
    outside = scene.lab.nodes["a"]["public"]
    fields = scene.inside("a", "ip", "-4", "-o", "addr", "show", "dev", "eth0").split()
    old = fields[fields.index("inet") + 1]
    gateway = scene.inside("a", "ip", "-4", "route", "show", "default").split()[2]
    new = old.split("/")[0].rsplit(".", 1)[0] + ".99"
    scene.inside("a", "sh", "-c", f"ip addr del {old} dev eth0; ip addr add {new}/{old.split('/')[1]} dev eth0; "
                                  f"ip route replace default via {gateway}")
    began = time.monotonic()
    while True:
        told = subprocess.run([scene.binary, "addr", "explain", a.ask()["address"]], capture_output=True, text=True, check=True).stdout
        route = next((text for text in told.splitlines() if f"{new}:" in text), "")
        if outside in route and "signalling  none" not in told:
            break
        assert time.monotonic() - began < PATIENCE, told
        time.sleep(0.1)
    print(f"  {route.strip()} (after {time.monotonic() - began:.1f} s)")
    assert old.split("/")[0] + ":" not in told, told
    settled([a, b])
    expect(b.ask(to=a.ask()["address"]), "punch")


def consent(scene):
    """Scripts that say whether their node dials what a stranger names: yes, yes after a while, no, and an error."""
    answers = {"yes": "return true", "later": "p2pd.sleep(0.2) return true", "no": "return false", "wrong": "error('no')"}
    for name, body in answers.items():
        (scene.folder / f"{name}.lua").write_text(CONSENT.replace("BODY", body))
    node = scene.program("b", "run", "--ephemeral", "--no-control", *(str(scene.folder / f"{name}.lua") for name in answers))
    address = line(node, "p2pd1")
    call = scene.folder / "call.lua"
    call.write_text(CALL)
    done = scene.program("a", "exec", str(call), address, *answers)
    out, _ = done.communicate(timeout=60)
    print("  " + out.replace("\n", "\n  ").rstrip())
    asked = [text for text in out.splitlines() if text.split()[0] in answers]
    assert [text.split()[:2] for text in asked] == [
        ["yes", "reverse"], ["later", "reverse"], ["no", "nil"], ["wrong", "nil"]], f"{out}\n{done.complaints.read_text()[-3000:]}"
    told = node.complaints.read_text()
    caller = scene.lab.nodes["a"]["public"]
    for name in answers:
        assert f"{name} is asked" in told and f"{name} would dial" in told, told[-3000:]
    assert caller in told, told[-3000:]


def restarts_elsewhere(scene):
    """A node that starts again on another port, at a home and on the Internet: its old address still leads to it."""
    handler = scene.folder / "ping.lua"
    handler.write_text(PING)
    for home in "bc":
        state, old = scene.folder / home, None
        state.mkdir()
        for port in ("40001", "40002"):
            node = scene.program(home, "run", "--no-control", "--port", port, str(handler), HOME=str(state))
            old = old or line(node, "p2pd1")
            done = scene.program("a", "connect", "-v", "--protocol", "ping", old, P2PD_TURN="none")
            out, _ = done.communicate("PING\n", timeout=PATIENCE)
            assert out == "PONG\n", f"{home}, port {port}: {out} {done.complaints.read_text()[-2000:]}"
            chosen = next(text for text in done.complaints.read_text().splitlines() if text.endswith(": chosen"))
            print(f"  {home}: {chosen.strip()}")
            stop(node)


def a_hundred_at_once(scene):
    """A hundred connects in one moment, through two routers that must be punched: all work, and nothing is left of them."""
    b = scene.peer("b", {"P2PD_TURN": "none"})
    settled([b])
    script = scene.folder / "hundred.lua"
    script.write_text(HUNDRED)
    process = scene.program("a", "exec", str(script), b.address, P2PD_TURN="none")

    def held(home):
        return len([text for text in scene.inside(home, "ss", "-Htanp").splitlines() if "users:" in text])

    before = None
    for mark in ("READY", "DONE", "RESTED"):
        told = line(process, mark)
        if mark == "READY":
            before = held("a"), held("b")
            process.stdin.write("\n")
            process.stdin.flush()
    told_of = told
    assert told_of == "RESTED 100 punch", told_of
    end = time.monotonic() + PATIENCE
    while (held("a"), held("b")) != before:
        assert time.monotonic() < end, f"sockets are left: {held('a')}, {held('b')}, and {before} before"
        time.sleep(0.2)
    print(f"  {told_of}, sockets before and after: {before}")


def explained(scene):
    """`explain` and `connect -v` tell the steps of a connect, and what would help where there is none."""
    (b,) = scene.peers("b")
    done = scene.program("a", "explain", b.address)
    out, _ = done.communicate(timeout=40)
    print("  " + out.replace("\n", "\n  ").rstrip())
    assert done.returncode == 0 and "Connected: punch, ipv4" in out and "seen from outside as" in out, out
    for word in ("direct ", "signalling: the other side takes part", "punch: dialling", "the node has proven its key", "chosen"):
        assert word in out, f"nothing of '{word}': {out}"
    done = scene.program("a", "explain", "--strategy", "reverse", "--strategy", "direct", b.address)
    out, _ = done.communicate(timeout=40)
    assert done.returncode == 1 and "Not connected" in out, out
    assert "Allow the strategies punch and relay" in done.complaints.read_text(), done.complaints.read_text()
    done = scene.program("a", "connect", "-v", b.address)
    out, _ = done.communicate("ECHO hello\n", timeout=40)
    assert out == "hello\n" and "punch" in done.complaints.read_text(), out + done.complaints.read_text()


def both_at_once(scene):
    """Both connect to each other in the same moment, and again and again."""
    a, b = scene.peers("a", "b", environment={"P2PD_TURN": "none"})
    for _ in range(5):
        answers = {}
        both = [threading.Thread(target=lambda x=x, y=y: answers.update({x.home: x.ask(to=y.address)})) for x, y in ((a, b), (b, a))]
        for one in both:
            one.start()
        for one in both:
            one.join()
        for answer in answers.values():
            expect(answer, "punch")


def why_not(scene):
    """Two symmetric routers and no relay: within six seconds the reason, from both sides."""
    a, b = scene.peers("a", "b", environment={"P2PD_TURN": "none"})
    answer = a.ask(to=b.address, timeout=10)
    assert "error" in answer and answer["seconds"] < 6, answer
    text = answer["error"]["text"] + " / " + " / ".join(answer["error"].get("attempts") or [])
    print(f"  after {answer['seconds']:.1f} s: {text}")
    for word in ("punch", "relay"):
        assert word in text, f"the failure says nothing of {word}: {text}"


def swallowed(scene):
    """Two routers that could be punched, and a network that swallows all between them: both sides say so."""
    a, b = scene.peers("a", "b", environment={"P2PD_TURN": "none"})
    scene.inside("a", "nft", "add table inet dead; add chain inet dead in { type filter hook input priority 0 ; }; "
                 f"add rule inet dead in ip saddr {scene.lab.nodes['b']['public']} drop")
    answer = a.ask(to=b.address, timeout=10)
    told = [text for text in answer["error"].get("attempts") or [] if text.startswith("punch")]
    print(f"  after {answer['seconds']:.1f} s: {' / '.join(told)}")
    assert answer["seconds"] < 6.5 and any("silent" in text and "other side" not in text for text in told), answer
    assert any("silent" in text and "other side" in text for text in told), answer


PING = """
local M = {}
function M.msg_cb(msg, client_tup, pipe)
  if msg:find("PING", 1, true) then pipe:send("PONG", client_tup) end
end
return M
"""

HELLO = """
local p2pd = require "p2pd"
local node = p2pd.node { ephemeral = true }
local opts = { strategies = { p2pd.DIRECT, p2pd.REVERSE, p2pd.PUNCH } }
local pipe = assert(node:connect(arg[1], opts))
pipe:send("ECHO test send")
assert(pipe:recv(5) == "test send")
opts.protocol = "ping"
local ping = assert(node:connect(arg[1], opts))
ping:send("PING")
print(ping:recv(5), ping.strategy)
ping:close()
pipe:close()
node:close()
"""

HUNDRED = """
local p2pd = require "p2pd"
local node = assert(p2pd.node { ephemeral = true })
node:address(5)
p2pd.sleep(1)
print("READY")
io.read()
local ways, jobs = {}, {}
for i = 1, 100 do
  jobs[i] = function()
    local pipe, err = node:connect(arg[1])
    if pipe then
      pipe:send("ECHO " .. i)
      if pipe:recv(5) ~= tostring(i) then err = { code = "mute" } end
    end
    if err then io.stderr:write(tostring(err), "\\n") end
    local what = err and err.code or pipe.strategy
    ways[what] = (ways[what] or 0) + 1
    if pipe then pipe:close() end
  end
end
p2pd.gather(table.unpack(jobs))
print("DONE")
p2pd.sleep(1)
local words = {}
for what, count in pairs(ways) do words[#words + 1] = count .. " " .. what end
print("RESTED " .. table.concat(words, ", "))
p2pd.sleep(20)
node:close()
"""

CONSENT = """
local p2pd = require "p2pd"
local M = {}
function M.msg_cb() end
function M.accept_cb(peer_id, info)
  print(info.protocol .. " is asked by " .. peer_id .. " for " .. table.concat(info.strategies, ", "))
  print(info.protocol .. " would dial " .. table.concat(info.addresses, ", "))
  BODY
end
return M
"""

CALL = """
local p2pd = require "p2pd"
local node = assert(p2pd.node { ephemeral = true })
for i = 2, #arg do
  local pipe, err = node:connect(arg[1], { protocol = arg[i], strategies = { p2pd.REVERSE }, timeout = 6 })
  print(arg[i], pipe and pipe.strategy, err)
  if pipe then pipe:close() end
end
node:close()
"""

GREET = """
local M = {}
function M.msg_cb(msg, client_tup, pipe)
  pipe.data = pipe.data or { id = tostring(pipe.id) }
  pipe:send("WORD " .. pipe.data.id .. " " .. msg)
end
return M
"""


if __name__ == "__main__":
    main((design_script, reload_in_conversation, broker_restarts, ipv6_only, broken_ipv4, dead_interface, network_change, consent,
          restarts_elsewhere, a_hundred_at_once, explained, both_at_once, why_not, swallowed))
