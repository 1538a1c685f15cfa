-- Run behind a router of the laboratory: p2pd-lua exec stun.lua OUTSIDE_ADDRESS NAT_TYPE MAPPING
-- The servers are those of P2PD_STUN.
local p2pd = require "p2pd"
local outside, nat_type, mapping = arg[1], math.tointeger(arg[2]), arg[3]

local client = p2pd.stun_client()
assert(assert(client:get_wan_ip()) == outside)

for _, proto in ipairs { p2pd.UDP, p2pd.TCP } do
  local seen = assert(client:get_mapping(proto))
  assert(seen.ip == outside and seen.port > 0 and seen.local_port > 0, proto)
  assert(p2pd.interface():route(p2pd.IP4).nic_ips[1] == seen.local_ip, proto)
end

-- One server that is not there, named by the script.
local _, err = p2pd.stun_client { servers = { "198.51.100.77" } }:get_mapping()
assert(err.code == "timeout" and #err.attempts == 1, tostring(err))
local ok, misuse = pcall(p2pd.stun_client, { servers = { "a b" } })
assert(not ok and tostring(misuse):find("no \"host\" or \"host:port\"", 1, true), tostring(misuse))

local nic = assert(p2pd.interface())
assert(nic.nat == nil and #nic:route(p2pd.IP4).ext_ips == 0)
local nat = assert(nic:load_nat())
assert(nat.type == nat_type and nat.udp.mapping == mapping and nat.tcp.mapping == mapping)
assert(nat.tcp.filtering == nil, "unknown")
local range = nat.udp.range
assert(nat.udp.allocation == "random" and range[1] < range[2] or range == nil, nat.udp.allocation)
assert(nic.nat.type == nat_type)
assert(nic:route(p2pd.IP4).ext_ips[1] == outside)
assert(nic.rp[p2pd.IP4][1].ext_ips[1] == outside)
assert(client:get_nat().type == nat_type)
print("all held")
