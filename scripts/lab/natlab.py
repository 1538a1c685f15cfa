#!/usr/bin/env python3
"""
natlab.py - a NAT laboratory made of Linux network namespaces (Python 3.11+, standard library
only; needs iproute2, nft; optionally conntrack, coturn, mosquitto, chrony, miniupnpd).
Needs root; run/matrix/cross/selftest also work for an ordinary user where unprivileged user
namespaces are allowed (delayed links then need an accessible /dev/net/tun).
Nothing in it can reach the real network: the lab's "internet" is a namespace
that has no link to the machine's own one.

                      +---------- srv ----------+   STUN/TURN (coturn, RFC 5780 on
                      | 198.51.100.1 .2 .3 .4 .5|   .1/.2), plain STUN (.3 .4), TURN
                      | 198.51.100.10 (MQTT,NTP)|   with REST secret (.5), mosquitto, chrony
                      +-----------+-------------+
                                  |
      +------------------------ core ------------------------+   the "internet"
      | 203.0.113.k           | 203.0.113.m      | 203.0.113.200+j
   r.alice (NAT, nft)      bob (public)       r.isp (carrier NAT)
      | 192.168.k.0/24                           | 100.64.n.0/30
   alice  alice2 ...                          r.carol (NAT) -- carol

CLI
  natlab.py [-n NAME] COMMAND ...          NAME: several labs side by side (default nl)
  up    [SPEC...] [--delay MS] [--jitter MS] [--loss PCT] [--no-servers]
                                           build (a second `up` replaces the first)
  down                                     stop its processes, delete its namespaces
  run   [SPEC...] [--delay MS] -- CMD...   up; CMD (in the real namespace, NATLAB_* set); down
  exec  HOST [--] CMD...                   run CMD inside a host/router ("alice", "r.alice",
                                           "srv", "core"); NATLAB_* variables are set
  env   [HOST]                             print NATLAB_* (servers, credentials, addresses)
  list  [--json]                           hosts, addresses, NAT types
  set   HOME TYPE[+opt...]                 swap a home's NAT in place (also flushes it)
  flush [HOME...]                          forget all mappings (conntrack + EIM maps)
  wire  HOME delay=MS jitter=MS loss=PCT   change a delayed link live (only if built with one)
  verify [HOST...] [--json]                measure every NAT (UDP+TCP STUN, RFC 5780), print
                                           a table, exit 1 when one is not what it claims
  matrix [udp|tcp|both] [--types T,T..] [--delay MS] [--skew MS] [--predict] [--json]
                                           own lab, two homes per type, every pair punched
  punch udp|tcp A B [--predict] [--skew MS] [--ttl N] [--prime] [--count N]   one pair in a running lab
                                           (B starts SKEW later; --ttl: A opens its NAT with low-TTL packets;
                                           --prime: A sends one SYN, then only listens)
  cross --a CMD --b CMD [--types T,T..] [--delay MS] [--timeout S] [--jobs N] [--json]
                                           ACCEPTANCE: own lab, two homes per type; for every pair start CMD b in
                                           one home, CMD a in the other; success = a exits 0 in time. Both see
                                           NATLAB_HOST, NATLAB_PEER, NATLAB_ROLE, NATLAB_SESSION (+ the usual ones)
  birthday HARD EASY [--ports N] [--probes M] [--trials K]        measured vs. formula
  turntcp [A] [B]                          RFC 6062 through coturn, B being a plain TCP client
  igd   [HOME]                             UPnP IGD / NAT-PMP / PCP against a +upnp home
  selftest                                 everything above, under a minute

SPEC: name=TYPE[+opt[=value]]...           e.g.  alice=portrestricted+hairpin bob=symrandom+rst
  carrier:  isp=cgn:TYPE[+opt]             then  carol=portrestricted+via=isp
  no SPEC at all: one home of each preset.

TYPE (mapping / filtering / port allocation)
  public          no NAT, no firewall          firewall       no NAT, stateful firewall
  fullcone        EIM / EIF  / preserve        addrrestricted EIM / ADF  / preserve
  portrestricted  EIM / APDF / preserve        linux          plain conntrack SNAT (EIM-like)
  prrandom        EIM / APDF / random          fcrandom       EIM / EIF  / random
  symrandom       APDM/ APDF / random          symseq         APDM/ APDF / sequential (+delta=N)
  symaddr         ADM / APDF / random          symopen        APDM/ EIF  / random
  offset          EIM / APDF / int port + 7000 (P2PD "preserving delta")
  nat:M/F/A       any mix: M eim|adm|apdm, F eif|adf|apdf, A preserve|random|seq|offset
OPTIONS
  hosts=N  extra hosts on the same LAN (a, a2, a3)   samelan  LAN is 192.168.1.0/24
  hairpin  NAT hairpinning (default: off)            via=ISP  behind a carrier NAT
  rst      unsolicited TCP -> RST (default: drop)    icmp     unsolicited UDP -> ICMP port unr.
  open     router INPUT accepts: RST/ICMP come from the router's own stack, and conntrack
           remembers the intruder (so an early probe can spoil the port: very real)
  dropinv  drop packets conntrack calls INVALID      noping   do not answer ICMP echo
  nottl    swallow ICMP time-exceeded (lets the low-TTL trick live)   liberal  conntrack be_liberal=1
  udpblock no UDP out or in   only=80,443 TCP to these ports only (and no UDP)
  upnp     miniupnpd: UPnP IGDv2 + NAT-PMP + PCP     igdv1    ... announcing IGDv1
  v6       IPv6 behind a stateful firewall           v6open   IPv6 without one
  ports=LO-HI  external port range   delta=N  sequential step   udpttl=S  UDP mapping lifetime
  delay=MS jitter=MS loss=PCT        this home's access link, one way each way (userspace TUN
           wire: the kernel here has no sch_netem)
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.dont_write_bytecode = True

from natlab.cli import main  # noqa: E402
from natlab.model import LabError  # noqa: E402

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:], os.path.abspath(__file__), __doc__))
    except LabError as e:
        print("natlab:", e, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
