import LuaVM
import Testing

@testable import P2PDScript

@Suite(.timeLimit(.minutes(1))) struct JSONScriptTests {
  @Test func whatGoesThereComesBack() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        #"""
        local json = p2pd.json
        print(json.encode({ 1, 2.0, -3, "a\"\\\n\0\127é", true, false, json.null }))
        print(json.encode({}), json.encode(json.empty_array), json.encode({ a = {} }), json.encode(9007199254740993), json.encode(0.1))
        local t = json.decode('{"a":[1,2.5,-0,1e2,9223372036854775807,92233720368547758070],"b":null,"c":"\\u00e9\\ud83d\\ude00\\n","d":{}, "e" : [ ] }')
        print(t.a[1], t.a[2], t.a[3], t.a[4], t.a[5], math.type(t.a[6]), t.b == json.null, t.c, next(t.d), #t.e, tostring(t.b))
        print(json.decode(" true "), json.decode("null") == json.null, json.decode('""'), json.decode("-12"))
        print(json.encode({ [1] = "a", [3] = "c" }), json.encode({ x = 1, [5] = 2 }) ~= nil)
        """#)
      #expect(
        out == """
          [1,2.0,-3,"a\\"\\\\\\n\\u0000\\u007fé",true,false,null]
          {}\t[]\t{"a":{}}\t9007199254740993\t0.1
          1\t2.5\t0\t100.0\t9223372036854775807\tfloat\ttrue\té😀\n\tnil\t0\tnull
          true\ttrue\t\t-12
          ["a",null,"c"]\ttrue
          """)
    }
  }

  @Test(arguments: [
    "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "tru", "nul", "+1", "01", "-", "1.", "1e", ".5", "1 2",
    "\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "NaN", "Infinity", "'a'", "[1 2]", "// c", "1e999", "\"a\u{1}b\"", "{\"a\":1 \"b\":2}",
  ])
  func whatIsNoJSONIsRefusedWithItsPosition(_ text: String) async throws {
    try await withBench { bench in
      let path = try bench.write("input.json", text)
      let out = try await bench.output(
        """
        local file = io.open("\(path)")
        local value, err = p2pd.json.decode(file:read("a"))
        print(value, err and err.code, err and err.message:match("at byte %d+") ~= nil)
        """)
      #expect(out == "nil\tinvalid\ttrue", "\(text)")
    }
  }

  @Test func depthBytesAndCyclesHaveLimits() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        #"""
        local json = p2pd.json
        print(select(2, json.decode(("["):rep(100000))).code, json.decode(("["):rep(99) .. ("]"):rep(99)) ~= nil)
        print(select(2, json.decode('"\xff"')).code, select(2, json.encode("\xff")).code, select(2, json.encode(0/0)).code, select(2, json.encode(1/0)).code)
        local deep = {}
        local at = deep
        for _ = 1, 200 do at[1] = {} at = at[1] end
        print(select(2, json.encode(deep)).code)
        local cycle = {}
        cycle[1] = cycle
        for _, bad in ipairs { cycle, print, { [true] = 1 }, { [1000] = 1 } } do print(pcall(json.encode, bad)) end
        print(pcall(json.decode, 5))
        """#)
      let lines = out.split(separator: "\n")
      #expect(lines[0] == "invalid\ttrue")
      #expect(lines[1] == "invalid\tinvalid\tinvalid\tinvalid")
      #expect(lines[2] == "invalid")
      #expect(lines[3].contains("contains itself") && lines[4].contains("cannot encode a function"))
      #expect(lines[5].contains("a key is a boolean") && lines[6].contains("sparse"))
      #expect(lines[7].contains("bad argument #1 to 'decode' (string expected, got number)"))
    }
  }

  /// Every prefix and many damaged copies of a good text are either read or refused, and never more.
  @Test func damagedTextsAreReadOrRefused() async throws {
    try await withBench { bench in
      let out = try await bench.output(
        #"""
        local good = '{"a":[1,2.5,{"b":"x\\u00e9\\n"}],"c":null,"d":true,"e":-1e3}'
        local refused = 0
        for cut = 0, #good - 1 do
          local value, err = p2pd.json.decode(good:sub(1, cut))
          assert(value == nil and err.code == "invalid", cut)
        end
        for at = 1, #good do
          for _, c in ipairs { "\0", "\xff", "{", "}", "[", "]", '"', "\\", ",", ":", "1", "e", "n" } do
            local value, err = p2pd.json.decode(good:sub(1, at - 1) .. c .. good:sub(at + 1))
            assert(value ~= nil or err.code == "invalid")
            if value == nil then refused = refused + 1 end
          end
        end
        print(refused > 100)
        """#)
      #expect(out == "true")
    }
  }
}
