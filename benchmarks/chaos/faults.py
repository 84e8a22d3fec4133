"""Faults other than kills: a full disk, a read-only one, a held database, memory, broken files, clocks."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator


class Disk:
    """A small disk of its own (tmpfs) under a folder; needs the right to mount.

    Args:
        folder: Where; made when absent.
        megabytes: Its size.
    """

    def __init__(self, folder: Path, megabytes: float) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 2**20)}", "tmpfs", str(folder))

    def resize(self, megabytes: float) -> None:
        """Give it another size."""
        _run("mount", "-o", f"remount,size={int(megabytes * 2**20)}", str(self.folder))

    def read_only(self, on: bool) -> None:
        """Allow or forbid writing."""
        _run("mount", "-o", "remount,ro" if on else "remount,rw", str(self.folder))

    def used(self) -> int:
        """Bytes that are taken."""
        about = os.statvfs(self.folder)
        return (about.f_blocks - about.f_bfree) * about.f_frsize

    def close(self) -> None:
        """Take it away, with all that is on it."""
        _run("umount", str(self.folder))


def can_mount(folder: Path) -> bool:
    """Whether small disks can be made here."""
    try:
        Disk(folder, 1).close()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextlib.contextmanager
def held_database(file: Path, wait: float, hold: float) -> Iterator[None]:
    """Another writer that begins after ``wait`` seconds and lets go after ``hold``."""
    done = threading.Event()

    def keep() -> None:
        if done.wait(wait):
            return
        with contextlib.closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            done.wait(hold)
            other.execute("ROLLBACK")

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def stepping_clock(seed: int) -> Callable[[], None]:
    """From now on the clock jumps by hours, days or years in either direction, on average every tenth time it is read.

    Python's clock only; the machine's own stays as it is.
    """

    def begin() -> None:
        rng, real, offset = np.random.default_rng(seed), time.time, 0.0

        def told() -> float:
            nonlocal offset
            if rng.random() < 0.1:
                offset = float(rng.choice((-1, 1)) * rng.choice((3600.0, 86400.0 * 3, 86400.0 * 365 * 5)))
            return real() + offset

        time.time = told

    return begin


def no_memory(call: int) -> Callable[[], None]:
    """The ``call``-th use of the generator's denoiser or the classifier finds the GPU's memory full, once."""

    def begin() -> None:
        import torch
        from torch import nn

        used, plain = 0, nn.Conv2d.forward

        def forward(self: Any, x: Any) -> Any:
            nonlocal used
            used += 1
            if used == call:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (forced)")
            return plain(self, x)

        nn.Conv2d.forward = forward  # type: ignore[method-assign]

    return begin


def damage(file: Path, kind: str, rng: Rng) -> None:
    """Break a file: "flipped" (one bit), "cut", "empty" or "garbage". Its other names keep what they had."""
    data = bytearray(file.read_bytes())
    if kind == "flipped":
        data[int(rng.integers(len(data) // 2, len(data)))] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del data[int(rng.integers(1, len(data))) :]
    elif kind == "empty":
        data.clear()
    else:
        data[:] = rng.bytes(len(data))
    beside = file.with_name(file.name + ".broken")
    beside.write_bytes(bytes(data))
    os.replace(beside, file)


DAMAGES = ("flipped", "cut", "empty", "garbage")
