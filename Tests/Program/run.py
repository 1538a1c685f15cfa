#!/usr/bin/env python3
"""Runs the tests of the built program (P2PD_TEST_BINARY, or .build/debug/p2pd-lua) and counts them.

  Tests/Program/run.py [PART OF A TEST'S NAME]
"""

import os
import sys
import unittest

here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, here)
sys.dont_write_bytecode = True

import program  # noqa: E402


def main():
    loader = unittest.TestLoader()
    if len(sys.argv) > 1:
        loader.testNamePatterns = [f"*{part}*" for part in sys.argv[1:]]
    if not os.access(program.BINARY, os.X_OK):
        print(f"{program.BINARY} is not built")
        print("0 passed, 1 failed, 0 skipped")
        return 1
    suite = loader.discover(here, pattern="test_*.py")
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    skipped = len(result.skipped)
    passed = result.testsRun - failed - skipped
    if result.testsRun == 0:
        print("no test was run")
        failed = 1
    print(f"{max(0, passed)} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
