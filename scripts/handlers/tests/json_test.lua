--- p2pd.json against damaged and hostile text: what a peer sends is read or refused, and never raises.
-- $ p2pd-lua test scripts/handlers/tests/json_test.lua
local p2pd = require "p2pd"
local json = p2pd.json

-- The same numbers in every run: a failure can be looked at again.
local state = 20240607
local function random(n)
  state = state * 6364136223846793005 + 1442695040888963407
  return (state >> 33) % n + 1
end

local alphabet = { " ", "\"", "\\", "A", "\n", "\0", "é", "€", "🙂" }

local function random_value(depth)
  local kind = random(depth > 0 and 8 or 6)
  if kind == 1 then return random(2) == 1 end
  if kind == 2 then return random(1 << 30) - (1 << 29) end
  if kind == 3 then return (random(1 << 30) - (1 << 29)) / 1024 end
  if kind == 4 then return json.null end
  if kind <= 6 then
    local letters = {}
    for i = 1, random(8) do letters[i] = alphabet[random(#alphabet)] end
    return table.concat(letters)
  end
  local made = {}
  for i = 1, random(4) do made[kind == 7 and i or ("key" .. i)] = random_value(depth - 1) end
  return made
end

-- One answer of decode: a value, or nil and an error value.
local function decode(text)
  local value, err = json.decode(text)
  if value == nil then
    assert.equal("invalid", err.code)
    assert.is_true(#tostring(err) > 0)
  end
  return value
end

describe("p2pd.json", function()
  it("reads back what it writes", function()
    for _ = 1, 2000 do
      local value = { random_value(4) }
      assert.same(value, decode(assert(json.encode(value))))
    end
  end)

  it("reads or refuses text with damage anywhere", function()
    local refused = 0
    for _ = 1, 3000 do
      local text = assert(json.encode { random_value(3) })
      local at = random(#text)
      local change = random(3)
      if change == 1 then
        text = text:sub(1, at - 1)
      elseif change == 2 then
        text = text:sub(1, at - 1) .. string.char(random(256) - 1) .. text:sub(at + 1)
      else
        text = text:sub(1, at) .. text:sub(at)
      end
      if decode(text) == nil then refused = refused + 1 end
    end
    assert.is_true(refused > 1000)
  end)

  it("refuses what is no JSON", function()
    for _, text in ipairs { "", " ", "\0", "nul", "nan", "inf", "01", "1.", ".5", "+1", "1e", "0x10", "'a'", "[1,]",
      "[,1]", "{,}", "{1:2}", '{"a"}', '{"a":}', '{"a":1,}', '"', '"\\x"', '"\\u12"', '"\\ud800"', '"\n"', "[1 2]",
      "1 2", "{}[]", "\xff", '"\xc0\x80"', ("["):rep(100000), ('{"a":'):rep(100000) } do
      assert.is_nil(decode(text))
    end
  end)

  it("reads what is", function()
    assert.equal(1, json.decode(" 1 "))
    assert.equal("integer", math.type(json.decode("9007199254740993")))
    assert.equal("float", math.type(json.decode("1e2")))
    assert.equal("🙂", json.decode('"\\ud83d\\ude42"'))
    assert.equal(json.null, json.decode("null"))
    assert.same({ a = { 1, 2 } }, json.decode('\t{"a"\r\n:[1,2]}'))
  end)
end)
