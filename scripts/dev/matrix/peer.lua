-- One node of a matrix, led through a Unix socket: it tells its address, connects where it is told to and says what came
-- of it. Run by scripts/dev/natmatrix:   p2pd-lua exec peer.lua SOCKET
local p2pd = require "p2pd"

local lead = assert(p2pd.pipe_open("tcp", { dest = "unix:" .. arg[1], framing = "line", max_qsize = 10000 }))
local node = assert(p2pd.node { ephemeral = true })

local function say(answer) assert(lead:send(p2pd.json.encode(answer))) end

--- The failures inside a failure, as plain data.
local function told(err)
  local attempts = {}
  for _, attempt in ipairs(err.attempts or {}) do attempts[#attempts + 1] = tostring(attempt) end
  return { code = err.code, text = tostring(err), attempts = #attempts > 0 and attempts or nil }
end

local function connect(ask)
  -- An idle node is what is measured: ports that the last connect used are replaced meanwhile.
  p2pd.sleep(0.25)
  local before = p2pd.now()
  local pipe, err = node:connect(ask.to, { timeout = ask.timeout, strategies = ask.strategies })
  local took = p2pd.now() - before
  if not pipe then return { id = ask.id, seconds = took, error = told(err) } end
  local answer = { id = ask.id, seconds = took, strategy = pipe.strategy, path = pipe.path }
  pipe:send("ECHO matrix")
  local echo, why = pipe:recv(5)
  answer.echo = p2pd.now() - before
  if echo ~= "matrix" then answer.error = why and told(why) or { code = "wrong", text = "the echo was another" } end
  if ask.watch and pipe.strategy == "relay" then
    -- A relayed pipe may move to a better way by and by.
    local patience = p2pd.now() + ask.watch
    while pipe.strategy == "relay" and p2pd.now() < patience and pipe.is_open do p2pd.sleep(0.02) end
    answer.moved, answer.moved_after = pipe.strategy, p2pd.now() - before
    pipe:send("ECHO moved")
    echo = pipe:recv(5)
    if echo ~= "moved" then answer.error = { code = "wrong", text = "no echo after the move" } end
  end
  pipe:close()
  return answer
end

say { address = node:address() }
for line in lead:messages() do
  local ask = p2pd.json.decode(line)
  if ask.to then
    p2pd.spawn(function() say(connect(ask)) end)
  else
    say { id = ask.id, address = node:address() }
  end
end
node:close()
