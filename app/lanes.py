"""Which jobs wait for each other, the processes that do their work, and what all workspaces of a server share."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from app.quotas import Folder, Uploads
from app.reader import Reader
from app.settings import Settings
from ltg_core import devices
from ltg_core.devices import Device
from ltg_core.jobs import CancelToken, Line, ProgressFn, Spec
from ltg_core.workers import Worker
from ltg_core.workers.engine import EngineSettings

log = logging.getLogger(__name__)

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
        device: Where their networks run: "auto", "cpu", "cuda" or "cuda:N".
    """

    def __init__(
        self, *, memory_gb: float = 0.0, engine: EngineSettings = _HERE, device: str = devices.CPU
    ) -> None:
        desk = "ltg_core.workflows.tasks:desk"
        options = {"engine": dataclasses.asdict(engine), "device": device}
        # Without the GPU its driver takes no memory, and the limit holds.
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == devices.CPU else {}
        given: dict[str, Any] = {"memory": int(memory_gb * 2**30), "environment": hidden}
        self._begun = set[str]()
        self.workers = {name: Worker(desk, options, name=name, **given) for name in (_COMPUTE, _DATA)}

    def start(self, lane: str) -> None:
        """Have the lane's process import and load before it is needed."""
        self._worker(lane).start()
        self._begun.add(self._worker(lane).name)

    def trouble(self) -> str:
        """Why a process that was begun cannot be started again after its end, in words; "" where all live."""
        try:
            for name in list(self._begun):
                self.workers[name].start()  # does nothing where it lives
        except OSError:
            log.exception("a worker cannot be started")
            return "a worker process cannot be started"
        return ""

    def device(self) -> Device:
        """Where networks run; waits until the process that holds them has tried it.

        Raises:
            LtgError: It is not there, does not work, or the process ended.
        """
        return Device(**self._worker(_COMPUTE).run("device", {}))

    def run(
        self, lane: str, workspace: Path, spec: Spec, on_progress: ProgressFn, cancel: CancelToken
    ) -> Any:
        """Do one task on a workspace in the lane's process, which opens it as well; see ``Worker.run``."""
        given = {"workspace": str(workspace.resolve()), "arguments": spec.arguments}
        return self._worker(lane).run(spec.task, given, on_progress=on_progress, cancel=cancel)

    def close(self) -> None:
        """End the processes."""
        self._begun.clear()
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
        given: dict[str, Any] = {"engine": settings.engine, "device": settings.device}
        self.lanes = Lanes(memory_gb=settings.limits.worker_gb, **given)
        self.trouble = ""  # why nothing can be computed
        self.device: Device | None = None  # once the process that holds the networks has said it
        self.reader = Reader(settings)
        self.line = Line()
        self.disk = Folder(settings.workspace)
        self.uploads: Uploads | None = None  # the server's, once there is one

    def close(self) -> None:
        """End the processes; what they were doing can be resumed."""
        self.reader.close()
        self.lanes.close()
