"""The process that looks at uploads is locked in by Linux' Landlock: it reads and writes what a look needs, for good.

Two locks, one in the other. The process, before it has a second thread, may write to the workspace only, read Python's
folders and what may be uploaded or named, and connect to nothing. Each look, a thread of its own, may read what lies
beside the upload it was asked about and write to one folder. Both hold until process and thread end.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ltg_core

log = logging.getLogger(__name__)

_NOWHERE = Path("/nonexistent")
_VERSION = 1  # of landlock_create_ruleset: asks for the version instead of making a set


def available() -> bool:
    """Whether this kernel has Landlock in a version that is of use."""
    if sys.platform != "linux":
        return False
    from ltg_core.models import sandbox_worker as kernel

    version = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return int(version) >= kernel._LEAST_LANDLOCK


def process(options: Mapping[str, Any]) -> None:
    """Lock this process, which must still have one thread; where the kernel cannot, that is logged.

    Args:
        options: ``readable``: paths; ``writable``: one folder.
    """
    if not available():
        log.warning(
            "this kernel has no Landlock: the process that looks at uploads has limits of memory and time, but could "
            "read whatever the server's account can"
        )
        return
    _lock(options["readable"], _NOWHERE, Path(options["writable"]))
    log.info("the process that looks at uploads is locked by Landlock")


def look(path: Path, out: Path) -> None:
    """Lock this thread: it reads the upload and what lies beside it, and writes to ``out``."""
    if available():
        _lock([str(path)] if path.is_dir() else [], path.parent, out)


def _lock(readable: Sequence[str], beside: Path, writable: Path) -> None:
    from ltg_core.models.sandbox_worker import lock_files

    source = Path(ltg_core.__file__).resolve().parent
    python = [sys.prefix, sys.base_prefix, *sys.path, "/usr", "/lib", "/lib64"]
    folders = {os.path.realpath(one) for one in python if os.path.isdir(one) and Path(one) != Path.cwd()}
    lock_files([*sorted(folders), str(source), *readable], beside, writable)
