"""Which jobs wait for each other, the processes that do their work, and what all workspaces of a server share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.quotas import Folder, Uploads
from app.reader import Reader
from app.settings import Settings
from ltg_core.jobs import CancelToken, Line, ProgressFn, Spec
from ltg_core.workers import Worker
from ltg_core.workers.engine import EngineSettings

LANES: Mapping[str, str] = MappingProxyType(
    {"setup": "data", "map": "map", "export": "disk", "tell": "disk", "slices": "data"}
)
"""Lane by kind of job. All others share one lane, for there is one accelerator."""

_COMPUTE, _DATA = "compute", "data"
_GRACE = 1.0
_HERE = EngineSettings()


class Lanes:
    """Two processes for all lanes: one holds the models and does what needs the accelerator, the other does the rest.

    Args:
        memory_gb: What a process may take; 0 for no limit.
        engine: Who does the units of their tasks.
    """

    def __init__(self, *, memory_gb: float = 0.0, engine: EngineSettings = _HERE) -> None:
        desk, options = "ltg_core.workflows.tasks:desk", {"engine": dataclasses.asdict(engine)}
        self.workers = {
            name: Worker(desk, options, name=name, memory=int(memory_gb * 2**30))
            for name in (_COMPUTE, _DATA)
        }

    def start(self, lane: str) -> None:
        """Have the lane's process import and load before it is needed."""
        self._worker(lane).start()

    def run(
        self, lane: str, workspace: Path, spec: Spec, on_progress: ProgressFn, cancel: CancelToken
    ) -> Any:
        """Do one task on a workspace in the lane's process, which opens it as well; see ``Worker.run``."""
        given = {"workspace": str(workspace.resolve()), "arguments": spec.arguments}
        return self._worker(lane).run(spec.task, given, on_progress=on_progress, cancel=cancel)

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers.values():
            worker.close(_GRACE)

    def _worker(self, lane: str) -> Worker:
        return self.workers[_COMPUTE if lane == _COMPUTE else _DATA]


class Machine:
    """What there is once, however many workspaces a server has: its processes, the line before them, its disk.

    Args:
        settings: From the command line; ``settings.workspace`` holds everything.
    """

    def __init__(self, settings: Settings) -> None:
        self.lanes = Lanes(memory_gb=settings.limits.worker_gb, engine=settings.engine)
        self.reader = Reader(settings)
        self.line = Line()
        self.disk = Folder(settings.workspace)
        self.uploads: Uploads | None = None  # the server's, once there is one

    def close(self) -> None:
        """End the processes; what they were doing can be resumed."""
        self.reader.close()
        self.lanes.close()
