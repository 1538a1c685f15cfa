"""Help, usage errors, and the commands that need no peer."""

import json
import os
import shutil
import subprocess
import unittest

from program import BINARY, ROOT, ProgramTest

COMMANDS = ["run", "exec", "connect", "check", "new", "id", "addr", "addr explain", "addr show", "ifs", "netcheck", "version", "api"]


class Help(ProgramTest):
    def test_help_everywhere(self):
        for command in ["", *COMMANDS]:
            with self.subTest(command):
                done = self.run_program(*command.split(), "--help")
                self.assertEqual(done.status, 0, done)
                self.assertIn("USAGE", done.out)
                self.assertEqual(done.err, "")
                # Wrapped lines of an example cannot be copied.
                self.assertLessEqual(max(map(len, done.out.splitlines())), 80)

    def test_examples_in_every_help_that_people_read(self):
        for command in ["", "run", "exec", "connect", "check", "new", "id", "addr", "addr explain", "ifs", "netcheck"]:
            with self.subTest(command):
                self.assertIn("EXAMPLE", self.run_program(*command.split(), "--help").out)

    def test_usage_errors_have_status_2_and_go_to_standard_error(self):
        wrong = [
            ["bogus"], ["run"], ["run", "--bogus", "x.lua"], ["run", "--port", "70000", "x.lua"], ["connect"],
            ["connect", "no where"], ["connect", "--timeout", "-1", "a:1"], ["connect", "--udp", "--tls", "a:1"],
            ["connect", "--udp", "p2pd1abc"], ["connect", "--protocol", "x", "a:1"], ["exec"], ["exec", "--bogus", "x.lua"],
            ["run", "--memory", "0", "x.lua"], ["run", "--time-limit", "0", "x.lua"], ["run", "--listen", "nowhere", "x.lua"],
            ["run", "--max-pipes", "0", "x.lua"], ["run", "--log-level", "loud", "x.lua"], ["new", "2bad"], ["new", ""],
            ["run", "--ephemeral", "--state-dir", "x", "x.lua"], ["connect", "--framing", "message", "a:1"],
        ]
        for args in wrong:
            with self.subTest(args):
                done = self.run_program(*args)
                self.assertEqual(done.status, 2, done)
                self.assertEqual(done.out, "")
                self.assertIn("Usage", done.err)

    def test_a_wrong_variable_is_named(self):
        for name, value in [("P2PD_PORT", "x"), ("P2PD_LOG_LEVEL", "loud"), ("P2PD_MEMORY", "-1"), ("P2PD_SANDBOX", "perhaps")]:
            with self.subTest(name):
                done = self.run_program("run", "x.lua", env={name: value})
                self.assertEqual(done.status, 2, done)

    def test_version(self):
        first = self.run_program("version")
        self.assertRegex(first.out, r"^p2pd-lua \d+\.\d+\.\d+\n$")
        self.assertEqual(self.run_program("--version").out, first.out)

    def test_completions_are_valid_scripts(self):
        for shell in ["bash", "zsh", "fish"]:
            with self.subTest(shell):
                done = self.run_program("--generate-completion-script", shell)
                self.assertEqual(done.status, 0, done)
                self.assertIn("connect", done.out)
                if shutil.which(shell):
                    subprocess.run([shell, "-n"], input=done.bytes, check=True)


class New(ProgramTest):
    def test_writes_a_handler_and_its_test_and_overwrites_nothing(self):
        done = self.run_program("new", "guess")
        self.assertEqual(done.status, 0, done)
        with open(os.path.join(self.folder, "guess.lua"), encoding="utf-8") as file:
            self.assertIn("function M.msg_cb", file.read())
        os.remove(os.path.join(self.folder, "guess.lua"))
        again = self.run_program("new", "guess")
        self.assertEqual(again.status, 1, again)
        self.assertIn("guess_test.lua is there already", again.err)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "guess.lua")))

    def test_folders(self):
        os.mkdir(os.path.join(self.folder, "games"))
        self.assertEqual(self.run_program("new", "games/dice.lua").status, 0)
        self.assertTrue(os.path.exists(os.path.join(self.folder, "games/dice_test.lua")))
        missing = self.run_program("new", "nowhere/dice")
        self.assertEqual(missing.status, 1, missing)
        self.assertIn("there is no folder nowhere", missing.err)

    def test_what_it_writes_passes_its_test_and_the_check(self):
        self.run_program("new", "guess")
        tested = self.run_program("test", "--strict", timeout=60)
        self.assertEqual(tested.status, 0, tested)
        self.assertIn("3 passed, 0 failed", tested.out)
        checked = self.run_program("check", "--strict", "guess.lua", "guess_test.lua")
        self.assertEqual(checked.status, 0, checked)

    def test_a_failing_test_has_status_1(self):
        self.run_program("new", "guess")
        path = os.path.join(self.folder, "guess.lua")
        with open(path, encoding="utf-8") as file:
            text = file.read().replace("count + 1", "count + 2")
        self.write("guess.lua", text)
        done = self.run_program("test", "guess_test.lua", timeout=60)
        self.assertEqual(done.status, 1, done)
        self.assertIn("0 passed, 3 failed", done.out)


class Identity(ProgramTest):
    def test_the_id_stays_and_its_file_is_for_its_owner(self):
        first = self.run_program("id")
        self.assertEqual(first.status, 0, first)
        self.assertEqual(self.run_program("id").out, first.out)
        folder = os.path.join(self.folder, ".local/state/p2pd-lua")
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)
        modes = {name: os.stat(os.path.join(folder, name)).st_mode & 0o077 for name in os.listdir(folder)}
        self.assertEqual(set(modes.values()), {0}, modes)
        self.assertNotEqual(self.run_program("id", "--ephemeral").out, first.out)
        elsewhere = self.run_program("id", "--state-dir", "elsewhere")
        self.assertNotEqual(elsewhere.out, first.out)
        self.assertEqual(self.run_program("id", env={"P2PD_STATE_DIR": "elsewhere"}).out, elsewhere.out)

    def test_an_unusable_folder_is_named(self):
        self.write("file", "")
        done = self.run_program("id", "--state-dir", "file/below")
        self.assertEqual(done.status, 1, done)
        self.assertIn("file", done.err)

    def test_the_address_is_explained_and_bad_ones_are_refused(self):
        address = self.run_program("addr", "--listen", "127.0.0.1").out.strip()
        self.assertTrue(address.startswith("p2pd1"), address)
        done = self.run_program("addr", "explain", address)
        self.assertEqual(done.status, 0, done)
        self.assertIn(self.run_program("id").out.strip(), done.out)
        altered = address[:20] + ("y" if address[20] == "x" else "x") + address[21:]
        for bad in ["", "p2pd1", "p2pd9" + address[5:], address[:-1], altered, "hello", "p2pd1" + "a" * 5000]:
            with self.subTest(bad[:40]):
                refused = self.run_program("addr", "explain", bad)
                self.assertEqual(refused.status, 1, refused)
                self.assertTrue(refused.err.startswith("p2pd-lua: "), refused)


class Interfaces(ProgramTest):
    def test_lists_the_loopback(self):
        done = self.run_program("ifs")
        self.assertEqual(done.status, 0, done)
        self.assertRegex(done.out, r"(?m)^\d+ lo: ")
        nics = json.loads(self.run_program("ifs", "--json").out)
        loopback = next(nic for nic in nics if nic["name"] == "lo")
        self.assertTrue(loopback["loopback"])
        self.assertIn("127.0.0.1", [address["ip"] for address in loopback["addresses"]])


class Check(ProgramTest):
    def check(self, text, *options):
        return self.run_program("check", *options, self.write("probe.lua", text))

    def test_a_good_handler(self):
        done = self.check("local M = {}\nfunction M.msg_cb(msg, client_tup, pipe) pipe:send(msg) end\nreturn M\n")
        self.assertEqual(done.status, 0, done)

    def test_a_syntax_error_has_file_and_line(self):
        done = self.check("local M = {}\nfunction M.msg_cb( return M\n")
        self.assertEqual(done.status, 1, done)
        self.assertIn("probe.lua:2:", done.out)

    def test_a_misspelt_callback_and_one_of_the_wrong_type(self):
        self.assertEqual(self.check("return { msg_cbb = function() end }").status, 1)
        self.assertEqual(self.check("return { msg_cb = 1 }").status, 1)

    def test_unknown_names_are_warnings(self):
        text = 'local p2pd = require "p2pd"\nlocal M = {}\nfunction M.msg_cb(m, t, pipe)\n  p2pd.conect()\n  pipe:sendd(m)\nend\nreturn M\n'
        done = self.check(text)
        self.assertEqual(done.status, 0, done)
        self.assertIn("probe.lua:4:", done.out)
        self.assertIn("probe.lua:5:", done.out)
        self.assertEqual(self.check(text, "--strict").status, 1)

    def test_missing_files_are_told(self):
        done = self.run_program("check", "nowhere.lua")
        self.assertEqual(done.status, 1, done)
        self.assertIn("there is no file nowhere.lua", done.err)


class Api(ProgramTest):
    def test_writes_and_compares(self):
        listed = self.run_program("api").out.split()
        self.assertIn("scripts/types/p2pd.lua", listed)
        self.assertEqual(self.run_program("api", "--write", self.folder).status, 0)
        self.assertEqual(self.run_program("api", "--diff", self.folder).status, 0)
        with open(os.path.join(self.folder, listed[0]), "a", encoding="utf-8") as file:
            file.write("more\n")
        stale = self.run_program("api", "--diff", self.folder)
        self.assertEqual(stale.status, 1, stale)
        self.assertIn(listed[0], stale.out)


if __name__ == "__main__":
    unittest.main()
