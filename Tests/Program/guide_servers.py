"""The servers as docs/servers/README.md says, word for word: its commands, its files where it puts them, its units' users and
commands. Only for a network and a mount namespace of its own, where /etc is nobody else's:

  unshare --mount --net python3 guide_servers.py FOLDER PROGRAM

writes what came of it to standard output, as JSON. FOLDER is for what the servers say."""

import grp
import json
import os
import pwd
import re
import shlex
import socket
import ssl
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GUIDE = os.path.join(ROOT, "docs/servers")
SERVER, CLIENT = "203.0.113.5", "203.0.113.20"
NAMES = ("broker.example.org", "turn.example.org")
PATIENCE = 20
# Those of the guide's commands that change this machine's files; the rest install packages and speak to systemd.
COMMANDS = ("groupadd", "mkdir", "cp", "install", "sed")


def sh(*words, env=None, cwd=None):
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env={**os.environ, **(env or {})}, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class World:
    def __init__(self, folder, program):
        self.folder, self.program, self.servers = folder, program, {}
        sh("mount", "--make-rprivate", "/")
        os.mkdir(f"{folder}/etc")
        sh("mount", "-t", "tmpfs", "tmpfs", f"{folder}/etc")
        for name in ("upper", "work"):
            os.mkdir(f"{folder}/etc/{name}")
        sh("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/etc,upperdir={folder}/etc/upper,workdir={folder}/etc/work", "/etc")
        with open("/etc/hosts", "a", encoding="ascii") as hosts:
            hosts.write(f"\n{SERVER} {' '.join(NAMES)}\n")
        # Somebody else's machine on the same network.
        self.client = subprocess.Popen(["unshare", "--net", "sleep", "600"])
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "s0", "type", "veth", "peer", "name", "c0")
        self.until("a namespace for the client", lambda: os.readlink(f"/proc/{self.client.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        sh("ip", "link", "set", "c0", "netns", str(self.client.pid))
        for inside, link, address in ((False, "s0", SERVER), (True, "c0", CLIENT)):
            for command in (("addr", "add", f"{address}/24", "dev", link), ("link", "set", link, "up"), ("link", "set", "lo", "up")):
                sh(*(self.there if inside else ()), "ip", *command)

    @property
    def there(self):
        return ("nsenter", "-t", str(self.client.pid), "-n")

    def until(self, what, condition):
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise SystemExit(f"waited in vain for {what}")
            time.sleep(0.02)
        return found

    # The guide

    def follow(self):
        """Runs the guide's commands for both servers, in its folder."""
        with open(f"{GUIDE}/README.md", encoding="utf-8") as file:
            text = file.read()
        text = text[text.index("## What all need") : text.index("## Names: ")]
        for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S):
            for line in block.splitlines():
                if match := re.match(r"sudo (\w+) ", line):
                    if match[1] in COMMANDS:
                        sh("sh", "-c", line.replace("sudo ", "").replace("$(hostname -f)", "turn.example.org"), cwd=GUIDE)
                    elif match[1] == "certbot":
                        self.renew(1)

    def renew(self, number):
        """A certificate from certbot, and its deploy hook."""
        lineage = f"{self.folder}/lineage"
        os.makedirs(lineage, mode=0o700, exist_ok=True)
        names = ",".join(f"DNS:{name}" for name in NAMES)
        sh("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9", "-subj", f"/CN={NAMES[0]}",
           "-addext", f"subjectAltName={names}", "-set_serial", str(number), "-keyout", f"{lineage}/privkey.pem", "-out", f"{lineage}/fullchain.pem")
        sh("/etc/p2pd-servers/renewed", env={"RENEWED_LINEAGE": lineage})

    # The units

    def unit(self, name):
        with open(f"/etc/systemd/system/{name}", encoding="utf-8") as file:
            return dict(re.findall(r"^(\w+)=(.*)$", file.read(), flags=re.M))

    def start(self, name):
        """As systemd does; back when the server says that it is ready."""
        unit = self.unit(name)
        user = pwd.getpwnam(unit["User"])
        group = grp.getgrnam(unit["Group"]).gr_gid if "Group" in unit else user.pw_gid
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(f"{self.folder}/{name}.log", "wb") as log:
            notify.bind(f"\0{name}")
            notify.settimeout(PATIENCE)
            server = subprocess.Popen(
                unit["ExecStart"].split(), user=user.pw_uid, group=group, extra_groups=[grp.getgrnam(unit["SupplementaryGroups"]).gr_gid],
                env={"NOTIFY_SOCKET": f"@{name}"}, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.servers[name] = server
            while b"READY=1" not in notify.recv(4096):
                pass

    def reload(self, name):
        command = self.unit(name)["ExecReload"].replace("$MAINPID", str(self.servers[name].pid))
        sh(*command.split())

    def serial(self, port):
        """Of the certificate that is served; 0 while it cannot be had."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with socket.create_connection((SERVER, port), timeout=5) as plain, context.wrap_socket(plain) as tls:
                pem = ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))
        except OSError:
            return 0
        with open(f"{self.folder}/served.pem", "w", encoding="ascii") as file:
            file.write(pem)
        return int(sh("openssl", "x509", "-noout", "-serial", "-in", f"{self.folder}/served.pem").split("=")[1], 16)

    # What the guide promises

    def run(self, *args, **options):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("P2PD_", "XDG_"))}
        env.update(HOME=self.folder, P2PD_CONFIG=f"{self.folder}/p2pd.conf.lua", P2PD_MDNS="off", P2PD_NO_PORT_MAPPING="1")
        return subprocess.Popen([*self.there, self.program, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def configure(self, secret):
        """The guide's configuration file."""
        with open(f"{GUIDE}/README.md", encoding="utf-8") as file:
            conf = re.search(r"^```lua\n(return .*?)^```", file.read(), flags=re.M | re.S)[1]
        conf = re.sub(r"^ *names = .*\n", "", conf, flags=re.M).replace("THE-SECRET", secret)
        conf = conf.replace("return {", f'return {{\n  ca = "{self.folder}/lineage/fullchain.pem",', 1).replace("servers = {", "servers = { ntp = {},", 1)
        with open(f"{self.folder}/p2pd.conf.lua", "w", encoding="utf-8") as file:
            file.write(conf)

    def relayed(self):
        """A word over the relay and back."""
        node = self.run("run", "--ephemeral", "--port", "0", "--no-control", f"{ROOT}/scripts/handlers/echo.lua")
        try:
            addresses = [node.stdout.readline(), node.stdout.readline()]
            done = self.run("connect", "--strategy", "relay", addresses[1].strip(), stdin=subprocess.PIPE)
            out, err = done.communicate("hello\n", timeout=PATIENCE)
            return {"status": done.returncode, "out": out, "err": err}
        finally:
            node.terminate()
            node.communicate(timeout=PATIENCE)

    def tried(self, secret):
        """The guide's "try it" commands."""
        with open(f"{GUIDE}/README.md", encoding="utf-8") as file:
            commands = re.findall(r"`((?:mosquitto_|turnutils_)[^`]*)`", file.read())
        results = {}
        ca = f"--cafile {self.folder}/lineage/fullchain.pem"
        ready = []
        for command in commands:
            words = shlex.split(command.replace("SECRET", secret).replace("--capath /etc/ssl/certs", ca))
            process = subprocess.Popen([*self.there, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if words[0] == "mosquitto_sub":
                time.sleep(1)  # it does not say when it listens
                ready.append((command, process))
                continue
            ready.append((command, process))
        for command, process in ready:
            try:
                out, _ = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                out = "it does not end: " + process.communicate()[0]
            results[command] = {"status": process.returncode, "out": out[-2000:]}
        return results

    def stop(self):
        for process in [*self.servers.values(), self.client]:
            process.terminate()
            process.wait(PATIENCE)


def main():
    world = World(*sys.argv[1:])
    result = {}
    try:
        world.follow()
        world.start("p2pd-broker.service")
        world.start("p2pd-relay.service")
        result["modes"] = {name: sh("stat", "-c", "%A %U %G", f"/etc/p2pd-servers/{name}").strip() for name in sorted(os.listdir("/etc/p2pd-servers"))}
        with open("/etc/p2pd-servers/turnserver.conf", encoding="ascii") as file:
            conf = file.read()
        secret = re.search(r"^static-auth-secret=(.*)$", conf, flags=re.M)[1]
        result["secret"], result["realm"] = secret, re.search(r"^realm=(.*)$", conf, flags=re.M)[1]
        world.configure(secret)
        result["serials"] = [world.until("certificates", lambda: world.serial(port)) for port in (8883, 5349)]
        check = world.run("netcheck", "--json")
        out, err = check.communicate(timeout=60)
        result["netcheck"] = json.loads(out) if out else err
        result["relayed"] = world.relayed()
        result["tried"] = world.tried(secret)
        world.renew(2)
        for name in world.servers:
            world.reload(name)
        result["renewed"] = [world.until("the new certificate", lambda: world.serial(port) == 2) for port in (8883, 5349)]
        result["alive"] = [server.poll() is None for server in world.servers.values()]
    finally:
        world.stop()
    result["said"] = {}
    for name in world.servers:
        with open(f"{world.folder}/{name}.log", encoding="utf-8", errors="replace") as log:
            result["said"][name] = log.read()[-4000:]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
