-- The script that is reloaded: an echo over TCP (lines) and UDP on one port of 127.0.0.1, which says its generation. The
-- measurement writes copies of it with other numbers in these two places, and fills it up to the size it wants.
local generation = 1 -- GENERATION
local port = 0 -- PORT

local p2pd = require "p2pd"
local M = {}

function M.msg_cb(msg, client_tup, pipe)
  pipe:send(generation .. " " .. msg, client_tup)
end

p2pd.daemon { msg_cb = M.msg_cb, framing = "line" }:add_listener(p2pd.TCP, { "127.0.0.1", port })
p2pd.daemon { msg_cb = M.msg_cb }:add_listener(p2pd.UDP, { "127.0.0.1", port })

-- FILLING
return M
