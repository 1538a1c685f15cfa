"""The processes of a laboratory: STUN and TURN servers, a broker, port-mapping daemons, delaying wires."""
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time

from .model import SRV, SRV6, TURN_PASS, TURN_SECRET, TURN_USER, LabError
from .netns import netns, sh
from .wire import wire_main


# Beside the machine's own, where scripts/dev/install puts it.
CHRONYD = shutil.which("chronyd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", os.path.join(
    os.path.dirname(os.path.realpath(__file__)), "../../../.build/chrony/usr/sbin")]))


class Servers:
    """The part of ``Lab`` that starts them; needs its ``dir``, ``ns`` and ``router_ns``."""

    def _spawn(self, ns, args, log):
        f = open(f"{self.dir}/{log}.log", "ab")
        with netns(ns):
            p = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True, cwd=self.dir)
        return p

    def _start_servers(self):
        d, srv = self.dir, self.ns("srv")
        if shutil.which("turnserver"):
            new = re.search(r"(?m)^\s*--rfc5780\b", sh(["turnserver", "--help"], check=False))    # 4.7.0 turned it off by default
            common = ("rfc5780\n" if new else "") + "listening-port=3478\nno-cli\nno-tls\nno-dtls\nfingerprint\nsimple-log\nrealm=natlab\nrelay-threads=1\n"
            open(d + "/turn1.conf", "w").write(
                common + "".join(f"listening-ip={x}\n" for x in (SRV[1], SRV[2], SRV6[1], SRV6[2]))
                + f"alt-listening-port=3479\nrelay-ip={SRV[1]}\nrelay-ip={SRV6[1]}\naux-server={SRV[3]}:3478\naux-server={SRV[4]}:3478\n"
                + f"aux-server=[{SRV6[3]}]:3478\naux-server=[{SRV6[4]}]:3478\n"
                + f"lt-cred-mech\nuser={TURN_USER}:{TURN_PASS}\nmin-port=40000\nmax-port=40999\n"
                + f"pidfile={d}/turn1.pid\nlog-file={d}/turn1.srv\nuserdb={d}/turn1.db\n")
            open(d + "/turn2.conf", "w").write(
                common + f"listening-ip={SRV[5]}\nrelay-ip={SRV[5]}\nuse-auth-secret\nstatic-auth-secret={TURN_SECRET}\n"
                + f"min-port=41000\nmax-port=41999\npidfile={d}/turn2.pid\nlog-file={d}/turn2.srv\nuserdb={d}/turn2.db\n")
            for i in (1, 2):
                self._spawn(srv, ["turnserver", "-c", f"{d}/turn{i}.conf"], f"turn{i}")
        if shutil.which("mosquitto"):
            open(d + "/mosquitto.conf", "w").write(
                f"listener 1883 {SRV[10]}\nlistener 1883 {SRV6[10]}\nallow_anonymous true\npersistence false\nlog_type error\nuser root\n")
            self._spawn(srv, ["mosquitto", "-c", d + "/mosquitto.conf"], "mosquitto")
        if CHRONYD:
            # -x: it serves this machine's time and never sets it.
            open(d + "/chrony.conf", "w").write(
                f"bindaddress {SRV[10]}\nallow\nlocal stratum 8\ncmdport 0\nbindcmdaddress /\npidfile {d}/chrony.pid\n")
            self._spawn(srv, [CHRONYD, "-x", "-d", "-u", "root", "-f", d + "/chrony.conf"], "chrony")

    def _wait_servers(self, timeout=5):
        want = [(SRV[10], 1883)] if shutil.which("mosquitto") else []
        if shutil.which("turnserver"):
            want += [(SRV[1], 3478), (SRV[2], 3479), (SRV[5], 3478), (SRV[3], 3478), (SRV[4], 3478)]
        end = time.time() + timeout
        for a in want:
            while True:
                with netns(self.ns("srv")):
                    s = socket.socket()
                try:
                    s.connect(a)
                    break
                except OSError:
                    if time.time() > end:
                        raise LabError(f"server {a} did not start, see {self.dir}/*.log")
                    time.sleep(0.01)
                finally:
                    s.close()

    def _start_igd(self, n):
        """Debian's miniupnpd calls the documentation ranges reserved and then refuses to map; a private
        copy with those two table rows (and 100.64/10, to get an IGD that lies behind a CGNAT) made harmless."""
        exe = shutil.which("miniupnpd") or "/usr/sbin/miniupnpd"
        if not os.path.exists(exe):
            return
        mine = "/run/natlab/miniupnpd"
        if not os.path.exists(mine) or os.path.getmtime(mine) < os.path.getmtime(exe):
            d = open(exe, "rb").read()
            for ip, bits in (("203.0.113.0", 24), ("100.64.0.0", 10)):
                d = d.replace(struct.pack("<II", struct.unpack(">I", socket.inet_aton(ip))[0], 32 - bits),
                              struct.pack("<II", 0xC0000200, 8))
            open(mine + ".new", "wb").write(d)
            os.chmod(mine + ".new", 0o755)
            os.rename(mine + ".new", mine)
        c = f"{self.dir}/igd-{n.name}.conf"
        open(c, "w").write(
            "ext_ifname=wan0\nlistening_ip=lan0\nhttp_port=5000\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\nsystem_uptime=yes\n"
            "upnp_table_name=fw\nupnp_nat_table_name=upnpnat\nupnp_forward_chain=miniupnpd\n"
            "upnp_nat_chain=prerouting_miniupnpd\nupnp_nat_postrouting_chain=postrouting_miniupnpd\nmin_lifetime=2\n"
            f"lease_file={self.dir}/igd-{n.name}.leases\nuuid=00000000-0000-0000-0000-0000000000{n['k']:02x}\nnotify_interval=60\n"
            + ("ext_ifname6=wan0\n" if n.has_v6() else "ipv6_disable=yes\n")
            + ("force_igd_desc_v1=yes\n" if n.opt("igdv1") else "") + "allow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n")
        with netns(self.router_ns(n)):
            sh([mine, "-f", c, "-P", f"{self.dir}/igd-{n.name}.pid"], check=False)

    def _start_wire(self, wires):
        json.dump(wires, open(self.dir + "/wire.json", "w"))
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                os.close(r)
                fd = os.open(self.dir + "/wire.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(fd, 1), os.dup2(fd, 2), os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
                wire_main(self.dir, w)
            except BaseException as e:
                sys.stderr.write(f"wire: {e!r}\n")
                sys.stderr.flush()
            os._exit(1)
        os.close(w)
        ok = os.read(r, 1)
        os.close(r)
        if ok != b"k":
            raise LabError("wire process failed: " + open(self.dir + "/wire.log").read())
        open(self.dir + "/wire.pid", "w").write(str(pid))
