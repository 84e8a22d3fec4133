"""Looks into files that were just uploaded, in a process with limits of its own: the page waits for the answer."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.settings import Settings
from ltg_core.errors import Cancelled, InputError, WorkerLost
from ltg_core.jobs import CancelToken
from ltg_core.workers import Worker

if TYPE_CHECKING:
    from PIL import Image

    from ltg_core.workflows.bringing import WeightsReport

SECONDS: Mapping[str, float] = {"picture": 15.0, "weights": 90.0}
"""The longest that one look may take."""
_MEMORY_GB = 4.0


class Reader:
    """One process for all visitors, which needs no accelerator, is locked in (``confined``) and may fall over.

    Args:
        settings: An upload is held in memory twice at most, so the limit follows from the largest that is allowed.
        memory: Bytes instead.
        seconds: By task, the longest that a look may take.
    """

    def __init__(
        self, settings: Settings, *, memory: int = 0, seconds: Mapping[str, float] = SECONDS
    ) -> None:
        memory = memory or int((_MEMORY_GB + 2 * settings.upload_mb / 1024) * 2**30)
        alone = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        desk = "ltg_core.workflows.looking:desk"
        workspace = settings.workspace.resolve()
        workspace.mkdir(parents=True, exist_ok=True)
        # torch makes a folder for compiled code at its import, where the reader may not write; this one is there, and
        # nothing is compiled.
        alone["TORCHINDUCTOR_CACHE_DIR"] = str(workspace)
        sent = os.environ.get("GRADIO_TEMP_DIR") or os.path.join(tempfile.gettempdir(), "gradio")
        # Who sits at the machine may name any file on the page, so its reader may read any; but each look only its own.
        options = {
            "readable": ["/"] if settings.local else [str(workspace), sent],
            "writable": str(workspace),
        }
        locks = "ltg_core.workflows.confined:process"
        self.worker = Worker(desk, options, name="reader", environment=alone, memory=memory, first=locks)
        self._seconds = seconds

    def weights(self, path: Path, arch: str, folder: Path) -> WeightsReport:
        """See ``inspect_weights``.

        Args:
            path: The file or model folder.
            arch: Its architecture where somebody knows it.
            folder: Where a zip may be unpacked for a moment, inside the workspace.

        Raises:
            LtgError: As there, or it took too much time or memory.
        """
        from ltg_core.workflows import looking

        with _room(folder) as room:
            return looking.report_of(self._ask("weights", path, {"arch": arch, "room": str(room)}))

    def picture(self, path: Path, folder: Path) -> Image.Image:
        """A picture, decoded.

        Args:
            path: The file.
            folder: Where its pixels may lie for a moment, inside the workspace.

        Raises:
            InputError: It is none, or took too much time or memory.
        """
        from ltg_core.workflows import looking

        with _room(folder) as room:
            return looking.picture_of(room, self._ask("picture", path, {"room": str(room)}))

    def close(self) -> None:
        """End the process."""
        self.worker.close()

    def _ask(self, task: str, path: Path, given: dict[str, Any]) -> Any:
        """The answer; one that went down with the file of somebody else is asked for again."""
        try:
            return self._once(task, path, given)
        except WorkerLost:
            pass
        try:
            return self._once(task, path, given)
        except WorkerLost as error:
            raise _refused(path) from error

    def _once(self, task: str, path: Path, given: dict[str, Any]) -> Any:
        self.worker.run("ready", {})  # its start does not count
        token = CancelToken()
        timer = threading.Timer(self._seconds[task], token.cancel)
        timer.daemon = True
        timer.start()
        try:
            return self.worker.run(task, {"path": str(path), **given}, cancel=token, kill=True)
        except Cancelled:
            raise _refused(path) from None
        finally:
            timer.cancel()


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[Path]:
    """An empty folder for one look, gone afterwards, also when the process that wrote to it was ended."""
    from ltg_core.data.blobs import temporary_name

    room = folder / temporary_name()
    room.mkdir()
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _refused(path: Path) -> InputError:
    return InputError(
        f"'{path.name}' could not be looked at: it takes more time or memory than a file of its kind needs"
    )
