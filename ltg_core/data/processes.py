"""Whose a run, a job or a half-written file is: this machine, this process, and whether a process still lives."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from pathlib import Path


def owner() -> str:
    """This process: its id and, where the system tells, when it started (ids are used again)."""
    return _own(os.getpid())


def host() -> str:
    """This machine in eight hex digits."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def alive(owner: str) -> bool:
    """Whether the process of ``owner()`` still runs."""
    number, _, started = owner.partition(":")
    pid = int(number)
    if pid == os.getpid():
        return started == _started(pid)
    if os.name == "nt":  # kill(pid, 0) would end the process there; a false "running" harms less
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return started == _started(pid)


@functools.lru_cache(maxsize=2)
def _own(pid: int) -> str:
    return f"{pid}:{_started(pid)}"


def _started(pid: int) -> str:
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]  # state; start in clock ticks since boot (proc(5))
