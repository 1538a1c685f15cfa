"""A router's behaviour as nftables rules."""
HAIRPIN_MARK = 0x68


def nft_rules(n):
    """The whole ruleset of one router (or, for public/firewall, of the host itself)."""
    o, EXT = n.opt, n["wan"]
    wan = 'eth0' if n.map == "none" else 'wan0'
    lo, hi = (o("ports") or "1024-65535").split("-")
    rng = f":{lo}-{hi}" if o("ports") else ""
    ttl = int(o("udpttl", 120))
    out = ["flush ruleset"]
    need_maps = n.map in ("eim", "adm") or n.filt != "apdf" or o("hairpin")
    if n.map != "none":
        S, P, Q, L = [], [], [], []     # sets, prerouting, postrouting, learn
        for l4 in ("udp", "tcp"):
            t = f"timeout {ttl if l4 == 'udp' else 600}s"
            key = "ipv4_addr . inet_service" + (" . ipv4_addr" if n.map == "adm" else "")
            kexpr = f"ip saddr . {l4} sport" + (" . ip daddr" if n.map == "adm" else "")
            lexpr = "ct original ip saddr . ct original proto-src" + (" . ip daddr" if n.map == "adm" else "")
            if need_maps:
                S.append(f"map out_{l4} {{ type {key} : ipv4_addr . inet_service; flags dynamic,timeout; {t}; }}")
                S.append(f"map in_{l4} {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; {t}; }}")
                S.append(f"set used_{l4} {{ type inet_service; flags dynamic,timeout; {t}; }}")
                for cond in (['oifname "wan0"'] + ([f"ct mark {HAIRPIN_MARK}"] if o("hairpin") else [])):
                    L.append(f"{cond} ct direction original meta l4proto {l4} "
                             f"update @in_{l4} {{ {l4} sport : ct original ip saddr . ct original proto-src }} "
                             f"update @used_{l4} {{ {l4} sport }}")
                    if n.map in ("eim", "adm"):
                        L.append(f"{cond} ct direction original meta l4proto {l4} "
                                 f"update @out_{l4} {{ {lexpr} : ip saddr . {l4} sport }}")
            if n.filt == "eif":
                P.append(f'iifname "wan0" ip daddr {EXT} dnat ip to {l4} dport map @in_{l4}')
            elif n.filt == "adf":
                S.append(f"set adf_{l4} {{ type inet_service . ipv4_addr; flags dynamic,timeout; {t}; }}")
                L.append(f'oifname "wan0" ct direction original meta l4proto {l4} update @adf_{l4} {{ {l4} sport . ip daddr }}')
                P.append(f'iifname "wan0" ip daddr {EXT} {l4} dport . ip saddr @adf_{l4} dnat ip to {l4} dport map @in_{l4}')
            if o("hairpin"):
                P.append(f'iifname != "wan0" ip daddr {EXT} dnat ip to {l4} dport map @in_{l4}')
            for cond in (['oifname "wan0"'] + ([f"ct mark {HAIRPIN_MARK}"] if o("hairpin") else [])):
                c = f"{cond} meta l4proto {l4}"
                if n.map in ("eim", "adm"):
                    Q.append(f"{c} snat ip to {kexpr} map @out_{l4}")
                if n.alloc == "random":
                    Q.append(f"{c} snat ip to {EXT}:{lo}-{hi} fully-random")
                elif n.alloc == "seq":
                    base, d = (int(lo) if o("ports") else 20000), int(o("delta", 1))
                    cnt = max(1, ((int(hi) if o("ports") else 60000) - base) // abs(d))
                    cnt = min(cnt, 4096)    # (a bare "numgen ... offset" would give byte-swapped ports: +256 steps)
                    els = ", ".join(f"{i} : {base + (i * d if d > 0 else (cnt - 1 - i) * -d)}" for i in range(cnt))
                    Q.append(f"{c} snat ip to {EXT}:numgen inc mod {cnt} map {{ {els} }}")
                elif n.alloc == "offset":
                    if l4 == "udp":     # local ports outside the ephemeral range are simply preserved (a 64 k map loads slowly)
                        S.append("map off { type inet_service : inet_service; elements = { "
                                 + ", ".join(f"{p} : {1024 + (p - 1024 + 7000) % 64512}" for p in range(32768, 61000)) + " }; }")
                    Q.append(f"{c} snat ip to {EXT}:{l4} sport map @off")
                    Q.append(f"{c} snat ip to {EXT}")
                else:
                    if n.map in ("eim", "adm"):
                        Q.append(f"{c} {l4} sport @used_{l4} snat ip to {EXT}:{lo}-{hi} fully-random")
                    Q.append(f"{c} snat ip to {EXT}{rng}")
        Q.append(f'oifname "wan0" meta l4proto icmp snat ip to {EXT}')
        mark = f'iifname != "wan0" ip daddr {EXT} ct state new ct mark set {HAIRPIN_MARK}' if o("hairpin") else ""
        out.append("table ip nat {\n " + "\n ".join(S) + "\n"
                   + " chain hpmark { type filter hook prerouting priority mangle; " + mark + "\n }\n"
                   + " chain pre { type nat hook prerouting priority dstnat;\n  " + "\n  ".join(P) + "\n }\n"
                   + " chain post { type nat hook postrouting priority srcnat;\n  " + "\n  ".join(Q) + "\n }\n"
                   + " chain learn { type filter hook postrouting priority srcnat + 10;\n  " + "\n  ".join(L) + "\n }\n}")
    rej_tcp = "meta l4proto tcp reject with tcp reset" if o("rst") else ""
    rej_udp = "meta l4proto udp reject" if o("icmp") else ""
    ping = "" if o("noping") else "icmp type echo-request accept"
    is_open = o("open") or n.type == "public"
    if n.map == "none":
        out.append(f"""table inet fw {{
 chain input {{ type filter hook input priority filter; policy {'accept' if is_open else 'drop'};
  iifname "lo" accept
  ct state established,related accept
  meta l4proto ipv6-icmp accept
  {ping}
  {rej_tcp}
  {rej_udp}
 }}
 chain output {{ type filter hook output priority filter; policy accept;
  {'oifname "eth0" meta l4proto udp drop' if o("udpblock") or o("only") else ''}
  {f'oifname "eth0" ct state new tcp dport != {{ {o("only")} }} drop' if o("only") else ''}
 }}
}}""")
    else:
        out.append(f"""table inet fw {{
 chain miniupnpd {{ }}
 chain input {{ type filter hook input priority filter; policy {'accept' if is_open else 'drop'};
  iifname != "wan0" accept
  ct state established,related accept
  meta l4proto ipv6-icmp accept
  {ping}
  {rej_tcp}
  {rej_udp}
 }}
 chain forward {{ type filter hook forward priority filter; policy drop;
  {'meta l4proto udp drop' if o("udpblock") or o("only") else ''}
  {f'iifname != "wan0" ct state new tcp dport != {{ {o("only")} }} drop' if o("only") else ''}
  {'ct state invalid drop' if o("dropinv") else ''}
  {'icmp type time-exceeded drop' if o("nottl") else ''}
  ct state established,related accept
  iifname != "wan0" accept
  ct status dnat accept
  {'meta nfproto ipv6 accept' if o("v6open") else ''}
  jump miniupnpd
  {rej_tcp}
  {rej_udp}
 }}
}}
table inet upnpnat {{
 chain prerouting_miniupnpd {{ }}
 chain postrouting_miniupnpd {{ }}
 chain prerouting {{ type nat hook prerouting priority dstnat - 1; jump prerouting_miniupnpd
 }}
 chain postrouting {{ type nat hook postrouting priority srcnat - 1; jump postrouting_miniupnpd
 }}
}}""")
    return "\n".join(out) + "\n"
