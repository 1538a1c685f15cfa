---@meta p2pd.test
-- Made from the table in Sources/P2PDScript/API; edit that.

---@class p2pd.testlib
local lab = {}

--- Starts a node on a host of its own. A path is run as `p2pd-lua run` does, in a VM of its own; the callbacks of a table run in the test's. What cannot be loaded raises.
---@async
---@param what? (string|p2pd.handler) a handler's path, told from the test's folder, or its table
---@param options? p2pd.test.node_options its host's name, its port
---@return p2pd.node node # the running node
function lab.node(what, options) end

--- Opens a pipe to a node, from a node that all calls of a test share. Failing raises.
---@async
---@param node p2pd.node made by `lab.node`
---@param options? p2pd.connect_options protocol, callbacks, deadline
---@return p2pd.pipe pipe # an open pipe to the node
function lab.dial(node, options) end

--- How long packets take between two nodes; with numbers alone, between all.
---@param a? p2pd.node one end
---@param b? p2pd.node the other end
---@param seconds number one way
---@param jitter? number up to so much more
function lab.latency(a, b, seconds, jitter) end

--- How many packets are lost. A lost datagram never comes; on a stream it comes later.
---@param a? p2pd.node one end
---@param b? p2pd.node the other end
---@param part number 0 to 1
function lab.loss(a, b, part) end

--- How many bytes get through.
---@param a? p2pd.node one end
---@param b? p2pd.node the other end
---@param bytes number a second, each way; 0: any number
function lab.bandwidth(a, b, bytes) end

--- Nothing gets through any more, and nobody is told: between two nodes, between one and all others, or between all.
---@param a? p2pd.node one end
---@param b? p2pd.node the other end
function lab.partition(a, b) end

--- Takes `partition` and `vanish` back; streams go on where they were.
---@param a? p2pd.node one end
---@param b? p2pd.node the other end
function lab.heal(a, b) end

--- The node's host is gone without a word: nothing from it arrives any more. Peers find out by their timeouts.
---@param node p2pd.node made by `lab.node`
function lab.vanish(node) end

--- Ends a node as a signal ends `p2pd-lua run`: its script's `stop` runs, its pipes are flushed and closed.
---@async
---@param node p2pd.node made by `lab.node`
function lab.stop(node) end

--- Reloads the handler of a node, as saving its file does. With a source the handler must be one of `lab.write`.
---@async
---@param node p2pd.node made by `lab.node`
---@param source? string written into the handler's file first
---@return {result: string, error?: string, from?: integer, to?: integer, pipes: integer, in_flight: integer} report # `result` is `active`, `unchanged` or `rejected`
function lab.reload(node, source) end

--- Cuts the streams between nodes: both ends hear of a reset.
---@param a? p2pd.node one end
---@param b? p2pd.node the other end
function lab.reset(a, b) end

--- The test's clock.
---@return number seconds # since the test began, on its own clock
function lab.now() end

--- The same as `p2pd.sleep`.
---@async
---@param seconds number on the test's clock
function lab.sleep(seconds) end

--- Waits for an effect that no message announces; in vain, it raises.
---@async
---@param what string for the failure
---@param condition (fun(): any) asked every 5 ms
---@param seconds? number how long
function lab.wait_until(what, condition, seconds) end

--- Writes a file into a folder that goes with the test. A small handler of a test's own, for instance.
---@param name string inside the test's folder
---@param text string what is in it
---@return string path # for `lab.node`
function lab.write(name, text) end

--- Reads a file of the test's folder.
---@param name string inside the test's folder
---@return string? text # nil: there is no such file
function lab.read(name) end

--- The errors so far in callbacks, timers and tasks of all nodes. Taken, they do not fail the test.
---@return {node: string, place: string, message: string}[] errors # a new table
function lab.errors() end

--- What nodes and scripts logged so far.
---@return string[] lines # a new table
function lab.log() end

--- How many pipes the handlers of a node have open.
---@param node p2pd.node made by `lab.node`
---@return integer count # open pipes
function lab.pipes(node) end

--- `p2pd.state` of the handler file that a node hosts.
---@param node p2pd.node made by `lab.node`
---@return table state # a copy, plain data
function lab.state(node) end

--- The seed of this run: the network's luck and `math.random` come from it.
---@type integer
lab.seed = nil

--- A group of tests; groups may be nested. `context` is the same.
---@param name string of what
---@param body (fun()) describes it
function describe(name, body) end

--- The same as `describe`.
---@param name string of what
---@param body (fun()) describes it
function context(name, body) end

--- One test. It fails when it raises, when a callback or task of anything it made raises, and when its time is up.
---@param name string what it does
---@param body? (fun()) the test; without one it is pending
function it(name, body) end

--- The same as `it`.
---@param name string what it does
---@param body? (fun()) the test
function test(name, body) end

--- The same as `it`.
---@param name string what it does
---@param body? (fun()) the test
function spec(name, body) end

--- Outside of a test: one that is not run yet. Inside: ends this one as such.
---@param reason string or the name
---@param body? (fun()) is not run
function pending(reason, body) end

--- Runs before each test of the group and of groups in it.
---@param f (fun()) called before
function before_each(f) end

--- Runs after each test, however it ended.
---@param f (fun()) called after
function after_each(f) end

--- Runs once, before the group's first test.
---@param f (fun()) called once
function setup(f) end

--- Runs once, after the group's last test.
---@param f (fun()) called once
function teardown(f) end

--- In a test: runs when it is over, however it ended.
---@param f (fun()) called at the end
function finally(f) end

---@class p2pd.assert
---@field [string] any the same with `is`, `has`, `not` and the like in front: `is_not`, `are`, `has_no`
---@overload fun(value: any, message?: any, ...): any
assert = {}

--- `==`.
---@param expected any what should be
---@param actual any what there is
---@param message? string shown when it fails
function assert.equal(expected, actual, message) end

--- `==`.
---@param expected any what should be
---@param actual any what there is
---@param message? string shown when it fails
function assert.equals(expected, actual, message) end

--- Equal in depth: tables by what is in them. A failure lists the differences.
---@param expected any what should be
---@param actual any what there is
---@param message? string shown when it fails
function assert.same(expected, actual, message) end

--- A number close to another.
---@param expected number what should be
---@param actual any what there is
---@param tolerance number how far it may be
---@param message? string shown when it fails
function assert.near(expected, actual, tolerance, message) end

--- A text the pattern is found in.
---@param pattern string a Lua pattern
---@param actual any what there is
---@param message? string shown when it fails
function assert.matches(pattern, actual, message) end

--- A text that has the part in it.
---@param part string plain text
---@param actual any what there is
---@param message? string shown when it fails
function assert.contains(part, actual, message) end

--- The function raises; gives the error.
---@param f (fun()) is called
---@param expected? any the error, its position apart
---@param message? string shown when it fails
function assert.has_error(f, expected, message) end

--- The function raises an error whose text matches; gives the error.
---@param f (fun()) is called
---@param pattern string a Lua pattern
---@param message? string shown when it fails
function assert.error_matches(f, pattern, message) end

--- Anything but nil and false.
---@param actual any what there is
---@param message? string shown when it fails
function assert.truthy(actual, message) end

--- nil or false.
---@param actual any what there is
---@param message? string shown when it fails
function assert.falsy(actual, message) end

--- The value is `true`.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_true(actual, message) end

--- The value is `false`.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_false(actual, message) end

--- The value is `nil`.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_nil(actual, message) end

--- The value is not `nil`.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_not_nil(actual, message) end

--- The value is a string.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_string(actual, message) end

--- The value is a number.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_number(actual, message) end

--- The value is a table.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_table(actual, message) end

--- The value is a boolean.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_boolean(actual, message) end

--- The value is a function.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_function(actual, message) end

--- The value is a userdata.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_userdata(actual, message) end

--- The value is a thread.
---@param actual any what there is
---@param message? string shown when it fails
function assert.is_thread(actual, message) end

return lab
