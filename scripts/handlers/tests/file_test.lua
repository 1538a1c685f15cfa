--- The file transfer's tests.    $ p2pd-lua test scripts/handlers/tests/file_test.lua
local lab = require "p2pd.test"
local client = require "file_client"
local transfer = require "file_transfer"
local xxh64 = require "xxh64"

local function run(command)
  assert(os.execute(command), command)
end

local function write(path, bytes)
  local f = assert(io.open(path, "wb"))
  assert(f:write(bytes))
  assert(f:close())
end

local function read(path)
  local f = io.open(path, "rb")
  if not f then return nil end
  local bytes = f:read("a")
  f:close()
  return bytes
end

-- Bytes no two pieces of which are alike, so that a piece in the wrong place is found: 8 KiB of noise, then the same
-- turned by another number of bytes, and so on.
local noise = {}
for i = 1, 1024 do noise[i] = string.pack("<i8", i * 6364136223846793005 ~ (i << 40)) end
noise = table.concat(noise)

local function content(length, seed)
  local parts, n, turn = {}, 0, (seed or 1) * 31
  while n < length do
    turn = (turn + 977) % #noise
    parts[#parts + 1] = noise:sub(turn + 1) .. noise:sub(1, turn)
    n = n + #noise
  end
  return table.concat(parts):sub(1, length)
end

local top, share, inbox, here, server

-- A file of 20 MiB in the share: more than the kernel and the pipe take while nobody reads.
local function write_huge(name, mib)
  local block = content(1 << 20)
  local f = assert(io.open(share .. "/" .. name, "wb"))
  for _ = 1, mib or 20 do assert(f:write(block)) end
  assert(f:close())
end

-- The handler with its folders here, and with other settings.
local function serve(settings)
  return lab.node(lab.write("served_file.lua", ([[
    local file = require "file"
    file.protocol = "file"
    file.share, file.inbox, file.limits.refresh = %q, %q, 0
    %s
    return file
  ]]):format(share, inbox, settings or "")))
end

local function dial(node)
  return lab.dial(node or server, { protocol = "file" })
end

before_each(function()
  top = lab.write("here/.keep", ""):match("^(.*)/here/")
  share, inbox, here = top .. "/it's shared", top .. "/inbox", top .. "/here"
  run(("mkdir -p \"%s/sub\" %s"):format(share, inbox))
  server = serve()
end)

describe("file list", function()
  it("names regular files, with their sizes, and nothing else", function()
    write(share .. "/a.txt", "12345")
    write(share .. "/sub/b b.txt", "")
    write(share .. "/.hidden", "x")
    write(share .. "/half.part", "x")
    write(share .. "/evil\nname", "x")
    write(top .. "/outside", "secret")
    run(("ln -s ../outside \"%s/link\" && ln -s .. \"%s/up\" && mkfifo \"%s/fifo\""):format(share, share, share))
    local files, total = assert(client.list(dial()))
    assert.same({ { name = "a.txt", size = 5 }, { name = "sub/b b.txt", size = 0 } }, files)
    assert.equal(2, total)
    assert.same({ { name = "sub/b b.txt", size = 0 } }, (client.list(dial(), "sub/")))
  end)

  it("says when the folder cannot be read", function()
    server = serve(("file.share = %q"):format(top .. "/nowhere"))
    local files, why = client.list(dial())
    assert.is_nil(files)
    assert.contains("cannot read the folder", why)
  end)
end)

describe("file get", function()
  it("brings files of every size, bytes as they are", function()
    local pipe = dial()
    local piece = transfer.PIECE
    for _, length in ipairs { 0, 1, 31, 32, 33, piece - 1, piece, piece + 1, 5 * piece, 40 * piece + 17 } do
      local bytes = content(length, length)
      write(share .. "/sub/f" .. length, bytes)
      local dest = here .. "/f" .. length
      local size, hash = assert(client.get(pipe, "sub/f" .. length, dest))
      assert.equal(length, size)
      assert.equal(xxh64.hex(bytes), hash)
      assert.is_true(read(dest) == bytes)
      assert.is_nil(io.open(dest .. ".part"))
    end
  end)

  it("gives nothing that is not in the list", function()
    write(top .. "/outside", "secret")
    write(share .. "/.hidden", "secret")
    run(("ln -s ../outside \"%s/link\" && ln -s .. \"%s/up\""):format(share, share))
    local pipe = dial()
    for _, name in ipairs { "../outside", "sub/../../outside", "link", "up/outside", "/etc/passwd", ".hidden", "", ".",
      "sub", "a\0b", top .. "/outside", ("x"):rep(100000) } do
      local size, why = client.get(pipe, name, here .. "/got")
      assert.is_nil(size)
      assert.is_string(why)
      assert.is_nil(io.open(here .. "/got"))
    end
  end)

  it("does not write over a file", function()
    write(share .. "/a", "new")
    write(here .. "/a", "old")
    local size, why = client.get(dial(), "a", here .. "/a")
    assert.is_nil(size)
    assert.contains("is there already", why)
    assert.equal("old", read(here .. "/a"))
  end)

  it("goes on where it was broken off", function()
    local bytes = content(40 * transfer.PIECE + 5)
    write(share .. "/big", bytes)
    local pipe = dial()
    local size = client.get(pipe, "big", here .. "/big", function(_, done)
      if done >= 10 * transfer.PIECE then pipe:close { flush = 0 } end
    end)
    assert.is_nil(size)
    local kept = #read(here .. "/big.part")
    assert.is_true(kept >= 10 * transfer.PIECE and kept < #bytes)
    local first
    assert(client.get(dial(), "big", here .. "/big", function(_, done) first = first or done end))
    assert.is_true(first > kept)    -- not from the start
    assert.is_true(read(here .. "/big") == bytes)
  end)

  it("begins anew when the file is another one by now", function()
    local bytes = content(3 * transfer.PIECE)
    for _, part in ipairs { content(1000, 7), content(5 * transfer.PIECE, 7) } do
      write(share .. "/f", bytes)
      write(here .. "/f.part", part)
      assert(client.get(dial(), "f", here .. "/f"))
      assert.is_true(read(here .. "/f") == bytes)
      os.remove(here .. "/f")
    end
  end)

  it("takes a part that is whole already", function()
    local bytes = content(100000)
    write(share .. "/f", bytes)
    write(here .. "/f.part", bytes)
    assert(client.get(dial(), "f", here .. "/f"))
    assert.is_true(read(here .. "/f") == bytes)
  end)

  it("finds damage on the way, and does not build on it", function()
    local bytes = content(1000)
    local function answers(...)
      local said = { ... }
      local other = lab.node({ protocol = "file", msg_cb = function(_, _, pipe)
        for _, message in ipairs(said) do pipe:send(message) end
      end })
      return client.get(dial(other), "f", here .. "/f")
    end
    local _, why = answers("FILE 1000 0 f", "=" .. content(1000, 2), "DONE " .. xxh64.hex(bytes))
    assert.contains("checksum", why)
    assert.is_nil(io.open(here .. "/f.part"))
    _, why = answers("FILE 1000 0 f", "=" .. bytes .. "!", "DONE " .. xxh64.hex(bytes))
    assert.contains("more came", why)
    _, why = answers("FILE 1000 0 f", "DONE " .. xxh64.hex(""))
    assert.contains("0 of 1000 bytes", why)
    os.remove(here .. "/f.part")
    for _, nonsense in ipairs { "", "FILE", "FILE x 0 f", "FILE 10 5 f", "FILE 99999999999999999999 0 f", "=x" } do
      _, why = answers(nonsense)
      assert.contains("makes no sense", why)
    end
    assert.is_nil(io.open(here .. "/f"))
  end)

  it("tells of a file that shrinks under way", function()
    local length = 200 * transfer.PIECE
    write(share .. "/f", content(length))
    local shrunk = false
    local size, why = client.get(dial(), "f", here .. "/f", function()
      if not shrunk then write(share .. "/f", "") end
      shrunk = true
    end)
    assert.is_nil(size)
    assert.contains("became shorter", why)
  end)

  it("serves several at a time, and not more than its limit", function()
    server = serve "file.limits.transfers = 2"
    write(share .. "/f", content(20 * transfer.PIECE))
    local slow = { dial(), dial() }
    write_huge("huge")
    for _, pipe in ipairs(slow) do pipe:send("GET huge") end    -- and they do not read
    for _, pipe in ipairs(slow) do assert.matches("^FILE ", assert(pipe:recv(5))) end
    local _, why = client.get(dial(), "f", here .. "/f")
    assert.contains("too many transfers", why)
    slow[1]:close { flush = 0 }
    lab.wait_until("a transfer is free", function() return client.get(dial(), "f", here .. "/f") end)
  end)

  it("cuts off a peer that takes nothing for long", function()
    write_huge("huge")
    local pipe = dial()
    pipe:send("GET huge")
    assert.matches("^FILE ", assert(pipe:recv(5)))
    lab.sleep(50)
    assert.is_true(pipe.is_open)
    lab.sleep(20)
    local message
    repeat message = pipe:recv(5) until not message or message:find("^DONE")
    assert.is_nil(message)
  end)
end)

describe("file put", function()
  it("stores what is sent", function()
    local pipe = dial()
    for _, length in ipairs { 0, 1, 3 * transfer.PIECE + 1 } do
      local bytes, name = content(length), "up " .. length .. ".bin"
      write(here .. "/f", bytes)
      assert.equal(length, assert(client.put(pipe, here .. "/f", name)))
      assert.is_true(read(inbox .. "/" .. name) == bytes)
    end
  end)

  it("goes on where it was broken off, or begins anew for other bytes", function()
    local bytes = content(20 * transfer.PIECE)
    write(here .. "/f", bytes)
    local pipe = dial()
    client.put(pipe, here .. "/f", "f", function(_, done)
      if done >= 10 * transfer.PIECE then pipe:close() end
    end)
    lab.wait_until("the server has noticed", function()
      return client.put(dial(), here .. "/f", "f")
    end)
    assert.is_true(read(inbox .. "/f") == bytes)
    write(inbox .. "/g.part", content(1000, 9))
    assert(client.put(dial(), here .. "/f", "g"))
    assert.is_true(read(inbox .. "/g") == bytes)
  end)

  it("refuses names that lead elsewhere, files that are there, and too much", function()
    write(here .. "/f", "12345")
    write(inbox .. "/there", "old")
    local pipe = dial()
    for _, name in ipairs { "../f", "a/b", "/tmp/f", ".f", "..", "", " f", "f.part", "a\0b", "a\nb", "$(f)",
      ("x"):rep(129) } do
      assert.is_nil(client.put(pipe, here .. "/f", name))
    end
    local _, why = client.put(pipe, here .. "/f", "there")
    assert.contains("there already", why)
    assert.equal("old", read(inbox .. "/there"))
    _, why = client.put(dial(serve "file.limits.inbox = 7"), here .. "/f", "f")
    assert.contains("inbox is full", why)
    _, why = client.put(dial(serve "file.inbox = nil"), here .. "/f", "f")
    assert.contains("takes no uploads", why)
  end)

  it("does not keep what has another checksum or size than announced", function()
    local pipe = dial()
    local function play(...)
      for _, message in ipairs { ... } do pipe:send(message) end
      local message
      repeat message = assert(pipe:recv(5)) until not message:find("^READY")
      return message
    end
    assert.matches("^ERR checksum ", play("PUT 5 f", "FROM 0", "=12345", "DONE " .. xxh64.hex("54321")))
    assert.matches("^ERR checksum ", play("PUT 5 f", "FROM 0", "=123", "DONE " .. xxh64.hex("123")))
    assert.matches("^ERR io ", play("PUT 5 f", "FROM 0", "=123456"))
    assert.matches("^ERR syntax ", play("PUT 5 f", "FROM 4"))
    assert.matches("^ERR syntax ", play("FROM 0", "FROM 0"))
    assert.is_nil(io.open(inbox .. "/f"))
    assert.equal("STORED f", play("PUT 3 f", "FROM 0", "=123", "DONE " .. xxh64.hex("123")))
  end)
end)

describe("file protocol", function()
  it("answers what it does not understand, and ignores stray pieces", function()
    local pipe = dial()
    for _, message in ipairs { "", "\0", "list", "FLY", "RESUME", "RESUME 1", "RESUME x y z", "PUT", "PUT x y",
      "FROM 1", "RESUME 99999999999999999999 0 f" } do
      pipe:send(message)
      assert.matches("^ERR ", assert(pipe:recv(5)))
    end
    pipe:send("=stray")
    pipe:send("DONE 00")
    pipe:send("LIST")
    assert.equal("FILES 0 of 0", pipe:recv(5))
  end)

  it("keeps memory flat", function()
    local mib = 32
    write_huge("big", mib)
    collectgarbage()
    local before, most = collectgarbage("count"), 0
    local size = assert(client.get(dial(), "big", here .. "/big", function()
      most = math.max(most, collectgarbage("count"))
    end))
    assert.equal(mib << 20, size)
    assert.is_true(most - before < 8 * 1024)
  end)
end)
