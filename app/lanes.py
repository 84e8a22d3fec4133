"""Which jobs wait for each other, and the processes that do their work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ltg_core.jobs import CancelToken, ProgressFn, Spec
from ltg_core.workers import Worker

LANES: Mapping[str, str] = MappingProxyType(
    {"setup": "data", "map": "map", "export": "disk", "tell": "disk", "slices": "data"}
)
"""Lane by kind of job. All others share one lane, for there is one accelerator."""

_COMPUTE, _DATA = "compute", "data"
_GRACE = 1.0


class Lanes:
    """Two processes for all lanes: one holds the models and does what needs the accelerator, the other does the rest.

    Args:
        workspace: Its folder; the workers open it as well.
        memory_gb: What a process may take; 0 for no limit.
    """

    def __init__(self, workspace: Path, *, memory_gb: float = 0.0) -> None:
        options = {"workspace": str(workspace.resolve())}
        desk = "ltg_core.workflows.tasks:desk"
        self.workers = {
            name: Worker(desk, options, name=name, memory=int(memory_gb * 2**30))
            for name in (_COMPUTE, _DATA)
        }

    def start(self, lane: str) -> None:
        """Have the lane's process import and load before it is needed."""
        self._worker(lane).start()

    def run(self, lane: str, spec: Spec, on_progress: ProgressFn, cancel: CancelToken) -> Any:
        """Do one task in the lane's process; see ``Worker.run``."""
        return self._worker(lane).run(spec.task, spec.arguments, on_progress=on_progress, cancel=cancel)

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers.values():
            worker.close(_GRACE)

    def _worker(self, lane: str) -> Worker:
        return self.workers[_COMPUTE if lane == _COMPUTE else _DATA]
