"""The processes a run starts: pinned to a CPU, their output in a file each, and all of them ended by their own id
when the run ends, however it ends."""
import atexit
import json
import signal
import subprocess
import time

from .tools import CannotRun


class Child:
  """One process. `output` and `errors` are files that hold what it printed."""

  def __init__(self, name, process, output, errors):
    self.name = name
    self.process = process
    self.output = output
    self.errors = errors

  @property
  def pid(self):
    return self.process.pid

  def line(self, word, seconds):
    """Waits for a line that begins with or holds `word`, on either output, and returns it from the word on."""
    deadline = time.monotonic() + seconds
    while True:
      ended = self.process.poll() is not None
      for path in (self.output, self.errors):
        for line in path.read_text(errors="replace").splitlines(keepends=True):
          if word in line and line.endswith("\n"):
            return line[line.index(word):].strip()
      if ended:
        raise CannotRun(f"{self.name} ended with status {self.process.returncode}: {self.last_words()}")
      if time.monotonic() > deadline:
        raise CannotRun(f"{self.name} did not print {word} within {seconds:.0f} s: {self.last_words()}")
      time.sleep(0.005)

  def wait(self, seconds):
    """Waits for its end and returns the exit status; ends it when it takes longer."""
    try:
      return self.process.wait(seconds)
    except subprocess.TimeoutExpired:
      self.stop()
      raise CannotRun(f"{self.name} did not end within {seconds:.0f} s: {self.last_words()}") from None

  def last_words(self):
    text = self.errors.read_text(errors="replace") or self.output.read_text(errors="replace")
    lines = [line for line in text.strip().splitlines() if line.strip()]
    # The first line says what went wrong where a traceback follows, the last ones where there is a log.
    told = lines if len(lines) < 4 else [lines[0], "...", *lines[-2:]]
    return " / ".join(line.strip()[:300] for line in told) or "it printed nothing"

  def resident(self):
    """Memory in RAM, in bytes."""
    for line in open(f"/proc/{self.pid}/status"):
      if line.startswith("VmRSS:"):
        return int(line.split()[1]) * 1024
    raise CannotRun(f"{self.name} has no memory left to read: it has ended")

  def stop(self, seconds=8):
    """Asks it to end, and insists after `seconds`. A second call does nothing."""
    if self.process.stdin:
      self.process.stdin.close()
    if self.process.poll() is None:
      self.process.terminate()
      try:
        self.process.wait(seconds)
      except subprocess.TimeoutExpired:
        self.process.kill()
        self.process.wait()
    if self.process.stdout:
      self.process.stdout.close()


class Children:
  """Starts processes and remembers those that live."""

  def __init__(self, folder, environment):
    self.folder = folder
    self.environment = environment
    self.living = []
    self.started = 0
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*"):
      old.unlink()
    atexit.register(self.stop_all)

  def start(self, name, command, cpu=None, soft_files=None, stdin=False, pipes=False):
    """Starts `command` on CPU `cpu`. `soft_files` lowers the soft limit of open files, to see a program raise it;
    `pipes` hands both outputs to the caller as process.stdout instead of keeping them in files."""
    # Each word hands over to the next by exec: the id stays that of the program. setpriv makes the kernel end it
    # with this process, in case nobody gets to run the code below.
    before = ["setpriv", "--pdeathsig", "KILL"]
    if soft_files:
      before += ["prlimit", f"--nofile={soft_files}:"]
    if cpu is not None:
      before += ["taskset", "-c", str(cpu)]
    self.started += 1
    stem = f"{self.started:04d}-{name.replace('/', '-')}"
    output, errors = self.folder / f"{stem}.out", self.folder / f"{stem}.err"
    with open(output, "wb") as out, open(errors, "wb") as err:
      process = subprocess.Popen(
        before + [str(word) for word in command], stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE if pipes else out, stderr=subprocess.STDOUT if pipes else err,
        env=self.environment, start_new_session=True)
    child = Child(name, process, output, errors)
    self.living.append(child)
    return child

  def stop(self, child):
    child.stop()
    self.living.remove(child)

  def result(self, name, command, seconds, cpu=None, server=None):
    """Runs a program to its end and returns the JSON object it printed last. `server` is whom it talks to: where
    that has ended, the failure says so."""
    child = self.start(name, command, cpu)
    try:
      status = child.wait(seconds)
    finally:
      self.stop(child)
    lines = child.output.read_text(errors="replace").strip().splitlines()
    found = [line for line in lines if line.startswith("{")]
    if status or not found:
      why = f"{name} ended with status {status}: {child.last_words()}"
      if server and server.process.poll() is not None:
        why = f"{server.name} ended with status {server.process.returncode}: {server.last_words()}; {why}"
      raise CannotRun(why)
    return json.loads(found[-1])

  def stop_all(self):
    for child in self.living:
      if child.process.poll() is None:
        child.process.terminate()
    for child in self.living:
      child.stop()
    self.living.clear()


def end_on_signals():
  """SIGTERM and SIGHUP end the run as Ctrl-C does: through `finally` and `atexit`."""
  def end(number, _):
    raise SystemExit(128 + number)
  signal.signal(signal.SIGTERM, end)
  signal.signal(signal.SIGHUP, end)


def free_port():
  """A TCP and UDP port of 127.0.0.1 that nobody has just now."""
  import socket
  for _ in range(100):
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
      stream.bind(("127.0.0.1", 0))
      port = stream.getsockname()[1]
      try:
        datagram.bind(("127.0.0.1", port))
      except OSError:
        continue
      return port
  raise CannotRun("no port is free on 127.0.0.1")
