---@meta p2pd
-- Made from the table in Sources/P2PDScript/API; edit that.

---@class p2pdlib
local p2pd = {}

--- What `p2pd.pipe_open` takes.
---@class (exact) p2pd.pipe_options: p2pd.conf
---@field dest? (string|integer|p2pd.client_tup|{[1]: string, [2]: integer}) `{host, port}`, a `client_tup`, `"host:port"` or `"unix:/path"`; a name is resolved, both families raced
---@field route? (p2pd.route|p2pd.interface) where the pipe starts from
---@field bind? (string|integer|p2pd.client_tup|{[1]: string, [2]: integer}) the local address: a port, `{ip, port}` or `"ip:port"`
---@field msg_cb? (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) gets each message
---@field up_cb? (fun(pipe: p2pd.pipe)) called when the pipe, or a server's client, opens
---@field path_cb? (fun(pipe: p2pd.pipe)) called when the pipe moved to another path
---@field end_cb? (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) called when the pipe, or a server's client, ends

--- Settings of a pipe, under P2PD's names. Times are seconds, fractions allowed.
---@class (exact) p2pd.conf
---@field framing? ("raw"|"line"|"u16"|"u32"|"message") how messages keep their boundaries on a stream
---@field max_message? integer bytes of the largest message; a peer that sends more is cut off
---@field con_timeout? number how long opening may take, TLS included
---@field recv_timeout? number how long a `recv` without a timeout of its own waits
---@field dns_timeout? number how long a name may take to resolve
---@field flush_timeout? number how long `close` tries to get queued data out
---@field max_qsize? integer messages a queue holds; over it a TCP pipe stops reading, a UDP pipe drops the newest
---@field max_qbytes? integer bytes a pipe's queues hold before the same happens
---@field enable_msg_ids? boolean drop messages that equal one of the last from the same sender
---@field max_msg_ids? integer how many are remembered for that
---@field reuse_addr? boolean SO_REUSEADDR and SO_REUSEPORT
---@field broadcast? boolean SO_BROADCAST: allow UDP broadcast
---@field linger? integer SO_LINGER in seconds
---@field no_delay? boolean TCP_NODELAY
---@field allow_half_open? boolean keep the pipe open for sending after the peer ended its side
---@field multicast? string[] multicast groups a UDP pipe joins
---@field multicast_ttl? integer hops a multicast datagram may take
---@field multicast_loop? boolean whether this host gets its own multicast datagrams
---@field dual_stack? boolean an IPv6 server that also takes IPv4
---@field backlog? integer connections the kernel holds for a server
---@field tls? (boolean|p2pd.tls_options) encrypt; `true` verifies the server against the system's authorities
---@field interface? string the name of the interface the pipe is held to

--- TLS of a plain pipe. A server needs `certificate` and `key`.
---@class (exact) p2pd.tls_options
---@field certificate? string path of the PEM file with the certificate chain
---@field key? string path of the PEM file with the private key
---@field ca? string path of a PEM file with the authorities to trust
---@field server_name? string the name the server's certificate must carry
---@field verify? boolean verify the server's certificate
---@field alpn? string[] application protocols to offer

--- What `pipe:close` takes.
---@class (exact) p2pd.close_options
---@field flush? number seconds to get queued data out; 0 closes at once

--- What `pipe:stats` gives.
---@class (exact) p2pd.pipe_stats
---@field bytes_in integer bytes received
---@field bytes_out integer bytes sent
---@field messages_in integer messages received
---@field messages_out integer messages sent
---@field dropped integer messages dropped: a full queue (UDP), or duplicates
---@field queued integer messages nobody has taken yet
---@field queued_bytes integer their bytes
---@field unsent integer bytes not yet given to the kernel
---@field rtt? number the last round trip, seconds
---@field age number seconds since the pipe opened

--- What `p2pd.node` takes.
---@class (exact) p2pd.node_options
---@field port? integer the port to listen on
---@field ifs? string[]|p2pd.interface[] the interfaces to listen on
---@field listen? string[] the addresses to listen on
---@field ephemeral? boolean a fresh identity that is forgotten at the end
---@field state_dir? string the folder that keeps identity and port
---@field offline? boolean contact no server
---@field port_mapping? boolean have the router open the node's port (PCP, NAT-PMP, UPnP)
---@field servers? string[]|p2pd.servers whom it asks, and at which brokers it is reached
---@field ca? string PEM file of the roots that the servers' certificates are checked against
---@field accept_cb? (fun(peer_id: string, info: p2pd.accept_info): boolean?) asked before the node dials anything because a stranger asks it to: `true` allows it; `false`, `nil` and an error refuse; it may wait
---@field msg_cb? (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) gets each message
---@field up_cb? (fun(pipe: p2pd.pipe)) called when the pipe, or a server's client, opens
---@field path_cb? (fun(pipe: p2pd.pipe)) called when the pipe moved to another path
---@field end_cb? (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) called when the pipe, or a server's client, ends

--- What `node:connect` takes.
---@class (exact) p2pd.connect_options
---@field protocol? string the protocol to speak
---@field timeout? number seconds for all attempts together
---@field strategies? string[] which ways to try: `p2pd.DIRECT`, `p2pd.REVERSE`, `p2pd.PUNCH`, `p2pd.RELAY`
---@field msg_cb? (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) gets each message
---@field up_cb? (fun(pipe: p2pd.pipe)) called when the pipe, or a server's client, opens
---@field path_cb? (fun(pipe: p2pd.pipe)) called when the pipe moved to another path
---@field end_cb? (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) called when the pipe, or a server's client, ends

--- The callbacks of one protocol of a node, or of one pipe between nodes.
---@class (exact) p2pd.node_callbacks
---@field msg_cb? (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) gets each message
---@field up_cb? (fun(pipe: p2pd.pipe)) called when the pipe, or a server's client, opens
---@field path_cb? (fun(pipe: p2pd.pipe)) called when the pipe moved to another path
---@field end_cb? (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) called when the pipe, or a server's client, ends

--- What `p2pd.daemon` takes; the settings are those of its servers.
---@class (exact) p2pd.daemon_options: p2pd.conf
---@field msg_cb? (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) gets each message
---@field up_cb? (fun(pipe: p2pd.pipe)) called when the pipe, or a server's client, opens
---@field path_cb? (fun(pipe: p2pd.pipe)) called when the pipe moved to another path
---@field end_cb? (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) called when the pipe, or a server's client, ends

--- What `p2pd.resolve` takes.
---@class (exact) p2pd.resolve_options
---@field af? integer `p2pd.IP4` or `p2pd.IP6`
---@field timeout? number seconds

--- The servers a node may contact, as URLs: `stun:HOST`, `turn:USER:PASSWORD@HOST?transport=tcp`, `turns:...`, `mqtt://HOST`, `mqtts://HOST`, `ntp:HOST`, `https://HOST` (name servers). A list replaces all of them, `{}` leaves none; a named group replaces those of its kind.
---@class (exact) p2pd.servers
---@field stun? string[] they tell how the node looks from outside; `"HOST:PORT"` will do
---@field turn? string[] relays, for peers that no other way leads to
---@field brokers? string[] MQTT brokers: nodes that have no pipe to it yet reach it there
---@field ntp? string[] clocks
---@field names? string[] name servers; those of another ending than `.peer` say it: `https://HOST?tld=home`

--- What `accept_cb` is told of a stranger's wish.
---@class (exact) p2pd.accept_info
---@field protocol string the protocol the pipe is to speak; `""` is the default one
---@field strategies string[] in which ways this node is to help: `p2pd.REVERSE`, `p2pd.PUNCH`, `p2pd.RELAY`
---@field addresses string[] what this node would dial, `"ip:port"`; a relay's address is not known yet

--- What `p2pd.conf.lua` returns: settings for `p2pd-lua`, in place of options typed each time. It is looked for beside the script, then in `$XDG_CONFIG_HOME/p2pd-lua` (`~/.config/p2pd-lua`); the first one found counts. The environment and options win over it. It is run without files, processes or a network, for a second at most.
---@class (exact) p2pd.conf_file
---@field servers? string[]|p2pd.servers the servers that nodes may contact (`--servers`)
---@field offline? boolean contact none of them (`--offline`)
---@field port_mapping? boolean have the router open the node's port (`--no-port-mapping`: `false`)
---@field ca? string PEM file of the roots for their certificates (`--ca`), beside this file
---@field nickname? string the name to register for the node (`--nickname`)
---@field mdns? boolean ask and tell the local network (`--no-mdns`: `false`)
---@field name? string what `status` and the like call the node (`--name`)
---@field port? integer the port to listen on (`--port`)
---@field listen? string[] the addresses to listen on (`--listen`)
---@field interfaces? string[] those whose addresses the node's address tells (`--if`)
---@field max_pipes? integer pipes of others open at once (`--max-pipes`)
---@field memory? integer MiB that scripts may hold (`--memory`)
---@field time_limit? number seconds a handler may run without waiting (`--time-limit`)
---@field sandbox? boolean scripts get no files and processes (`--sandbox`)
---@field log_level? ("trace"|"debug"|"info"|"notice"|"warning"|"error"|"critical") least level that is logged (`--log-level`)
---@field log_format? ("text"|"json") shape of the log (`--log-format`)

--- What `p2pd.stun_client` takes.
---@class (exact) p2pd.stun_options
---@field servers? string[] `"host"` or `"host:port"`, port 3478 by default, asked over UDP and TCP; `"stuns:host"` over TLS
---@field interface? (string|p2pd.interface) where to ask from
---@field af? integer `p2pd.IP4` or `p2pd.IP6`

--- What `p2pd.turn_client` takes.
---@class (exact) p2pd.turn_options
---@field server? (string|string[]) `"host"`, `"host:port"` or a URL (`turns:user:password@host`); of several the first that works
---@field user? string the user's name
---@field password? string the user's password
---@field secret? string in place of a password: coturn's `static-auth-secret`
---@field transport? ("udp"|"tcp"|"tls") what to speak to the server over
---@field interface? (string|p2pd.interface) where to speak from
---@field ca? string PEM file of the roots that the server's certificate is checked against
---@field timeout? number seconds for opening
---@field max_qsize? integer datagrams that may wait for `recv`

--- What `get_mapping` gives.
---@class (exact) p2pd.stun_mapping
---@field ip string the outside address
---@field port integer the outside port
---@field local_ip string the inside address
---@field local_port integer the inside port

--- What is known of the router before a path. A field that is nil is unknown, which is not no.
---@class (exact) p2pd.nat
---@field type integer P2PD's NAT type: 0 unknown, 1 open, 2 firewall, 3 full cone, 4 restricted, 5 port restricted, 6 symmetric, 7 UDP blocked
---@field delta_type integer P2PD's delta type: 0 unknown, 1 none, 2 equal, 3 preserved, 4 independent, 6 random
---@field delta_value integer what the delta counts, in ports
---@field udp p2pd.nat_behaviour how UDP is treated
---@field tcp p2pd.nat_behaviour how TCP is treated
---@field hairpin? ("no"|"external"|"internal") whether the outside address works from inside
---@field carrier_nat? boolean whether the provider translates too
---@field round_trip? number seconds to the nearest server and back
---@field external string[] the outside addresses
---@field words string[] the same in sentences

--- How one transport is treated.
---@class (exact) p2pd.nat_behaviour
---@field reach? ("answered"|"blocked"|"silent") whether servers answered
---@field mapping? ("none"|"endpoint_independent"|"address_dependent"|"address_and_port_dependent"|"endpoint_dependent") which outside port a peer sees
---@field filtering? ("none"|"endpoint_independent"|"address_dependent"|"address_and_port_dependent") who may send in
---@field allocation? string how outside ports are chosen: `preserve`, `offset+7000`, `seq+1`, `random`
---@field range? integer[] the lowest and the highest outside port seen, where they are sequential or random
---@field mapped string[] the outside addresses and ports seen

--- What `p2pd.ntp` gives. Times are seconds, with fractions.
---@class (exact) p2pd.clock
---@field time number the time now, since 1970 (UTC)
---@field offset number what has to be added to this host's clock: above zero where it is slow
---@field error number how far that may be off, either way
---@field round_trip number to the server it was taken from, and back
---@field servers p2pd.clock_server[] what each server said, in the order they were named

--- One server's part in `p2pd.clock`.
---@class (exact) p2pd.clock_server
---@field server string as it was named
---@field stratum? integer how far it is from a reference clock, 1 to 15
---@field offset? number by it alone; nil where it gave none
---@field round_trip? number there and back
---@field problem? string why it gave nothing, or is not believed

--- What `p2pd.names.lookup` gives.
---@class (exact) p2pd.name_report
---@field name string in full
---@field id string the node's id: its public key
---@field address string the node's address, as it was told
---@field source ("file"|"lan"|"servers"|"dns") who decided
---@field seconds number what the lookup took
---@field answers p2pd.name_finding[] what each source said, in the order in which they decide

--- What one source said of a name.
---@class (exact) p2pd.name_finding
---@field source ("file"|"lan"|"servers"|"dns") which
---@field outcome ("found"|"absent"|"failed"|"not_asked") whether it knows the name
---@field id? string the key it told
---@field address? string the address it told
---@field from string who told: a file and line, a host, how many servers
---@field why? string why it failed or was not asked
---@field seconds number what it took
---@field parts {from: string, words: string, seconds: number?}[] what each of several that were asked said

--- What `lab.node` takes.
---@class (exact) p2pd.test.node_options
---@field name? string the host's name, for logs and `p2pd.resolve`
---@field port? integer the port it listens on
---@field protocol? string with a handler's table: the name it is hosted under

--- What a handler file returns.
---@class p2pd.handler
---@field msg_cb? (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) A message arrived on a pipe of the protocol. On a TCP server's pipe it is the client's pipe.
---@field up_cb? (fun(pipe: p2pd.pipe)) A pipe of the protocol opened.
---@field path_cb? (fun(pipe: p2pd.pipe)) A pipe of the protocol moved to another path, from a relay to a direct one say: `pipe.strategy`, `pipe.path` and the addresses are the new one's. No message is lost by it or comes twice, and the order stays.
---@field end_cb? (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) A pipe closed; called exactly once for each. `reason` is `closed`, `reset`, `timeout`, `error` or `local`; with `error` the third argument says which.
---@field error_cb? (fun(err: any, pipe?: p2pd.pipe)) A callback or task of the script failed. It was logged already; the pipe stays open unless this closes it.
---@field session? (fun(pipe: p2pd.pipe, data: table)) In place of `msg_cb`: a task for each pipe, in straight lines: `for msg in pipe:messages() do ... end`. `data` is `pipe.data`, an empty table at first. The pipe is closed when it returns. At a reload a session that waits in `recv` on its pipe is unwound (`<close>` variables are closed) and begins anew on the new code with the same `data`; no message is lost.
---@field start? (fun()) The protocol is live: the place for what waits for the network (`pipe_open`, `connect`, loops). At a reload it is called after the swap, when the old generation's `stop` has ended.
---@field stop? (fun()) The protocol ends, or another generation serves from now on. At a reload it runs first, then the new generation's `start`; it has 2 seconds. After a rollback `start` is called again.
---@field check? (fun(): boolean?, string?) Called before the generation serves, without waiting and without `p2pd.state`; `false`, `nil, message` or an error refuses it.
---@field accept_cb? (fun(peer_id: string, info: p2pd.accept_info): boolean?) Asked before this node dials anything because a stranger who wants a pipe of the protocol asks it to (strategies `reverse`, `punch` and `relay`). `true` allows it; `false`, `nil` and an error refuse. May wait. Pipes that come in are not its business: `up_cb` sees them.
---@field version? integer The version of what the script keeps in `p2pd.state`.
---@field migrate? (fun(state: table, old_version: integer): table) Called when `version` differs from that of the generation in service: gets a copy of its state, returns the new state. It cannot wait. The old state stays as it is, for handlers in flight and for a rollback.
---@field adopt? (fun(pipe: p2pd.pipe, old_version: integer)) Called before this code hears anything of a pipe that another generation served.
---@field drain? boolean true: pipes that are open when this generation comes finish on the one they have; new ones get this one.
---@field protocol? string The name peers choose the protocol by.

--- A connection, a server or a UDP socket. `local pipe <close> = ...` closes it at the end of the block.
---@class p2pd.pipe
---@field id integer A number no other pipe of the process has.
---@field proto ("tcp"|"udp") The transport.
---@field af integer `p2pd.IP4`, `p2pd.IP6`, or nil for a Unix-domain socket.
---@field is_server boolean Whether it takes clients: a TCP server, or a UDP pipe without `dest`.
---@field is_open boolean Whether it can still be used.
---@field peer (p2pd.client_tup|nil) The other side's address; nil for a server.
---@field route (p2pd.route|nil) The route it was opened on, where one was given.
---@field strategy string How a pipe between nodes came to be: `direct`, `reverse`, `punch` or `relay`; empty for other pipes.
---@field held_by string How it is held to the `interface` asked for: `device` (SO_BINDTODEVICE) or `source` (bound to its address); nil where it is not.
---@field path string Which way it takes: `same machine`, `lan`, `link-local`, `ipv6`, `ipv4` or `relay`; empty for other pipes.
---@field why_relayed p2pd.error Of a pipe that this node opened over a relay, once nothing better was found, some seconds after `connect`: an error whose `attempts` say what each attempt of both nodes at another way has met, and whose `remedy` what would help. nil before that and for other pipes.
---@field protocol string The protocol chosen by the peer; empty for the default protocol and plain pipes.
---@field peer_id (string|nil) The verified node id of the other side; nil for plain pipes.
---@field data any Yours: anything you want to keep with the pipe.
local pipe = {}

--- Sends a message. Waits while the peer is slower than the script; where a script cannot wait it returns at once, and fails with `limit` when too much is unsent.
---@async
---@param msg string the bytes
---@param client_tup? (p2pd.client_tup|{[1]: string, [2]: integer}) to whom, on a UDP server's pipe
---@return boolean? ok # true
---@return p2pd.error? err # why it is nil
function pipe:send(msg, client_tup) end

--- Takes the next message, waiting for one if need be: `msg, client_tup`, or `nil, err`.
---@async
---@param sub? p2pd.subscription a subscription of this pipe
---@param timeout? number seconds; 0 takes only what is there
---@return string? msg # the message
---@return p2pd.client_tup? client_tup # its sender, or err after nil
---@overload fun(self: p2pd.pipe, timeout?: number): string?, p2pd.client_tup|p2pd.error|nil
function pipe:recv(sub, timeout) end

--- Iterates over messages until the pipe ends.
---@async
---@param sub? p2pd.subscription a subscription of this pipe
---@return (fun(): string, p2pd.client_tup) iterator # for a `for` loop
function pipe:messages(sub) end

--- On a TCP server without callbacks: the next client's pipe.
---@async
---@param timeout? number seconds
---@return p2pd.pipe? client # the next client's pipe
---@return p2pd.error? err # why it is nil
function pipe:accept(timeout) end

--- Opens a queue of the messages that match. A message goes to every subscription it matches, and to the inbox or callbacks as well.
---@param pattern? string a Lua pattern the message must contain
---@param client_tup? (p2pd.client_tup|{[1]: string, [2]: integer}) the sender it must come from; port 0 stands for any port
---@return p2pd.subscription sub # for `recv`
function pipe:subscribe(pattern, client_tup) end

--- Closes the queue; what is in it is dropped.
---@param sub p2pd.subscription what `subscribe` gave
function pipe:unsubscribe(sub) end

--- Adds a message callback. On a server's pipe it serves every client.
---@param f (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) gets each message
function pipe:add_msg_cb(f) end

--- Takes a message callback away.
---@param f (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) a function added before
function pipe:del_msg_cb(f) end

--- Adds an open callback; on a pipe that is open it is called at once.
---@param f (fun(pipe: p2pd.pipe)) called when a pipe opens
function pipe:add_up_cb(f) end

--- Takes an open callback away.
---@param f (fun(pipe: p2pd.pipe)) a function added before
function pipe:del_up_cb(f) end

--- Adds a path callback: a pipe that began on a relay moves when a direct way is proven, and `pipe.strategy` and `pipe.path` say where it is now.
---@param f (fun(pipe: p2pd.pipe)) called when the pipe moved to another path
function pipe:add_path_cb(f) end

--- Takes a path callback away.
---@param f (fun(pipe: p2pd.pipe)) a function added before
function pipe:del_path_cb(f) end

--- Adds an end callback; on a pipe that has ended it is called at once.
---@param f (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) called when the pipe ends
function pipe:add_end_cb(f) end

--- Takes an end callback away.
---@param f (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) a function added before
function pipe:del_end_cb(f) end

--- Relays: what arrives on this pipe leaves on the other, with backpressure and without passing through Lua. Both ways make a tunnel.
---@param other p2pd.pipe where the messages go
---@return boolean? ok # true
---@return p2pd.error? err # why it is nil
function pipe:add_pipe(other) end

--- Ends the relay.
---@param other p2pd.pipe a pipe added before
function pipe:del_pipe(other) end

--- Closes the pipe after its queued data went out; gives `nil, err` when some could not be sent. Where a script cannot wait it returns at once and the flush goes on. Closing twice is harmless.
---@async
---@param options? p2pd.close_options how long to flush
---@return boolean? ok # true
---@return p2pd.error? err # why it is nil
function pipe:close(options) end

--- Half-close: the peer sees the end of the data, and this side can still receive.
---@return boolean? ok # true
---@return p2pd.error? err # why it is nil
function pipe:close_output() end

--- The local address.
---@return p2pd.client_tup? client_tup # the local address
---@return p2pd.error? err # why it is nil
function pipe:getsockname() end

--- The peer's address; a server has none.
---@return p2pd.client_tup? client_tup # the peer's address
---@return p2pd.error? err # why it is nil
function pipe:getpeername() end

--- Counters since the pipe opened.
---@return p2pd.pipe_stats stats # a new table
function pipe:stats() end

--- A queue of some of a pipe's messages, for `pipe:recv(sub)`.
---@class p2pd.subscription
local sub = {}

--- Who a message is from: `{ip, port}`. Prints as `ip:port`.
---@class p2pd.client_tup
---@field [1] string the address
---@field [2] integer the port
---@operator len: integer
---@field ip string The address; also `client_tup[1]`. A link-local address has its scope.
---@field port integer The port; also `client_tup[2]`.
local client_tup = {}

--- Why something did not work. Prints as a sentence.
---@class p2pd.error
---@field code string For programs: `timeout`, `closed`, `reset`, `reloaded`, `refused`, `unreachable`, `limit`, `dns`, `tls`, `cancelled`, `unsupported`, `in_use`, `permission`, `bad_address`, `too_long`, `protocol`, `wrong_key`, `not_p2pd`, `bad_name`, `bad_record`, `not_found`, `no_quorum`, `expired`, `key_changed`, `taken`, `too_large`, `invalid`, `io`.
---@field message string For people: what was tried and what it met. `tostring(err)` is the same.
---@field attempts p2pd.error[] What each attempt met, where several were made; else empty.
---@field remedy string What would help, in a sentence; `""` where the message says all there is to say.
---@field strategy string Of an attempt of `connect`: `direct`, `reverse`, `punch` or `relay`; `""` elsewhere.
---@field by_peer boolean Whether the other node made this attempt, and told.
---@field from string Of an attempt: the endpoint it left from; `""` where it is not known.
---@field to string Of an attempt: the endpoint it went to; `""` where there was none.
local err = {}

--- A node: an identity, an address, and the pipes of its peers.
---@class p2pd.node
---@field id string The node's id: its public key.
---@field port integer The port it listens on.
local node = {}

--- The address to give to others, as it is now. A node finds out after its start what it looks like from outside and which brokers lead to it, which takes a second or two; `wait` waits for that. The address changes when the host's addresses do.
---@async
---@param wait? number seconds to wait at most until the address is whole
---@return string address # a token that begins with `p2pd1`
function node:address(wait) end

--- Connects to a node, by whatever way leads to it first: all are tried at once. `err.attempts` says what each attempt of both nodes met, `err.remedy` what would help; `pipe.strategy` and `pipe.path` which way it was. The pipe has the callbacks given here and no others. A name is looked up first (`p2pd.names.lookup`); the node is asked for its newest address where the stored one may be old, and the key of the name is remembered: another one later is `key_changed`.
---@async
---@param address (string|p2pd.node) an address token, a name such as `example.peer`, or a node of this script
---@param options? p2pd.connect_options protocol, callbacks, deadline
---@return p2pd.pipe? pipe # an encrypted pipe to the node with that key
---@return p2pd.error? err # why it is nil
function node:connect(address, options) end

--- Gives the node a name, by which others connect to it; the first key that takes a name has it. The node keeps it: it renews the name long before its 7 days are over, and tells the servers and the local network when its address changes. Where no name servers are configured the name is one of the local network alone, `example.local`. With `no_quorum` or `unreachable` the node goes on trying.
---@async
---@param name string `"example"`, or in full: `"example.peer"`
---@return string? name # in full, once a majority of the name servers has it
---@return p2pd.error? err # why it is nil
function node:nickname(name) end

--- Hosts a protocol under a name that peers choose in `connect`.
---@param protocol string its name
---@param callbacks p2pd.node_callbacks its callbacks
function node:host(protocol, callbacks) end

--- Adds a message callback to the default protocol: pipes that peers open.
---@param f (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) gets each message
function node:add_msg_cb(f) end

--- Takes it away.
---@param f (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) a function added before
function node:del_msg_cb(f) end

--- Adds an open callback to the default protocol.
---@param f (fun(pipe: p2pd.pipe)) called when a peer's pipe opens
function node:add_up_cb(f) end

--- Takes it away.
---@param f (fun(pipe: p2pd.pipe)) a function added before
function node:del_up_cb(f) end

--- Adds a path callback to the default protocol.
---@param f (fun(pipe: p2pd.pipe)) called when a peer's pipe moved to another path
function node:add_path_cb(f) end

--- Takes it away.
---@param f (fun(pipe: p2pd.pipe)) a function added before
function node:del_path_cb(f) end

--- Adds an end callback to the default protocol.
---@param f (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) called when a peer's pipe ends
function node:add_end_cb(f) end

--- Takes it away.
---@param f (fun(pipe: p2pd.pipe, reason: string, err?: p2pd.error)) a function added before
function node:del_end_cb(f) end

--- The node's open pipes that a script has a hand in.
---@return p2pd.pipe[] pipes # a new table
function node:pipes() end

--- Closes the node and its pipes; flushes first.
---@async
---@param options? p2pd.close_options how long to flush
---@return boolean ok # true
function node:close(options) end

--- Several servers with one set of callbacks.
---@class p2pd.daemon
local daemon = {}

--- Adds a server on one address.
---@async
---@param proto ("tcp"|"udp") `p2pd.TCP` or `p2pd.UDP`
---@param where (p2pd.route|string|integer|p2pd.client_tup|{[1]: string, [2]: integer}) a bound route, a port, `{ip, port}` or `"ip:port"`
---@return p2pd.pipe? pipe # the server's pipe
---@return p2pd.error? err # why it is nil
function daemon:add_listener(proto, where) end

--- Adds servers for every address of both families. All or none: when one fails, those already open are closed.
---@async
---@param proto ("tcp"|"udp") the protocol
---@param port? integer the same for every address
---@return p2pd.pipe[]? pipes # one server for each address
---@return p2pd.error? err # why it is nil
function daemon:listen_all(proto, port) end

--- Adds servers on `127.0.0.1` and `::1`: only this host reaches them.
---@async
---@param proto ("tcp"|"udp") the protocol
---@param port? integer the same for both
---@return p2pd.pipe[]? pipes # one server for each address
---@return p2pd.error? err # why it is nil
function daemon:listen_loopback(proto, port) end

--- Adds servers on private, unique local and link-local addresses: the local network reaches them.
---@async
---@param proto ("tcp"|"udp") the protocol
---@param port? integer the same for every address
---@param nic? p2pd.interface only this interface
---@return p2pd.pipe[]? pipes # one server for each address
---@return p2pd.error? err # why it is nil
function daemon:listen_local(proto, port, nic) end

--- Adds a message callback for all its servers.
---@param f (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) gets each message
function daemon:add_msg_cb(f) end

--- Takes it away.
---@param f (fun(msg: string, client_tup: p2pd.client_tup, pipe: p2pd.pipe)) a function added before
function daemon:del_msg_cb(f) end

--- Its servers.
---@return p2pd.pipe[] pipes # a new table
function daemon:servers() end

--- Closes its servers and their clients' pipes.
---@return boolean ok # true
function daemon:close() end

--- A network interface of this host.
---@class p2pd.interface
---@field name string Its name: `eth0`.
---@field index integer The kernel's number of it.
---@field mac (string|nil) Its hardware address; nil where it has none.
---@field mtu integer Bytes of the largest packet.
---@field is_up boolean Whether it can carry packets.
---@field is_loopback boolean Whether it leads nowhere but here.
---@field addresses string[] All its addresses.
---@field rp table<integer, p2pd.route[]> Route pools: `nic.rp[p2pd.IP4][1]`.
---@field nat (p2pd.nat|nil) What `load_nat` found out about the router before it; nil until then.
local nic = {}

--- The families it has usable addresses of.
---@return integer[] afs # `p2pd.IP4`, `p2pd.IP6`
function nic:supported() end

--- Whether the default route leads through it.
---@param af? integer `p2pd.IP4` or `p2pd.IP6`
---@return boolean yes
function nic:is_default(af) end

--- A route to open pipes on.
---@param af? integer `p2pd.IP4` or `p2pd.IP6`
---@return p2pd.route? route # its first route of that family
---@return p2pd.error? err # why it is nil
function nic:route(af) end

--- Measures how the router before the interface maps and filters, with the STUN servers of the command line or well-known ones. Takes some seconds. From then on `nic.nat` has it, and the interface's routes have their `ext_ips`.
---@async
---@return p2pd.nat? nat # what is known of the router
---@return p2pd.error? err # why it is nil
function nic:load_nat() end

--- The addresses one family has on an interface: where a pipe may start from.
---@class p2pd.route
---@field af integer `p2pd.IP4` or `p2pd.IP6`.
---@field interface string The interface's name.
---@field nic_ips string[] The interface's own addresses.
---@field ext_ips string[] The addresses the world sees, as far as they are known.
---@field link_locals string[] Link-local addresses, with their scope.
---@field bind_ip (string|nil) The address a bound route starts from.
---@field bind_port (integer|nil) The port a bound route starts from.
local route = {}

--- The route with a place to start from. Nothing is opened yet.
---@param port? integer the local port
---@param ip? string which of its addresses
---@return p2pd.route? route # a route bound to that address
---@return p2pd.error? err # why it is nil
function route:bind(port, ip) end

--- Asks STUN servers: `p2pd.stun_client`.
---@class p2pd.stun_client
local client = {}

--- The address that others see; over TCP where UDP is blocked.
---@async
---@return string? ip # the outside address
---@return p2pd.error? err # why it is nil
function client:get_wan_ip() end

--- How a fresh port of this host is seen from outside.
---@async
---@param proto? ("tcp"|"udp") `p2pd.UDP` or `p2pd.TCP`
---@return p2pd.stun_mapping? mapping # inside and outside address and port
---@return p2pd.error? err # why it is nil
function client:get_mapping(proto) end

--- Measures how the router before this host maps and filters. Takes some seconds.
---@async
---@return p2pd.nat? nat # what is known of the router
---@return p2pd.error? err # why it is nil
function client:get_nat() end

--- An allocation at a TURN server: `p2pd.turn_client`. `local turn <close> = ...` gives it back at the end of the block.
---@class p2pd.turn_client
local turn = {}

--- The two tuples that the other side needs for its `accept_peer`.
---@return p2pd.client_tup? mapped # our own address as the server sees it
---@return p2pd.client_tup relayed # where peers send to
function turn:get_tups() end

--- Lets a peer through, in both directions, for as long as the client is open.
---@async
---@param peer_tup (p2pd.client_tup|{[1]: string, [2]: integer}) the peer's own address as others see it
---@param peer_relay_tup? (p2pd.client_tup|{[1]: string, [2]: integer}) its relayed address; it sends from there then
---@return boolean? ok # true
---@return p2pd.error? err # why it is nil
function turn:accept_peer(peer_tup, peer_relay_tup) end

--- Sends a datagram. It may be lost or overtaken, as always with UDP.
---@param msg string the bytes
---@param client_tup? (p2pd.client_tup|{[1]: string, [2]: integer}) an accepted peer: its relayed address, if it has one
---@return boolean? ok # true
---@return p2pd.error? err # why it is nil
function turn:send(msg, client_tup) end

--- Takes the next datagram, waiting for one if need be. Over `max_qsize` that wait the newest is dropped.
---@async
---@param timeout? number seconds; 0 takes only what is there
---@return string? msg # the datagram
---@return p2pd.client_tup? client_tup # its sender, or err after nil
function turn:recv(timeout) end

--- Gives the allocation back.
---@async
---@return boolean ok # true
function turn:close() end

--- A function that runs on its own: `p2pd.spawn`.
---@class p2pd.task
local task = {}

--- `p2pd.join(task, timeout)`.
---@async
---@param timeout? number seconds
---@return any ...
function task:join(timeout) end

--- Ends the task: its current or next wait raises an error that begins with `cancelled`.
---@param reason? string for the error
function task:cancel(reason) end

--- Whether it has ended.
---@return boolean yes
function task:done() end

--- A timer: `p2pd.after`, `p2pd.every`.
---@class p2pd.timer
local timer = {}

--- Stops the timer.
function timer:cancel() end

--- Values handed from one task to another: `p2pd.queue`. `#queue` counts what waits in it.
---@class p2pd.queue
---@operator len: integer
local queue = {}

--- Adds a value; waits while the queue is full.
---@async
---@param value any anything but nil
---@param timeout? number seconds
---@return boolean? ok # true
---@return p2pd.error? err # why it is nil
function queue:put(value, timeout) end

--- Takes a value; waits while the queue is empty.
---@async
---@param timeout? number seconds; 0 takes only what is there
---@return any? value # the oldest value
---@return p2pd.error? err # why it is nil
function queue:get(timeout) end

--- No more values: who waits gets what is left, then `nil, err` with code `closed`.
function queue:close() end

---@class p2pd.loglib
p2pd.log = {}

---@class p2pd.jsonlib
p2pd.json = {}

---@class p2pd.nameslib
p2pd.names = {}

--- Opens a pipe. With `dest` it leads there; without, it is a server: a TCP server's callbacks get each client's pipe, a UDP server is one pipe for all senders.
---@async
---@param proto ("tcp"|"udp") `p2pd.TCP` or `p2pd.UDP`
---@param options? p2pd.pipe_options where to, callbacks, settings
---@return p2pd.pipe? pipe # the open pipe
---@return p2pd.error? err # why it is nil
function p2pd.pipe_open(proto, options) end

--- Makes an error value, for functions of yours that return `nil, err`.
---@param code string a word for programs
---@param message string a sentence for people
---@return p2pd.error err
function p2pd.error(code, message) end

--- Starts a node, without blocking the process. In a handler run by `p2pd-lua run`, called without options, it is the node that hosts the handler.
---@async
---@param options? p2pd.node_options leave out in a hosted handler
---@return p2pd.node? node # the running node
---@return p2pd.error? err # why it is nil
function p2pd.node(options) end

--- Looks a name up as `node:connect` does, but waits for what every source says. Nothing is remembered. `err.attempts` says what each source met.
---@async
---@param name string `example.peer`; without an ending it is one of the local network
---@return p2pd.name_report? report # what it stands for, and who said so
---@return p2pd.error? err # why it is nil
function p2pd.names.lookup(name) end

--- Gives a name up before its time is over. Only the key that has it can; what nobody has is `not_found`.
---@async
---@param name string one that a node of this script has
---@param node? p2pd.node whose key has the name
---@return boolean? ok # true
---@return p2pd.error? err # why it is nil
function p2pd.names.delete(name, node) end

--- Makes a daemon.
---@param options? p2pd.daemon_options callbacks and settings of its servers
---@return p2pd.daemon daemon # without servers yet
function p2pd.daemon(options) end

--- The interfaces of this host, as they are now.
---@return p2pd.interface[] nics # a new table
function p2pd.list_interfaces() end

--- One interface: the named one, or the one the default route leads through.
---@param name? string the interface's name
---@return p2pd.interface? nic # the interface
---@return p2pd.error? err # why it is nil
function p2pd.interface(name) end

--- The addresses of a name.
---@async
---@param host string a name or an address
---@param options? p2pd.resolve_options family and timeout
---@return string[]? addresses # in the order to try them
---@return p2pd.error? err # why it is nil
function p2pd.resolve(host, options) end

--- A client of STUN servers (RFC 8489). Nothing is sent yet.
---@param options? p2pd.stun_options whom to ask, and from where
---@return p2pd.stun_client client # asks when its methods are called
function p2pd.stun_client(options) end

--- Opens an allocation at a TURN server (RFC 8656): over UDP, and where that is blocked over TCP. It is kept alive until `close()` or the script's end.
---@async
---@param options? p2pd.turn_options the server, who we are to it, and how to speak to it
---@return p2pd.turn_client? client # an allocation
---@return p2pd.error? err # why it is nil
function p2pd.turn_client(options) end

--- Asks time servers (SNTP, RFC 4330) what time it is. Takes one round trip where they answer and agree, 5 seconds at most. `io`: they contradict each other.
---@async
---@param servers? (string|string[]) `"host"` or `"host:port"`, port 123 by default; with three, one that is wrong is outvoted
---@return p2pd.clock? clock # what time it is
---@return p2pd.error? err # why it is nil
function p2pd.ntp(servers) end

--- Runs `f(...)` as a task of its own. It starts when the caller next waits or ends.
---@param f (fun(...): ...) the function
---@param ... any
---@return p2pd.task task
function p2pd.spawn(f, ...) end

--- Waits for a task. An error in the task is raised here too.
---@async
---@param task p2pd.task what `spawn` gave
---@param timeout? number seconds
---@return any ...
function p2pd.join(task, timeout) end

--- Waits.
---@async
---@param seconds number `math.huge` waits for ever
function p2pd.sleep(seconds) end

--- Calls a function later.
---@param seconds number from now
---@param f (fun()) called once
---@return p2pd.timer timer
function p2pd.after(seconds, f) end

--- Calls a function again and again. A call that is due while the last one still waits is left out.
---@param seconds number between two calls, at least 0.001
---@param f (fun()) called each time
---@return p2pd.timer timer
function p2pd.every(seconds, f) end

--- A clock that never goes back, for measuring; `os.time()` tells the time of day.
---@return number seconds # with fractions
function p2pd.now() end

--- Runs `f(...)`, but not for longer: at the limit its wait fails, its `<close>` variables are closed, and `nil, err` comes back.
---@async
---@param seconds number the limit
---@param f (fun(...): ...) the function
---@param ... any
---@return any ...
function p2pd.with_timeout(seconds, f, ...) end

--- Runs functions at the same time and waits for all. The first failure cancels the others and is raised.
---@async
---@param f (fun(...): ...|p2pd.task) a function or a task
---@param ... any
---@return any ...
function p2pd.gather(f, ...) end

--- A queue between tasks.
---@param size? integer values it holds
---@return p2pd.queue queue
function p2pd.queue(size) end

--- A table of the protocol's own, for plain data: no functions, coroutines or metatables; cycles and pipes are allowed. It lives through reloads, with another `version` as `migrate` says. Not available at the top level of a handler file.
---@type table
p2pd.state = nil

--- Logs its arguments, as `print` would write them.
---@param ... any
function p2pd.log.debug(...) end

--- The same, level info.
---@param ... any
function p2pd.log.info(...) end

--- The same, level warning.
---@param ... any
function p2pd.log.warn(...) end

--- The same, level error.
---@param ... any
function p2pd.log.error(...) end

--- A value as JSON. Data JSON cannot carry (bytes that are no UTF-8, NaN, more than 100 levels) gives `nil, err`; functions and cycles raise. An empty table is `{}`, `json.empty_array` is `[]`.
---@param value any plain data
---@return string? text # JSON
---@return p2pd.error? err # why it is nil
function p2pd.json.encode(value) end

--- JSON as a value. Integers stay integers. What is no JSON, has bytes that are no UTF-8, or more than 100 levels, gives `nil, err` with the position.
---@param text string JSON
---@return any? value # `json.null` for null
---@return p2pd.error? err # why it is nil
function p2pd.json.decode(text) end

--- Stands for JSON's null, which a Lua table cannot hold.
---@type any
p2pd.json.null = nil

--- Encodes as `[]`.
---@type any
p2pd.json.empty_array = nil

--- Reads a protocol's files again and waits for the outcome. `report.result` is `active`, `unchanged` or `rejected`; `report.error` says why, `report.text` all of it. Where a script cannot wait it returns true at once.
---@async
---@param name? string the protocol
---@return table? report # what became of it
---@return p2pd.error? err # why it is nil
function p2pd.reload(name) end

--- Makes a file a part of the script: when its content changes the script is reloaded. Lua files that are required are parts already.
---@param path string a data file; relative paths begin at the script's folder
---@return string path # its absolute path
function p2pd.watch(path) end

--- The open pipes that this generation of the protocol serves, or will with their next message. In an `exec` script: the pipes it opened.
---@return p2pd.pipe[] pipes # a new table, oldest first
function p2pd.pipes() end

--- The number of this loading of the script: another one after each reload.
---@type integer
p2pd.generation = nil

--- `"tcp"`
---@type string
p2pd.TCP = nil

--- `"udp"`
---@type string
p2pd.UDP = nil

--- `4`
---@type integer
p2pd.IP4 = nil

--- `6`
---@type integer
p2pd.IP6 = nil

--- `"direct"`: connect to the peer's addresses.
---@type string
p2pd.DIRECT = nil

--- `"reverse"`: the peer connects back.
---@type string
p2pd.REVERSE = nil

--- `"punch"`: both open the way at the same time.
---@type string
p2pd.PUNCH = nil

--- `"relay"`: through a third host.
---@type string
p2pd.RELAY = nil

return p2pd
