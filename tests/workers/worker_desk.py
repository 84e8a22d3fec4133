"""What the workers of these tests do."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import Any

import numpy as np

from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn


def desk(options: dict[str, Any]) -> Any:
    def perform(task: str, arguments: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken) -> Any:
        return TASKS[task](options, on_progress, cancel, **arguments)

    return perform


def echo(options: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken, **given: Any) -> Any:
    print("this line must not mix with the answers")
    return {"given": given, "options": options, "threads": os.environ["OMP_NUM_THREADS"], "nice": os.nice(0)}


def steps(
    options: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken, count: int, file: str = ""
) -> int:
    """So many steps; each is written to the file before the token is looked at."""
    for i in range(count):
        if file:
            with open(file, "a") as out:
                out.write(f"{i}\n")
        on_progress(Progress(i, count, f"step {i}"))
        cancel.check()
        time.sleep(0.02)
    return count


def pictures(options: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken, side: int) -> None:
    image = np.zeros((2, side, side, 3), np.uint8)
    image[1, ..., 0] = np.arange(side) % 256
    on_progress(Progress(1, 3, "first", image, run="generate-1"))
    on_progress(Progress(2, 3, "second", changed=True))
    on_progress(Progress(3, 3, "third", "no picture"))


def fail(options: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken, known: bool) -> None:
    if known:
        raise InputError("give a whole number; 'x' was given")
    raise ZeroDivisionError("by nothing")


def grab(options: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken, megabytes: int) -> list[str]:
    """Take memory; says whether a kernel that is short of it would take this process first."""
    taken = bytearray(megabytes * 2**20)
    with open("/proc/self/oom_score_adj") as file:
        return [str(len(taken)), file.read().strip()]


def die(options: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken) -> None:
    on_progress(Progress(1, 2, "about to die"))
    os.kill(os.getpid(), signal.SIGKILL)


def hold(options: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken) -> None:
    """Keeps the interpreter to itself: no other thread of the process runs until it is over, in a few years."""
    on_progress(Progress(0, 1, "holding"))
    re.match(r"(a+)+$", "a" * 60 + "b")


TASKS = {f.__name__: f for f in (echo, steps, pictures, fail, grab, die, hold)}
