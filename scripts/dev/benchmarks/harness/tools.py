"""What a run needs and may not find: packages of the system, programs built from here, Python P2PD."""
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent.parent
PROGRAMS = HERE / "programs"
P2PD_VERSION = "3.1.9"
RELEASE_FLAGS = ["--static-swift-stdlib", "-Xswiftc", "-enforce-exclusivity=unchecked"]


class CannotRun(Exception):
  """A measurement that is not possible here; the text says why."""


class Absent(CannotRun):
  """Something left out without harm: said aloud, but no failure."""


def say(text):
  print(text, file=sys.stderr, flush=True)


def run(command, seconds, **more):
  """Runs a build step, its output kept, and raises CannotRun with the last lines of it."""
  try:
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, errors="replace", timeout=seconds, **more)
  except FileNotFoundError:
    raise CannotRun(f"{command[0]} is not installed") from None
  except subprocess.TimeoutExpired:
    raise CannotRun(f"{command[0]} did not end within {seconds:.0f} s") from None
  if done.returncode:
    lines = [line for line in done.stdout.strip().splitlines() if line.strip()]
    raise CannotRun(f"`{' '.join(str(word) for word in command)}` failed: {' / '.join(lines[-4:])[-600:]}")
  return done.stdout


# --- packages -----------------------------------------------------------------------------------------------------

def _has_luv():
  return bool(shutil.which("lua5.4")) and not subprocess.run(
    ["lua5.4", "-e", "require 'luv'"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


def _has_header(name):
  return lambda: bool(list(Path("/usr/include").glob(name)))


SERVER_FOLDERS = ":/usr/sbin:/usr/local/sbin"

# Debian's package, and how to see that it (or its like) is there.
PRESENT = {
  "lua5.4": lambda: bool(shutil.which("lua5.4")),
  "lua-luv": _has_luv,
  "valgrind": lambda: bool(shutil.which("valgrind")),
  "mosquitto": lambda: bool(shutil.which("mosquitto", path=os.environ.get("PATH", "") + SERVER_FOLDERS)),
  "util-linux": lambda: all(shutil.which(name) for name in ("taskset", "setpriv", "prlimit")),
  "gcc": lambda: bool(shutil.which("cc")),
  "libc6-dev": _has_header("stdio.h"),
  "python3-venv": lambda: not subprocess.run(
    [python(), "-c", "import ensurepip"], stderr=subprocess.DEVNULL).returncode,
  "python3-dev": _has_header("python3*/Python.h"),
}


def need(*packages):
  """Installs what is missing of Debian's `packages`; raises CannotRun with the list where that is not possible."""
  missing = [name for name in packages if not PRESENT[name]()]
  if not missing:
    return
  rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
  if not shutil.which("apt-get") or (rights and not shutil.which("sudo")):
    raise CannotRun(f"missing here: {' '.join(missing)} (the names of Debian's packages); install them and try again")
  say(f"installing with apt: {' '.join(missing)}")
  quiet = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
  install = rights + ["apt-get", "install", "-y", "--no-install-recommends"] + missing
  try:
    run(install, 300, env=quiet)
  except CannotRun:
    run(rights + ["apt-get", "update"], 120, env=quiet)
    run(install, 300, env=quiet)


# --- programs -----------------------------------------------------------------------------------------------------

def newer(product, sources):
  return product.exists() and all(product.stat().st_mtime >= source.stat().st_mtime for source in sources)


def once(build):
  """Remembers what `build` returned or why it could not, so that a failure is not tried and waited for again."""
  kept = {}

  @functools.wraps(build)
  def remembered(*arguments):
    if arguments not in kept:
      try:
        kept[arguments] = build(*arguments), None
      except CannotRun as reason:
        kept[arguments] = None, reason
    value, reason = kept[arguments]
    if reason:
      raise reason
    return value
  return remembered


class Tools:
  """Where each program lies; built on first use, and the reason kept when that failed."""

  def __init__(self, out, binary=None):
    self.out = out
    self.binary = binary

  @once
  def _built(self, name):
    need("gcc", "libc6-dev")
    source, product = PROGRAMS / f"{name}.c", self.out / "bin" / name
    if not newer(product, [source, *PROGRAMS.glob("*.h")]):
      product.parent.mkdir(parents=True, exist_ok=True)
      run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", product, source], 120)
    return product

  def c(self, name):
    """A program of programs/NAME.c."""
    return self._built(name)

  @once
  def p2pd_lua(self):
    """The program measured: --binary, or the release build as scripts/run makes it."""
    if self.binary:
      path = Path(self.binary).resolve()
      if not os.access(path, os.X_OK):
        raise CannotRun(f"{path} is no program")
      return path
    steps = '. "$root/scripts/dev/install" && . "$root/scripts/dev/build" && build_release && echo "$release_binary"'
    say("building p2pd-lua (release), if anything changed")
    printed = run(["bash", "-c", steps], 3000, env=dict(os.environ, root=str(ROOT)))
    return Path(printed.strip().splitlines()[-1])

  @once
  def signal_node(self):
    """A node's signalling alone (scripts/dev/benchmarks/signal-node), built as p2pd-lua is."""
    say("building p2pd-signal-node (release), if anything changed")
    flags = ["-c", "release", "--package-path", ROOT, *RELEASE_FLAGS]
    run(["swift", "build", *flags, "--product", "p2pd-signal-node"], 3000)
    return Path(run(["swift", "build", *flags, "--show-bin-path"], 60).strip().splitlines()[-1]) / "p2pd-signal-node"

  def mosquitto(self):
    return shutil.which("mosquitto", path=os.environ.get("PATH", "") + SERVER_FOLDERS)

  @once
  def nio_echo(self):
    """Bare swift-nio's echo, built as p2pd-lua is, of the same version of swift-nio."""
    package, scratch = HERE / "nio-echo", HERE / ".build-nio"
    product = scratch / "release" / "nio-echo"
    pins, ours = package / "Package.resolved", ROOT / "Package.resolved"
    if newer(product, [package / "Package.swift", *package.glob("Sources/**/*.swift")]):
      return product
    if ours.exists():
      shutil.copyfile(ours, pins)
    say("building nio-echo (release, once)")
    run(["swift", "build", "-c", "release", "--package-path", package, "--scratch-path", scratch, *RELEASE_FLAGS],
        1200)
    return product

  @once
  def without_debug_information(self, program):
    """A copy for valgrind 3.19, which gives up on Swift's DWARF 5; function names stay."""
    program = Path(shutil.which(program))
    with open(program, "rb") as file:
      if file.read(4) != b"\x7fELF" or program.is_relative_to("/usr"):
        return program
    need("gcc")
    copy = self.out / "bin" / f"{program.name}-without-debug"
    copy.parent.mkdir(parents=True, exist_ok=True)
    run(["strip", "--strip-debug", "-o", copy, program], 60)
    return copy

  @once
  def p2pd_python(self):
    """The interpreter of a virtual environment that has Python P2PD; Absent when PyPI cannot be reached."""
    folder = self.out / f"p2pd-{P2PD_VERSION}"
    interpreter, stamp = folder / "bin" / "python", folder / "installed"
    if stamp.exists():
      return interpreter
    need("python3-venv", "python3-dev", "gcc", "libc6-dev")
    say(f"installing Python P2PD {P2PD_VERSION} from PyPI into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
      run([python(), "-m", "venv", folder], 120)
      run([interpreter, "-m", "pip", "install", "--retries", "1", "--timeout", "15", f"p2pd=={P2PD_VERSION}"], 600)
    except CannotRun as failure:
      # pip's last line is its verdict; the retries before it are not.
      verdict = str(failure).split(" / ")[-1]
      raise Absent(f"Python P2PD {P2PD_VERSION} cannot be installed (offline?): {verdict}") from None
    stamp.touch()
    return interpreter


def python():
  """The system's Python where there is one: the same on every Debian machine."""
  return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
