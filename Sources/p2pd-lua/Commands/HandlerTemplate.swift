/// What `new` writes: a handler to start from, and a test that passes.
struct HandlerTemplate: Sendable {
  let name: String
  /// How the user calls the program.
  let program: String
  /// The handler's path as the user will type it.
  let path: String

  /// A protocol's name as `new` takes it.
  static func isName(_ text: String) -> Bool {
    guard let first = text.utf8.first, text.utf8.count <= 63 else { return false }
    let isLetter: (UInt8) -> Bool = { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0 | 0x20) }
    return isLetter(first)
      && text.utf8.allSatisfy {
        isLetter($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || "-_".utf8.contains($0)
      }
      && !text.hasSuffix("_test")
  }

  /// The folder (without its last slash) and the name of `path`; an ending `.lua` is dropped.
  static func split(_ path: String) -> (folder: String, name: String) {
    var name = path[...]
    var folder = ""
    if let slash = path.lastIndex(of: "/") {
      folder = slash == path.startIndex ? "/" : String(path[..<slash])
      name = path[path.index(after: slash)...]
    }
    if name.hasSuffix(".lua") { name = name.dropLast(4) }
    return (folder, String(name))
  }

  var handler: String {
    """
    --- \(name): counts each peer's messages and answers with the number.
    --
    -- $ \(program) run \(path)
    -- (it prints its address and, for another terminal, the command that connects to it)
    --
    -- > hello
    -- 1: hello
    -- > again
    -- 2: again

    local p2pd = require "p2pd"

    local M = {}

    -- The name others ask for in connect(address, { protocol = "\(name)" }). Without this line it is the file's name.
    M.protocol = "\(name)"

    -- A pipe opened. pipe.data is your own, one for each pipe: put plain values or a table of them there.
    function M.up_cb(pipe)
      pipe.data = { count = 0 }
      p2pd.log.info("a peer came: " .. tostring(pipe))
    end

    -- A message arrived. msg is a string of any bytes; client_tup says who sent it and prints as ip:port.
    -- You may wait in here (pipe:recv, p2pd.sleep, connect): other pipes are served meanwhile.
    function M.msg_cb(msg, client_tup, pipe)
      pipe.data.count = pipe.data.count + 1
      local ok, err = pipe:send(pipe.data.count .. ": " .. msg, client_tup)
      if not ok then
        p2pd.log.warn(("no answer to %s: %s"):format(client_tup, err))
      end
    end

    -- A pipe closed; reason is "closed", "reset", "timeout", "error" or "local".
    function M.end_cb(pipe, reason)
      p2pd.log.info(("a peer left (%s): %s"):format(reason, pipe))
    end

    -- One of the functions above raised err. The pipe stays open unless you close it here.
    function M.error_cb(err, pipe)
      p2pd.log.error(("%s on %s"):format(err, pipe))
    end

    return M

    """
  }

  var test: String {
    """
    -- The test of \(name).lua. The words are busted's; nodes and network are simulated, and so is the time.
    --
    -- $ \(program) test \(path.hasSuffix(".lua") ? String(path.dropLast(4)) : path)_test.lua

    local lab = require "p2pd.test"

    describe("\(name)", function()
      it("numbers each message of a peer", function()
        local pipe = lab.dial(lab.node("\(name).lua"))   -- a host with the handler, a client, and a pipe between them
        pipe:send("hello")
        assert.equal("1: hello", pipe:recv(5))
        pipe:send("again")
        assert.equal("2: again", pipe:recv(5))
      end)

      it("counts for each peer alone", function()
        local server = lab.node("\(name).lua")
        local first, second = lab.dial(server), lab.dial(server)
        first:send("a")
        assert.equal("1: a", first:recv(5))
        second:send("b")
        assert.equal("1: b", second:recv(5))
      end)

      it("answers over a slow line that loses packets", function()
        local server, far = lab.node("\(name).lua"), lab.node { name = "far" }
        lab.latency(server, far, 0.2)   -- seconds, one way
        lab.loss(server, far, 0.1)
        local pipe = assert(far:connect(server))
        pipe:send("hello")
        assert.equal("1: hello", pipe:recv(30))   -- takes no time of yours
      end)
    end)

    """
  }
}
