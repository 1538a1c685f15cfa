"""`p2pd-lua test`: what it finds, what it shows of a failure, and how it ends."""

import json
import os
import re
import time

from program import ProgramTest

ECHO = """
local M = {}
function M.msg_cb(msg, client_tup, pipe) pipe:send(msg, client_tup) end
return M
"""

FAILING = """
local lab = require "p2pd.test"

describe("a group", function()
  it("passes", function() assert.equal(1, 1) end)
  it("compares", function()
    assert.same({ name = "ana", rooms = { 1, 2 } }, { name = "bob", rooms = { 1 } })
  end)
  local function deep() error("from deep inside") end
  it("raises", function() deep() end)
  it("is not written yet")
end)
"""


class Found(ProgramTest):
    def test_tests_of_a_folder_and_below_and_only_those(self):
        os.makedirs(os.path.join(self.folder, "deep", "deeper"))
        for name in ("a_test.lua", "deep/b_spec.lua", "deep/deeper/c_test.lua"):
            self.write(name, f'it("is {name}", function() print("ran {name}") end)')
        self.write("d.lua", 'error("not a test")')
        self.write(".e_test.lua", 'error("hidden")')
        done = self.run_program("test")
        self.assertEqual(done.status, 0, done)
        self.assertEqual(re.findall(r"ran (\S+)", done.out), ["a_test.lua", "deep/b_spec.lua", "deep/deeper/c_test.lua"])
        self.assertIn("3 passed, 0 failed", done.out)
        one = self.run_program("test", "deep/b_spec.lua")
        self.assertIn("1 passed, 0 failed", one.out)

    def test_nothing_found_is_a_failure(self):
        done = self.run_program("test")
        self.assertEqual(done.status, 1, done)
        self.assertIn("no test was found", done.err)
        missing = self.run_program("test", "nowhere_test.lua")
        self.assertEqual(missing.status, 1, missing)
        self.write("a_test.lua", 'it("one", function() end)')
        none = self.run_program("test", "--filter", "two")
        self.assertEqual(none.status, 1, none)
        self.assertIn('no test has "two" in its name', none.out)

    def test_interfaces_and_stun_are_those_of_the_simulated_host(self):
        self.write("a_test.lua", """
            local p2pd = require "p2pd"
            it("asks nobody outside", function()
              local client = assert(p2pd.stun_client { interface = "eth0", servers = { "10.0.0.77" } })
              for _, question in ipairs { "get_wan_ip", "get_mapping", "get_nat" } do
                local none, err = client[question](client)
                assert.is_nil(none)
                assert.equal("timeout", err.code)
              end
              assert.is_nil((p2pd.stun_client { interface = "nowhere7" }))
              local none, err = p2pd.interface("eth0"):load_nat()
              assert.equal("bad_address", err.code)   -- no server is configured
            end)""")
        done = self.run_program("test")
        self.assertEqual(done.status, 0, done)

    def test_a_filter_is_text_or_a_pattern(self):
        self.write("a_test.lua", """
            describe("list", function()
              it("is [sorted]", function() end)
              it("has 12 entries", function() end)
            end)""")
        self.assertIn("1 passed, 0 failed", self.run_program("test", "--filter", "[sorted]").out)
        self.assertIn("1 passed, 0 failed", self.run_program("test", "--filter", "list has %d+").out)
        self.assertIn("2 passed, 0 failed", self.run_program("test", "--filter", "list").out)

    def test_a_file_that_cannot_be_run_fails_and_the_others_run(self):
        self.write("a_test.lua", "it('broken', function(")
        self.write("b_test.lua", "it('sound', function() end)")
        done = self.run_program("test")
        self.assertEqual(done.status, 1, done)
        self.assertIn("a_test.lua:1:", done.out)
        self.assertIn("1 passed, 1 failed", done.out)


class Failures(ProgramTest):
    def test_a_failure_shows_values_place_and_way(self):
        self.write("bad_test.lua", FAILING)
        done = self.run_program("test", "--seed", "5")
        self.assertEqual(done.status, 1, done)
        for line in (
            "FAIL a group compares", '.name: expected "ana", got "bob"', ".rooms[2]: expected 2, got nil", "bad_test.lua:7:",
            "FAIL a group raises", "bad_test.lua:9: from deep inside", "from bad_test.lua:10: in", "--seed 5",
            "1 passed, 2 failed, 1 pending",
        ):
            self.assertIn(line, done.out, done)
        self.assertNotIn("[p2pd.test]", done.out)
        self.assertNotIn("\x1b", done.out)

    def test_verbose_names_every_test(self):
        self.write("bad_test.lua", FAILING)
        done = self.run_program("test", "--verbose")
        self.assertRegex(done.out, r"(?m)^  a group$")
        self.assertRegex(done.out, r"(?m)^    ok   passes")
        self.assertRegex(done.out, r"(?m)^    pending is not written yet")

    def test_json_has_a_line_for_each(self):
        self.write("bad_test.lua", FAILING)
        done = self.run_program("test", "--json")
        lines = [json.loads(line) for line in done.out.splitlines()]
        self.assertEqual([line.get("outcome") for line in lines], ["passed", "failed", "failed", "pending", None])
        self.assertEqual(lines[-1]["failed"], 2)

    def test_an_error_in_a_handler_fails_the_test(self):
        self.write("bad.lua", "local M = {}\nfunction M.msg_cb(msg) error('no ' .. msg) end\nreturn M\n")
        self.write("bad_test.lua", """
            local lab = require "p2pd.test"
            it("asks", function()
              local pipe = lab.dial(lab.node("bad.lua"))
              pipe:send("thing")
              pipe:recv(1)
            end)
            it("expects it", function()
              local pipe = lab.dial(lab.node("bad.lua"))
              pipe:send("thing")
              pipe:recv(1)
              assert.contains("no thing", lab.errors()[1].message)
            end)""")
        done = self.run_program("test")
        self.assertEqual(done.status, 1, done)
        self.assertIn("bad.lua:2: no thing", done.out)
        self.assertIn("1 passed, 1 failed", done.out)

    def test_a_node_that_cannot_be_loaded_names_file_and_line(self):
        self.write("bad.lua", "local M = {\nreturn M\n")
        self.write("bad_test.lua", """local lab = require "p2pd.test"
            it("loads", function() lab.node("bad.lua") end)""")
        done = self.run_program("test")
        self.assertEqual(done.status, 1, done)
        self.assertIn("bad.lua:2:", done.out)

    def test_what_is_left_behind_is_told_and_counts_with_strict(self):
        self.write("leaky_test.lua", """
            local p2pd = require "p2pd"
            it("leaves things", function()
              p2pd.spawn(function() p2pd.sleep(math.huge) end)
              p2pd.every(1, function() end)
              assert(p2pd.pipe_open(p2pd.UDP))
            end)
            it("leaves nothing", function() p2pd.sleep(5) end)""")
        done = self.run_program("test")
        self.assertEqual(done.status, 0, done)
        for words in ("1 task(s)", "1 timer(s)", "a pipe of the test is still open", "1 left something behind"):
            self.assertIn(words, done.out, done)
        self.assertIn("1 passed, 1 failed", self.run_program("test", "--strict").out)


class Runaways(ProgramTest):
    def test_a_wait_without_end_costs_no_time(self):
        self.write("slow_test.lua", """
            local p2pd = require "p2pd"
            it("waits", function() p2pd.sleep(math.huge) end)
            it("comes after it", function() end)""")
        began = time.monotonic()
        done = self.run_program("test")
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(done.status, 1, done)
        self.assertIn("did not end", done.out)
        self.assertIn("slow_test.lua:3:", done.out)
        self.assertIn("1 passed, 1 failed", done.out)

    def test_a_loop_without_end_is_stopped_and_named(self):
        self.write("loop_test.lua", """
            it("spins", function() while true do end end)
            it("comes after it", function() end)""")
        done = self.run_program("test")
        self.assertEqual(done.status, 1, done)
        self.assertIn("FAIL spins", done.out)
        self.assertIn("loop_test.lua:2:", done.out)
        self.assertIn("1 passed, 1 failed", done.out)

    def test_a_loop_in_no_time_is_stopped_by_the_clock_on_the_wall(self):
        self.write("loop_test.lua", """
            local p2pd = require "p2pd"
            it("turns", function() while true do p2pd.sleep(0) end end)
            it("comes after it", function() end)""")
        done = self.run_program("test", "--real-timeout", "1")
        self.assertEqual(done.status, 1, done)
        self.assertIn("FAIL turns", done.out)
        self.assertIn("1 passed, 1 failed", done.out)

    def test_a_blocking_call_ends_the_program_with_the_test_named(self):
        self.write("block_test.lua", """
            it("blocks", function() os.execute("exec sleep 60 >/dev/null 2>&1") end)""")
        done = self.run_program("test", "--real-timeout", "0.5", timeout=30)
        self.assertEqual(done.status, 1, done)
        self.assertIn("FAIL blocks", done.out)


class Luck(ProgramTest):
    def test_the_same_seed_gives_the_same_trace(self):
        self.write("echo.lua", ECHO)
        self.write("luck_test.lua", """
            local lab = require "p2pd.test"
            it("has luck", function()
              local server, client = lab.node("echo.lua"), lab.node { name = "client" }
              lab.latency(server, client, 0.05, 0.02)
              lab.loss(server, client, 0.2)
              local pipe = assert(client:connect(server))
              for i = 1, 20 do pipe:send("message " .. i) end
              for i = 1, 20 do assert.equal("message " .. i, pipe:recv(100)) end
              print(("%.9f %d"):format(lab.now(), math.random(1 << 40)))
            end)""")
        runs = [self.run_program("test", "--trace", "--seed", seed) for seed in ("7", "7", "8")]
        for run in runs:
            self.assertEqual(run.status, 0, run)
        traces = [re.sub(r"\d+ ms;|\d+\.\d s;", "", run.out) for run in runs]
        self.assertIn("connects", traces[0])
        self.assertEqual(traces[0], traces[1])
        self.assertNotEqual(traces[0], traces[2])


class Reloads(ProgramTest):
    def test_a_handler_that_keeps_things_to_itself_fails_with_a_reload_before_every_message(self):
        self.write("forgetful.lua", """
            local M, count = {}, 0
            function M.msg_cb(_, _, pipe)
              count = count + 1
              pipe:send(tostring(count))
            end
            return M""")
        self.write("careful.lua", """
            local p2pd = require "p2pd"
            local M = {}
            function M.msg_cb(_, _, pipe)
              p2pd.state.count = (p2pd.state.count or 0) + 1
              pipe:send(tostring(p2pd.state.count))
            end
            return M""")
        self.write("count_test.lua", """
            local lab = require "p2pd.test"
            for _, name in ipairs { "forgetful", "careful" } do
              it(name .. " counts", function()
                local pipe = lab.dial(lab.node(name .. ".lua"))
                for i = 1, 5 do
                  pipe:send("?")
                  assert.equal(tostring(i), pipe:recv(5))
                end
              end)
            end""")
        self.assertIn("2 passed, 0 failed", self.run_program("test").out)
        done = self.run_program("test", "--reload-every-message")
        self.assertEqual(done.status, 1, done)
        self.assertIn("FAIL forgetful counts", done.out)
        self.assertIn("1 passed, 1 failed", done.out)
