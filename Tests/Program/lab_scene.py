"""What scenes of a laboratory are played with: the laboratory, the program, everything that a scene starts."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts/lab"), str(ROOT / "scripts/dev")]
sys.dont_write_bytecode = True

from matrix.peers import Peer, servers, settled  # noqa: E402
from natlab.lab import Lab  # noqa: E402
from natlab.model import SRV, SRV6, TURN_PASS, TURN_USER  # noqa: E402

# Seconds after which what is waited for counts as not coming.
PATIENCE = 30


class Scene:
    """The laboratory, the program, and everything a scene started."""

    def __init__(self, name, binary):
        self.lab, self.binary = Lab(name).load(), binary
        self.folder = Path(tempfile.mkdtemp(prefix="lab-connect."))
        self.stack = contextlib.ExitStack()

    def peers(self, *homes, environment=None):
        made = [self.peer(home, environment) for home in homes]
        settled(made)
        return made

    def peer(self, home, environment=None):
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        peer = Peer(self.lab, home, self.binary, folder, {**servers(), **(environment or {})})
        self.stack.callback(peer.end)
        return peer

    def inside(self, namespace, *command):
        """Runs a command in a home ("a") or a router ("r.a") to its end."""
        done = subprocess.run(["ip", "netns", "exec", self.lab.ns(namespace), *command], capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{namespace}: {' '.join(command)}: {done.stderr}")
        return done.stdout

    def program(self, home, *words, **more):
        """Starts the program in a home, with pipes on its three descriptors."""
        state = tempfile.mkdtemp(dir=self.folder)
        env = {**os.environ, **servers(), "HOME": state, "P2PD_LUA_LIB": str(ROOT / "scripts/lib")}
        for variable in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
            env.pop(variable, None)
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.lab.ns(home), self.binary, *words], env={**env, **more}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=open(Path(state) / "err", "wb"), text=True, bufsize=1)
        process.complaints = Path(state) / "err"
        self.stack.callback(stop, process)
        return process

    def broker(self, port):
        """One more mosquitto beside the laboratory's."""
        conf = self.folder / f"mosquitto-{port}.conf"
        conf.write_text(f"listener {port} {SRV[10]}\nallow_anonymous true\npersistence false\nuser root\n")
        process = subprocess.Popen(["ip", "netns", "exec", self.lab.ns("srv"), "mosquitto", "-c", str(conf)],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.stack.callback(stop, process)
        return process


def stop(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(6)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def only_ipv6(scene, *homes):
    """Takes IPv4 from these homes, and names the laboratory's servers by IPv6."""
    for home in homes:
        scene.inside(home, "ip", "-4", "addr", "flush", "dev", "eth0")
    return {"P2PD_STUN": ",".join(f"[{SRV6[i]}]:3478" for i in (1, 2, 3)), "P2PD_BROKERS": f"mqtt://[{SRV6[10]}]:1883",
            "P2PD_TURN": f"turn:{TURN_USER}:{TURN_PASS}@[{SRV6[1]}]:3478?transport=tcp"}


def expect(answer, *strategies):
    """The connect went well, by one of these ways."""
    if "error" in answer or answer.get("strategy") not in strategies:
        raise AssertionError(f"wanted one of {strategies}, got {answer}")
    print(f"  {answer['strategy']} ({answer['path']}) after {answer['seconds'] * 1e3:.0f} ms")
    return answer


def line(process, starting="", patience=PATIENCE):
    """The next line of its output that starts so."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        text = process.stdout.readline()
        if not text:
            raise AssertionError(f"{process.args}: it ended ({process.poll()}): {process.complaints.read_text()[-2000:]}")
        if text.startswith(starting):
            return text.rstrip("\n")
    raise AssertionError(f"no line that starts with {starting!r}")


def play(scene, wanted):
    """Plays a scene; where it fails, what its programs wrote follows."""
    with scene.stack:
        try:
            wanted(scene)
        except BaseException:
            for log in sorted([*scene.folder.glob("*/*/log"), *scene.folder.glob("*/err")]):
                print(f"--- {log.parent.name}:", log.read_text(errors="replace")[-20000:], sep="\n", file=sys.stderr)
            raise


def main(scenes, kind=Scene):
    """`this NAME BINARY SCENE`."""
    name, binary, wanted = sys.argv[1:4]
    play(kind(name, binary), {scene.__name__: scene for scene in scenes}[wanted])
