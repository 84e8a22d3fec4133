"""A process of its own for UMAP: its compiler takes long once, and its loops would stall a server's threads.

The process is a ``Worker`` like the others; arrays travel as files.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltg_core.embedding.layout import Coordinates, MapSettings, lay_out
from ltg_core.errors import LtgError, MissingExtra, WorkerLost
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.workers import Worker

POLL = 0.1
"""Seconds between looks at the cancel token while waiting for a turn."""
_STAGES = 4


class UmapWorker:
    """A handle on the child: started on first use, restarted when it died, closed with the program.

    One layout at a time; other threads wait for their turn.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._worker = Worker("ltg_core.embedding.umap_worker:desk", name="map")

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return self._worker.pid

    def run(
        self,
        features: NDArray[np.float32],
        settings: MapSettings,
        *,
        compiled: Path | None = None,
        on_progress: ProgressFn = no_progress,
        cancel: CancelToken | None = None,
    ) -> Coordinates:
        """Lay out features in the child.

        Args:
            features: (N, D) finite.
            settings: As declared.
            compiled: Where a new child may keep compiled code when the usual places cannot be written.
            on_progress: Called at every stage.
            cancel: Ends the child; the next call starts another.

        Raises:
            Cancelled: Asked for through ``cancel``.
            MissingExtra: UMAP is not installed.
            LtgError: The child ended or failed; the message says how.
        """
        token = cancel or CancelToken()
        while not self._turn.acquire(timeout=POLL):
            token.check()
        try:
            token.check()
            require_umap()
            with tempfile.TemporaryDirectory(prefix="map-") as folder:
                given, made = Path(folder, "features.npy"), Path(folder, "coords.npy")
                np.save(given, features)
                request = {"features": str(given), "coords": str(made), "settings": settings.to_dict()}
                if self.pid is None:
                    self._worker.environment = _environment(compiled)
                self._ask(request, on_progress, token)
                return np.asarray(np.load(made, allow_pickle=False), dtype=np.float32)
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the child at once; a later ``run`` starts another."""
        self._worker.close()

    def _ask(self, request: dict[str, Any], on_progress: ProgressFn, token: CancelToken) -> None:
        try:
            # A fit cannot be interrupted in any other way than with its process.
            self._worker.run("lay out", request, on_progress=on_progress, cancel=token, kill=True)
        except WorkerLost as error:
            raise LtgError(f"{error}. For a map, try again with a smaller max_points") from error
        on_progress(Progress(_STAGES, _STAGES, "map ready"))


def require_umap() -> None:
    """Check that UMAP is installed, without importing it.

    Raises:
        MissingExtra: It is not; the message names the command.
    """
    if importlib.util.find_spec("umap") is None:
        raise MissingExtra("the map needs umap-learn, which is not installed; run: pip install umap-learn")


def desk(options: dict[str, Any]) -> Callable[..., None]:
    """What the child does: one task, a layout from file to file."""

    def perform(task: str, arguments: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken) -> None:
        def say(stage: int, message: str) -> None:
            on_progress(Progress(stage, _STAGES, message))

        features = np.load(arguments["features"], allow_pickle=False)
        coords = lay_out(features, MapSettings.from_dict(arguments["settings"]), say)
        np.save(arguments["coords"], coords)

    return perform


def _environment(compiled: Path | None) -> dict[str, str]:
    """The child's own variables: one thread, a place for compiled code."""
    env = {"NUMBA_NUM_THREADS": "1"}  # a seeded layout is sequential anyway
    if compiled is not None and "NUMBA_CACHE_DIR" not in os.environ and not _keeps_compiled_code():
        compiled.mkdir(parents=True, exist_ok=True)
        env["NUMBA_CACHE_DIR"] = str(compiled)
    return env


def _keeps_compiled_code() -> bool:
    """Whether compiled code finds its usual places: beside the package or in the user's cache folder."""
    spec = importlib.util.find_spec("umap")
    beside = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return any(os.access(place, os.W_OK) for place in (*beside, Path.home()))
