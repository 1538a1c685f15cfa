"""The checks of scripts/dev, and the two commands: each must be able to fail."""

import os
import shutil
import subprocess
import time
import unittest

from program import PATIENCE, ROOT, ProgramTest


class Layers(ProgramTest):
    def check(self, path, text):
        """check-layers on a tree that has this one file."""
        where = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "w", encoding="utf-8") as file:
            file.write(text)
        done = subprocess.run(
            [os.path.join(ROOT, "scripts/dev/check-layers"), self.folder], capture_output=True, text=True, check=False)
        os.remove(where)
        return done

    def test_each_rule_can_fail(self):
        bad = [
            ("Sources/P2PDNet/a.swift", "import LuaVM\n", "must not import LuaVM"),
            ("Sources/P2PDNet/a.swift", "public import P2PDNode\n", "must not import P2PDNode"),
            ("Sources/P2PDNode/a.swift", "@preconcurrency import CLua\n", "must not import CLua"),
            ("Sources/LuaVM/a.swift", "import struct NIOCore.ByteBuffer\n", "must not import NIOCore"),
            ("Sources/P2PDScript/a.swift", "@testable import NIOPosix\n", "must not import NIOPosix"),
            ("Sources/Unknown/a.swift", "\n", "does not know"),
            ("Sources/LuaVM/a.swift", 'let a = 1; fatalError("x")\n', "end the process"),
            ("Sources/LuaVM/a.swift", "let a = try! b()\n", "end the process"),
            ("Sources/LuaVM/a.swift", "let a = b as! C\n", "end the process"),
            ("Sources/P2PDNet/a.swift", "let t = NIODeadline.now()\n", "event loop"),
            ("Sources/P2PDNode/a.swift", "let t = Date()\n", "event loop"),
            ("Sources/CNet/a.c", "#include <lua5.4/lua.h>\n", "lua.h is included in"),
            ("CLua/include/clua.h", '#include "lua.h"\n', "lua.h is included in"),
            ("CLua/a.c", "#include <sys/socket.h>\n", "no network"),
            ("Sources/LuaVM/a.swift", "//\n" * 601, "601 lines"),
        ]
        for path, text, words in bad:
            with self.subTest(words=words, path=path):
                done = self.check(path, text)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(words, done.stdout)
                self.assertRegex(done.stdout, r"(?m)^0 passed, 1 failed, 0 skipped$")

    def test_what_is_allowed(self):
        good = [
            ("Sources/P2PDScript/a.swift", "import LuaVM\nimport P2PDNet\nimport NIOCore\n"),
            ("Sources/LuaVM/a.swift", '// never fatalError(\nlet s = "try! as! fatalError("\n/* import NIOCore\nas! */\n'),
            ("Sources/LuaVM/a.swift", 'let s = """\n  import NIOCore\n  try! x\n  """\n'),
            ("Sources/P2PDNode/a.swift", "let t = Date()  // clock: certificates are valid by calendar\n"),
            ("CLua/seam.c", "#include <lua5.4/lua.h>\n"),
        ]
        for path, text in good:
            with self.subTest(path=path, text=text):
                done = self.check(path, text)
                self.assertEqual(done.returncode, 0, done.stdout)

    def test_an_empty_tree_fails(self):
        done = subprocess.run(
            [os.path.join(ROOT, "scripts/dev/check-layers"), self.folder], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)


class Commands(ProgramTest):
    """scripts/run and scripts/test, in a copy of the scripts with stand-ins for the tools they call."""

    def setUp(self):
        super().setUp()
        self.tree = os.path.join(self.folder, "a tree")
        self.tools = os.path.join(self.folder, "bin")
        os.makedirs(self.tools)
        for name in ["run", "test", "dev/install", "dev/build", "dev/check-layers", "dev/format"]:
            where = os.path.join(self.tree, "scripts", name)
            os.makedirs(os.path.dirname(where), exist_ok=True)
            shutil.copy(os.path.join(ROOT, "scripts", name), where)
        for folder in ["Sources/LuaVM", "CLua", "Tests", "scripts/handlers"]:
            os.makedirs(os.path.join(self.tree, folder), exist_ok=True)
        for name in ["Package.swift", "Sources/LuaVM/a.swift"]:
            with open(os.path.join(self.tree, name), "w", encoding="utf-8") as file:
                file.write("// nothing\n")
        self.tool("swift", """
            case "$1" in
              --version) echo "Swift version ${FAKE_VERSION:-6.3.1} (fake)" ;;
              build)
                echo "$@" >>"$FAKE_LOG"
                echo "compiling"
                [ -z "$FAKE_BROKEN" ] || { echo "a.swift:1:1: error: broken"; exit 1; }
                sleep "${FAKE_SECONDS:-0}"
                mkdir -p .build/release .build/debug
                printf '#!/bin/sh\\necho "ran $P2PD_PROGRAM: $*"\\nexit 5\\n' >.build/release/p2pd-lua
                chmod +x .build/release/p2pd-lua
                cp .build/release/p2pd-lua .build/debug/
                ;;
              test)
                printf '✔ Test a() passed after 0.1 seconds.\\n✔ Test "b" with 2 test cases passed after 0.1 seconds.\\n'
                printf '➜ Test c() skipped: "no namespaces"\\n'
                [ -z "$FAKE_FAILING" ] || { printf '✘ Test d() failed after 0.1 seconds with 1 issue.\\n'; exit 1; }
                [ -z "$FAKE_CRASH" ] || { echo "error: Exited with unexpected signal code 6"; exit 1; }
                printf '✔ Test run with 3 tests in 0 suites passed after 0.1 seconds.\\n'
                ;;
            esac
            """)
        self.tool("clang", "cat >/dev/null; exit 0")
        for name in ["luacheck", "ip", "chronyd"]:
            self.tool(name, "exit 0")
        self.log = os.path.join(self.folder, "log")

    def tool(self, name, text):
        path = os.path.join(self.tools, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n" + text)
        os.chmod(path, 0o755)

    def call(self, command, *args, path=None, **env):
        environment = self.environment(FAKE_LOG=self.log, **env)
        environment["PATH"] = path or self.tools + ":" + environment["PATH"]
        del environment["P2PD_LUA_LIB"]
        return subprocess.run(
            [os.path.join(self.tree, "scripts", command), *args], capture_output=True, text=True, check=False,
            cwd="/", env=environment, timeout=60)

    def builds(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log, encoding="utf-8") as file:
            return file.read().splitlines()

    def test_run_builds_once_and_hands_over(self):
        first = self.call("run", "connect", "a b")
        self.assertEqual(first.returncode, 5, first)
        self.assertRegex(first.stdout, r"^ran .*scripts/run: connect a b\n$")
        second = self.call("run")
        self.assertIn("run " + os.path.join(self.tree, "scripts/handlers/echo.lua"), second.stdout)
        self.assertEqual(second.stderr, "")
        self.assertEqual(len(self.builds()), 1, self.builds())
        self.assertIn("-c release --static-swift-stdlib -Xswiftc -enforce-exclusivity=unchecked", self.builds()[0])

    def touch_source(self):
        """A source file is newer than the program."""
        stamp = os.stat(os.path.join(self.tree, ".build/release.stamp")).st_mtime
        os.utime(os.path.join(self.tree, "Sources/LuaVM/a.swift"), (stamp + 10, stamp + 10))

    def test_run_builds_again_after_a_change(self):
        self.call("run", "x")
        self.touch_source()
        self.call("run", "x")
        self.assertEqual(len(self.builds()), 2)

    def test_a_moved_folder_is_built_anew(self):
        self.call("run", "x")
        built = os.path.join(self.tree, ".build/x86_64-unknown-linux-gnu")
        os.mkdir(built)
        self.tree = shutil.move(self.tree, os.path.join(self.folder, "moved"))
        still = self.call("run", "x")
        self.assertEqual((still.returncode, still.stderr), (5, ""), "a binary does not mind where it lies")
        self.touch_source()
        done = self.call("run", "x")
        self.assertEqual(done.returncode, 5, done)
        self.assertIn("building anew", done.stderr)
        self.assertEqual(len(self.builds()), 2)
        self.assertFalse(os.path.exists(os.path.join(self.tree, ".build/x86_64-unknown-linux-gnu")))

    def test_run_shows_why_a_build_failed(self):
        done = self.call("run", "x", FAKE_BROKEN="1")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("a.swift:1:1: error: broken", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_two_at_once_build_once(self):
        environment = self.environment(FAKE_LOG=self.log, FAKE_SECONDS="1")
        environment["PATH"] = self.tools + ":" + environment["PATH"]
        both = [
            subprocess.Popen(
                [os.path.join(self.tree, "scripts/run"), "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
            for _ in range(2)
        ]
        for process in both:
            self.assertIn(b": x\n", process.communicate(timeout=60)[0])
            self.assertEqual(process.returncode, 5)
        self.assertEqual(len(self.builds()), 1, self.builds())

    def test_without_swift_or_with_an_old_one_it_says_what_to_do(self):
        old = self.call("run", "x", FAKE_VERSION="5.9")
        self.assertEqual(old.returncode, 1, old)
        self.assertIn("too old", old.stderr)
        # A folder with everything but swift.
        os.remove(os.path.join(self.tools, "swift"))
        for name in ["bash", "dirname", "readlink", "uname", "mkdir", "find", "cat", "sed", "env", "flock", "stat", "touch"]:
            found = shutil.which(name)
            if found and not os.path.exists(os.path.join(self.tools, name)):
                os.symlink(found, os.path.join(self.tools, name))
        done = self.call("run", "x", path=self.tools, SWIFT_FOLDERS="/nowhere")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("swift.org/install", done.stderr)

    def test_without_apt_it_lists_what_is_missing(self):
        self.tool("clang", 'case "$(cat)" in *lua*) exit 1 ;; esac')
        for name in ["dirname", "readlink", "mkdir", "find", "cat", "sed", "env", "flock", "stat", "touch", "sort", "head", "tr", "ldd",
                     "git", "bash", "id", "printf", "grep"]:
            found = shutil.which(name)
            if found and not os.path.exists(os.path.join(self.tools, name)):
                os.symlink(found, os.path.join(self.tools, name))
        done = self.call("run", "x", path=self.tools)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("no apt", done.stderr)
        self.assertIn("Lua 5.4 with its headers", done.stderr)
        self.assertEqual(self.builds(), [])

    def test_test_counts_passed_failed_and_skipped(self):
        good = self.call("test", "layers", "build", "swift", "seam", "lint")
        self.assertEqual(good.returncode, 0, good)
        self.assertEqual(good.stdout.splitlines()[-1], "4 passed, 0 failed, 3 skipped")
        self.assertIn("no namespaces", good.stderr)

    def test_test_fails_with_a_failing_or_crashing_test(self):
        for trouble in ["FAKE_FAILING", "FAKE_CRASH"]:
            with self.subTest(trouble):
                done = self.call("test", "swift", **{trouble: "1"})
                self.assertEqual(done.returncode, 1, done)
                self.assertEqual(done.stdout.splitlines()[-1], "3 passed, 1 failed, 1 skipped")

    def test_test_stops_after_a_broken_build(self):
        done = self.call("test", "build", "swift", FAKE_BROKEN="1")
        self.assertEqual(done.returncode, 1, done)
        self.assertEqual(done.stdout.splitlines()[-1], "0 passed, 1 failed, 0 skipped")

    def test_a_hung_step_is_ended_with_all_it_started(self):
        self.tool("luacheck", 'sleep 1000 & echo $! >"$FAKE_LOG.pid"; wait')
        with open(os.path.join(self.tree, ".luacheckrc"), "w", encoding="utf-8") as file:
            file.write("")
        done = self.call("test", "lint", P2PD_STEP_LIMIT="1")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("did not end within 1 s", done.stderr)
        with open(self.log + ".pid", encoding="ascii") as file:
            child = file.read().strip()
        deadline = time.monotonic() + PATIENCE
        while self.lives(child) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertFalse(self.lives(child), "the step's child lives on")

    @staticmethod
    def lives(process_id):
        """Whether it runs; one that ended but was not waited for yet does not."""
        try:
            with open(f"/proc/{process_id}/stat", encoding="ascii") as file:
                return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def test_unknown_steps_are_refused(self):
        self.assertEqual(self.call("test", "bogus").returncode, 2)


if __name__ == "__main__":
    unittest.main()
