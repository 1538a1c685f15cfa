--- Echo: every message comes back to who sent it. The smallest protocol there is, and a first test of any connection.
---
---   $ p2pd-lua run scripts/handlers/echo.lua                         # prints the node's address
---   $ p2pd-lua connect ADDRESS --protocol echo                       # in another terminal
---   hello
---   hello
---
---   $ echo hello | p2pd-lua connect ADDRESS --protocol echo          # in a pipeline
---   hello

local M = {}

function M.msg_cb(msg, client_tup, pipe)
  -- send() waits while the peer does not read; meanwhile nothing more is read from it. A send that fails means that the
  -- pipe is gone: there is nobody left to tell.
  pipe:send(msg, client_tup)
end

return M
