"""Work in a forked child that is killed at a chosen point: before its n-th write, or after a time.

A write is whatever changes the disk: a file that is opened for writing, renamed, linked or removed, a folder that is
made, a statement of SQLite that changes something or ends a transaction. The child counts them (Python's audit hooks,
SQLite's trace) and sends itself SIGKILL before the chosen one, so that every gap between two writes can be hit. Kills
after a time hit what lies inside a write.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

from ltg_core.errors import LtgError

Ack = Callable[[Any], None]
Work = Callable[[Ack], Any]
_EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_HANGS = 240.0  # seconds
_CHANGES = ("BEGIN", "COMMIT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "REPLACE")


@dataclasses.dataclass
class Outcome:
    """How a child ended.

    Attributes:
        killed: By us, before it was done.
        acks: What it had acknowledged, in order.
        result: What its work returned, None where it did not get so far.
        error: Name and text of what it raised.
        ours: Whether that was an error of this package, made for people.
        writes: How many writes it made, if it got to its end.
        seconds: From its first step on.
        hung: Whether it did not end by itself for minutes and was killed.
        orphans: Processes of its group that were still there afterwards.
    """

    killed: bool = False
    acks: list[Any] = dataclasses.field(default_factory=list)
    result: Any = None
    error: tuple[str, str] | None = None
    ours: bool = False
    writes: int = 0
    seconds: float = 0.0
    hung: bool = False
    orphans: int = 0


def attempt(
    work: Work, *, at_write: int = 0, after: float = 0.0, before: Callable[[], None] | None = None
) -> Outcome:
    """Do work in a child.

    Args:
        work: Gets a function that acknowledges a JSON value to this process; returns a JSON value.
        at_write: Kill the child before this write, from 1; 0 for never.
        after: Kill it after so many seconds; 0 for never.
        before: What the child does first: a fault to set up.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setpgid(0, 0)
        _child(writing, work, at_write, before)
    os.close(writing)
    outcome, began = Outcome(), time.monotonic()
    deadline = began + (after or _HANGS)
    outcome.hung = _listen(reading, pid, outcome, deadline) and not after
    _, status = os.waitpid(pid, 0)
    outcome.seconds = time.monotonic() - began
    outcome.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    outcome.orphans = _left(pid)
    return outcome


def _listen(pipe: int, pid: int, outcome: Outcome, deadline: float | None) -> bool:
    """Until the child ends; returns whether it was ended at the deadline."""
    rest = b""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if left is not None and not select.select([pipe], [], [], left)[0]:
            os.kill(pid, signal.SIGKILL)
            deadline = None
            continue
        part = os.read(pipe, 1 << 16)
        if not part:
            break
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            _take(outcome, json.loads(line))
    os.close(pipe)
    return deadline is None


def _take(outcome: Outcome, said: dict[str, Any]) -> None:
    if "ack" in said:
        outcome.acks.append(said["ack"])
    elif "error" in said:
        outcome.error, outcome.ours = tuple(said["error"]), said["ours"]
    else:
        outcome.result, outcome.writes = said["result"], said["writes"]


def _child(pipe: int, work: Work, at_write: int, before: Callable[[], None] | None) -> None:
    """Never returns."""

    def say(value: dict[str, Any]) -> None:
        os.write(pipe, json.dumps(value, default=str).encode() + b"\n")

    code = 0
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        if before is not None:
            before()
        counter = _Counter(at_write)
        result = work(lambda value: say({"ack": value}))
        say({"result": result, "writes": counter.count})
    except BaseException as error:  # noqa: BLE001  # told to the parent, whatever it is
        say({"error": [type(error).__name__, str(error)[:2000]], "ours": isinstance(error, LtgError)})
        code = 1
    finally:
        os._exit(code)


class _Counter:
    """Counts the writes of this process from now on, and ends it before the chosen one."""

    def __init__(self, last: int) -> None:
        self.count, self._last = 0, last
        sys.addaudithook(self._heard)
        connect = sqlite3.connect

        def traced(*given: Any, **named: Any) -> sqlite3.Connection:
            connection = connect(*given, **named)
            connection.set_trace_callback(self._said)
            return connection

        sqlite3.connect = traced  # type: ignore[assignment]

    def _tick(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS or (event == "open" and _writes(arguments)):
            self._tick()

    def _said(self, statement: str) -> None:
        if statement.lstrip().upper().startswith(_CHANGES):
            self._tick()


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, mode, flags = (*arguments, None, None, None)[:3]
    if str(path).startswith("/dev/"):
        return False
    if isinstance(mode, str):
        return bool(set(mode) & set("wxa+"))
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _left(group: int) -> int:
    """Living processes of a group after a moment in which the kernel may end them."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return 0
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)
    return 1
