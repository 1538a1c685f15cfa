"""Network namespaces, commands and sysctls."""
import contextlib
import ctypes
import os
import subprocess

from .model import LabError

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
_selfns = os.open("/proc/self/ns/net", os.O_RDONLY)
_nsfd = {}


@contextlib.contextmanager
def netns(name):
    """Enter a network namespace for a moment; sockets made inside stay there for good."""
    fd = _nsfd.get(name)
    if fd is None:
        fd = _nsfd[name] = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns " + name)
    try:
        yield
    finally:
        libc.setns(_selfns, CLONE_NEWNET)


def forget(name):
    """A namespace that is deleted must not be held open."""
    if name in _nsfd:
        os.close(_nsfd.pop(name))


def sh(args, inp=None, check=True):
    p = subprocess.run(args, input=inp, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and p.returncode:
        raise LabError(f"{' '.join(args)}: {p.stdout.strip()[:1500]}")
    return p.stdout


def sysctl(ns, kv):
    with netns(ns):
        for k, v in kv.items():
            try:
                with open("/proc/sys/" + k.replace(".", "/"), "w") as f:
                    f.write(str(v))
            except FileNotFoundError:
                pass
