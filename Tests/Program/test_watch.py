"""`run` while its scripts are edited: saved in every way, broken, swapped, moved away, added and removed."""

import os
import re
import shutil
import signal
import subprocess
import time

from program import (
    BINARY, PATIENCE, Left, ProgramTest, Terminal, end, left, read_line, read_until, wait_for_signal_handler)


def says(word, more=""):
    """A handler that answers each message with `word` before it."""
    return f"""
local M = {{}}
{more}
function M.msg_cb(msg, client_tup, pipe) pipe:send("{word} " .. msg, client_tup) end
return M
"""


class Talk:
    """A connection to a node that stays open."""

    def __init__(self, test, address, *options):
        self.test = test
        self.process = test.start_program("connect", *options, address)
        self.count = 0

    def ask(self):
        """The word the handler answers with now."""
        self.count += 1
        self.process.stdin.write(f"{self.count}\n".encode())
        self.process.stdin.flush()
        line = read_line(self.process.stdout)
        self.test.assertTrue(line.endswith(f" {self.count}\n"), (line, Left(self.process)))
        return line.split(" ")[0]

    def until(self, word, *before):
        """Asks until the answer is `word`; up to then it is one of `before`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.ask()
            if answer == word:
                return
            if before:
                self.test.assertIn(answer, before)
            if time.monotonic() > deadline:
                raise AssertionError(f"it still answers {answer}, not {word}")
            time.sleep(0.01)  # asks without pause would only keep the machine busy


class Watch(ProgramTest):
    def host(self, text=None, *options, name="probe.lua"):
        process, address = self.start_node(*options, self.write(name, text or says("v1")))
        read_until(process.stderr, "Control-C")
        return process, address

    def save_over(self, name, text):
        """Written beside and renamed over, as most editors do."""
        os.rename(self.write(name + ".tmp", text), os.path.join(self.folder, name))

    def serving(self, log):
        """The protocols of which a new generation came to serve, in the order of the log."""
        return re.findall(r"(\w+): generation \d+ serves\b(?! on)", log)

    def test_each_way_of_saving_changes_the_answer_on_the_same_connection(self):
        process, address = self.host()
        talk, path = Talk(self, address), os.path.join(self.folder, "probe.lua")
        self.assertEqual(talk.ask(), "v1")

        def in_place(text):
            self.write("probe.lua", text)

        def renamed(text):
            self.save_over("probe.lua", text)

        def vim(text):
            os.rename(path, path + "~")
            self.write("probe.lua", text)
            os.unlink(path + "~")

        def git(text):
            os.unlink(path)
            self.write("probe.lua", text)

        def link(text):
            self.write("target.lua", text)
            os.symlink("target.lua", path + ".new")
            os.rename(path + ".new", path)

        def behind_the_link(text):
            self.save_over("target.lua", text)

        before = "v1"
        for number, save in enumerate([in_place, renamed, vim, git, link, behind_the_link], 2):
            with self.subTest(save.__name__):
                save(says(f"v{number}"))
                talk.until(f"v{number}", before)
                before = f"v{number}"
        self.assertEqual(len(self.serving(left(process))), 6)

    def test_a_broken_save_keeps_the_old_and_is_told_with_its_line(self):
        process, address = self.host()
        talk = Talk(self, address)
        self.assertEqual(talk.ask(), "v1")
        self.write("probe.lua", "local M = {}\nfunction M.msg_cb( end\nreturn M\n")
        log = read_until(process.stderr, "probe.lua:2:")
        self.assertIn("not reloaded, generation 1 serves on", log)
        self.assertEqual(talk.ask(), "v1")
        self.write("probe.lua", says("v2"))
        talk.until("v2", "v1")

    def test_a_module_that_broke_the_script_is_enough_to_mend_it(self):
        self.write("part.lua", "return { word = }")
        process, address = self.host()
        talk = Talk(self, address)
        self.write("probe.lua", 'local part = require "part"\n' + says("x").replace('"x "', 'part.word .. " "'))
        read_until(process.stderr, "part.lua:1:")
        self.assertEqual(talk.ask(), "v1")
        self.write("part.lua", 'return { word = "v2" }')
        talk.until("v2", "v1")

    def test_a_module_that_was_missing_appears(self):
        process, address = self.host()
        talk = Talk(self, address)
        self.write("probe.lua", 'local part = require "sub.part"\n' + says("x").replace('"x "', 'part.word .. " "'))
        read_until(process.stderr, "sub.part")
        self.assertEqual(talk.ask(), "v1")
        os.mkdir(os.path.join(self.folder, "sub"))
        self.write("sub/part.lua", 'return { word = "v2" }')
        talk.until("v2", "v1")

    def test_a_module_that_is_required_late(self):
        self.write("late.lua", 'return "v1"')
        text = says("x").replace('"x "', 'require("late") .. " "')
        process, address = self.host(text)
        talk = Talk(self, address)
        self.assertEqual(talk.ask(), "v1")
        self.save_over("late.lua", 'return "v2"')
        talk.until("v2", "v1")

    def test_without_inotify_the_files_are_polled_and_the_setting_is_named(self):
        # In a user namespace of its own that may have no inotify instance.
        enter = "echo 0 > /proc/sys/user/max_inotify_instances"
        if subprocess.run(["unshare", "-Ur", "sh", "-c", enter], capture_output=True, check=False).returncode != 0:
            self.skipTest("user namespaces are not allowed here")
        script = self.write("probe.lua", says("v1"))
        process = subprocess.Popen(
            ["unshare", "-Ur", "sh", "-c", enter + '; exec "$@"', "sh", BINARY, "run", "--ephemeral", "--listen", "127.0.0.1",
             "--port", "0", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder, env=self.environment())
        self.addCleanup(end, process)
        address = read_line(process.stdout).strip()
        self.assertTrue(address.startswith("p2pd1"), Left(process))
        read_until(process.stderr, "sysctl fs.inotify.max_user_instances=")
        talk = Talk(self, address)
        self.assertEqual(talk.ask(), "v1")
        self.save_over("probe.lua", says("v2"))
        talk.until("v2", "v1")
        self.write("probe.lua", says("v3"))
        talk.until("v3", "v2")

    def test_hangup_reloads_all_and_ends_nothing(self):
        first, second = self.write("a.lua", says("a1")), self.write("b.lua", says("b1"))
        process, address = self.start_node("--no-watch", first, second)
        read_until(process.stderr, "Control-C")
        one, other = Talk(self, address), Talk(self, address, "--protocol", "b")
        self.assertEqual((one.ask(), other.ask()), ("a1", "b1"))
        self.write("a.lua", says("a2"))
        self.write("b.lua", says("b2"))
        self.assertEqual((one.ask(), other.ask()), ("a1", "b1"))
        names = []
        for thread in os.listdir(f"/proc/{process.pid}/task"):
            with open(f"/proc/{process.pid}/task/{thread}/comm", encoding="ascii") as file:
                names.append(file.read().strip())
        self.assertNotIn("p2pd-watch", names)
        wait_for_signal_handler(process, signal.SIGHUP)
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
        one.until("a2", "a1")
        other.until("b2", "b1")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(sorted(self.serving(left(process))), ["a", "b"], "content that is the same is no reload")

    def test_a_terminal_that_is_closed_ends_the_node(self):
        terminal = Terminal(
            self, "run", "--ephemeral", "--listen", "127.0.0.1", "--port", "0", self.write("probe.lua", says("v1")))
        terminal.expect("Control-C")
        os.close(terminal.file)
        deadline = time.monotonic() + PATIENCE
        done = 0
        while not done and time.monotonic() < deadline:
            done, status = os.waitpid(terminal.process_id, os.WNOHANG)
            time.sleep(0.01)
        terminal.file = os.open("/dev/null", os.O_RDONLY)
        self.assertTrue(done, "it goes on without its terminal")
        terminal.status = status

    def test_a_shared_module_reloads_each_protocol_that_uses_it_once(self):
        self.write("shared.lua", 'return "v1"')
        text = 'local word = require "shared"\n' + says("x").replace('"x "', 'word .. " "')
        paths = [self.write("a.lua", text), self.write("b.lua", text), self.write("c.lua", says("other"))]
        process, address = self.start_node(*paths)
        read_until(process.stderr, "Control-C")
        one, other = Talk(self, address), Talk(self, address, "--protocol", "b")
        self.assertEqual((one.ask(), other.ask()), ("v1", "v1"))
        self.save_over("shared.lua", 'return "v2"')
        one.until("v2", "v1")
        other.until("v2", "v1")
        # One more, so that whatever the first save led to is over.
        self.save_over("shared.lua", 'return "v3"')
        one.until("v3", "v2")
        other.until("v3", "v2")
        self.assertEqual(sorted(self.serving(left(process))), ["a", "a", "b", "b"])

    def test_a_data_file_the_script_watches(self):
        self.write("word.txt", "v1")
        text = """
local p2pd = require "p2pd"
local file = assert(io.open(p2pd.watch("word.txt")))
local word = file:read("a")
file:close()
""" + says("x").replace('"x "', 'word .. " "')
        process, address = self.host(text)
        talk = Talk(self, address)
        self.assertEqual(talk.ask(), "v1")
        self.save_over("word.txt", "v2")
        talk.until("v2", "v1")
        self.write("word.txt", "v2")
        os.utime(os.path.join(self.folder, "word.txt"))
        self.save_over("word.txt", "v3")
        talk.until("v3", "v2")
        self.assertEqual(len(self.serving(left(process))), 2)

    def test_files_come_into_and_go_from_a_hosted_folder(self):
        os.mkdir(os.path.join(self.folder, "many"))
        self.write("many/a.lua", says("a1"))
        self.write("many/b.lua", says("b1"))
        process, address = self.start_node(os.path.join(self.folder, "many"))
        read_until(process.stderr, "Control-C")
        talk = Talk(self, address)
        self.assertEqual(talk.ask(), "a1")
        self.write("many/c.lua", says("c1"))
        read_until(process.stderr, "c: generation")
        added = Talk(self, address, "--protocol", "c")
        self.assertEqual(added.ask(), "c1")
        self.save_over("many/c.lua", says("c2"))
        added.until("c2", "c1")
        other = Talk(self, address, "--protocol", "b")
        self.assertEqual(other.ask(), "b1")
        os.unlink(os.path.join(self.folder, "many/b.lua"))
        read_until(process.stderr, "b: not hosted any more")
        other.process.wait(PATIENCE)
        self.assertIn("the protocol 'b' is not hosted any more", left(other.process))
        done = self.run_program("connect", "--protocol", "b", address, stdin="x")
        self.assertEqual(done.status, 1, done)
        self.assertEqual((talk.ask(), added.ask()), ("a1", "c2"), "the others go on")
        # One that cannot be loaded is told, and loaded once it can.
        self.write("many/d.lua", "return {")
        read_until(process.stderr, "d.lua:1:")
        self.write("many/d.lua", says("d1"))
        read_until(process.stderr, "d: generation")
        self.assertEqual(Talk(self, address, "--protocol", "d").ask(), "d1")

    def test_a_hundred_saves_in_a_second(self):
        process, address = self.host()
        talk = Talk(self, address)
        self.assertEqual(talk.ask(), "v1")
        began = time.monotonic()
        stalls, last = 0, began
        for number in range(2, 102):
            self.save_over("probe.lua", says(f"v{number}"))
            time.sleep(max(0, began + (number - 1) * 0.01 - time.monotonic()))  # the pace of the saves
            stalls += time.monotonic() - last > 0.08
            last = time.monotonic()
        seconds = int(last - began)
        talk.until("v101")
        served = len(self.serving(left(process)))
        self.assertLessEqual(served, 2 + seconds + stalls, "a burst is one reload, or one a second")
        self.assertGreaterEqual(served, 1)

    def test_a_folder_is_moved_away_and_back(self):
        os.mkdir(os.path.join(self.folder, "app"))
        self.write("app/probe.lua", says("v1"))
        process, address = self.start_node(os.path.join(self.folder, "app"))
        read_until(process.stderr, "Control-C")
        talk, app = Talk(self, address), os.path.join(self.folder, "app")
        self.assertEqual(talk.ask(), "v1")
        os.rename(app, app + ".away")
        read_until(process.stderr, "probe.lua")
        self.assertEqual(talk.ask(), "v1", "what is gone cannot replace what serves")
        os.rename(app + ".away", app)
        self.write("app/probe.lua", says("v2"))
        talk.until("v2", "v1")
        # A release: another folder in its place.
        os.mkdir(app + ".new")
        self.write("app.new/probe.lua", says("v3"))
        os.rename(app, app + ".old")
        os.rename(app + ".new", app)
        talk.until("v3", "v2")
        shutil.rmtree(app)
        os.mkdir(app)
        self.write("app/probe.lua", says("v4"))
        talk.until("v4", "v3")

    def test_options(self):
        for options in [["--reload-deadline", "-1"], ["--reload-deadline", "soon"]]:
            done = self.run_program("run", *options, self.write("probe.lua", says("v1")))
            self.assertEqual(done.status, 2, done)
            self.assertIn("reload-deadline", done.err)
        done = self.run_program("run", "--help")
        for option in ["--no-watch", "--no-auto-rollback", "--reload-deadline"]:
            self.assertIn(option, done.out)
