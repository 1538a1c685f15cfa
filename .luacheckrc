-- Made from the table in Sources/P2PDScript/API; edit that.
std = "lua54"
max_line_length = 120
unused_args = false
-- Read-only names of the module for editors that do not follow `require`.
stds.p2pd = {
  read_globals = {
    p2pd = {
      fields = {
        DIRECT = {},
        IP4 = {},
        IP6 = {},
        PUNCH = {},
        RELAY = {},
        REVERSE = {},
        TCP = {},
        UDP = {},
        after = {},
        daemon = {},
        error = {},
        every = {},
        gather = {},
        generation = {},
        interface = {},
        join = {},
        json = { fields = { encode = {}, decode = {}, null = {}, empty_array = {} } },
        list_interfaces = {},
        log = { fields = { debug = {}, info = {}, warn = {}, error = {} } },
        names = { fields = { lookup = {}, delete = {} } },
        node = {},
        now = {},
        ntp = {},
        pipe_open = {},
        pipes = {},
        queue = {},
        reload = {},
        resolve = {},
        sleep = {},
        spawn = {},
        state = { read_only = false, other_fields = true },
        stun_client = {},
        turn_client = {},
        watch = {},
        with_timeout = {},
      },
    },
  },
}
files["scripts/types/"] = { ignore = { "111", "112", "113", "121", "122", "131", "211", "212", "221", "241", "311", "331", "431", "532", "631" } }
files["**/*_test.lua"] = { std = "+busted" }
files["**/*_spec.lua"] = { std = "+busted" }
