"""What Ray's processes do in these tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
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
