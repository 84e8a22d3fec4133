"""What Ray's processes do in these tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def slow(options: Mapping[str, Any]) -> Callable[[int], int]:
    """Twice the number, after a while."""

    def do(number: int) -> int:
        time.sleep(options["seconds"])
        return 2 * number

    return do


def deadly(options: Mapping[str, Any]) -> Callable[[int], int]:
    """Ends the process at every second unit."""

    def do(number: int) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return do


def held(options: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What a generation does there; after its first unit, a process waits until the file ``gate`` is there."""
    from ltg_core.workflows import making

    gate, make, done = Path(options["gate"]), making.maker(options), 0

    def do(unit: Any) -> Any:
        nonlocal done
        while done and not gate.exists():
            time.sleep(0.05)
        done += 1
        return make(unit)

    return do
