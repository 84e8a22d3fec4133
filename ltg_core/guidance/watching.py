"""Watching a run: progress, cancelling, a preview and the signal of the clean estimates; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ltg_core.generators.base import Calls, Generator
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance.cost import LOOK
from ltg_core.guidance.settings import STAGES
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.types import Images, Labels, Latents, Scores


class Watch:
    """What somebody who waits is told.

    Args:
        generator: Decodes what is shown.
        level: (images, labels) -> signal as standard scores, (B,).
        labels: (B,) intended classes of the batch.
        total: Steps that are expected.
        on_progress: Told after every step.
        cancel: Checked at every step.

    Attributes:
        stage: A key of ``STAGES``.
        looks: See ``GenerateResult``.
    """

    def __init__(
        self,
        generator: Generator,
        level: Callable[[Images, Labels], Scores],
        labels: Labels,
        total: int,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> None:
        self.generator, self.labels, self.total = generator, labels, total
        self.on_progress, self.cancel = on_progress, cancel
        self.stage = "control"
        self.looks: list[dict[str, Any]] = []
        self._level = level
        self._preview: np.ndarray | None = None
        self._done = 0

    def tick(self, clean: Latents, schedule: Schedule, index: int, first: int) -> None:
        """After step ``index`` of a run that began at ``first``.

        Raises:
            Cancelled: On request.
        """
        self.cancel.check()
        self._done += 1
        step, of = index - first + 1, len(schedule) - first
        if self.on_progress is not no_progress and (step % LOOK == 0 or step in (1, of)):
            self._look(clean, step, of)
        what = f"{STAGES[self.stage]}, step {step} of {of}"
        done, total = min(self._done, self.total), max(self.total, self._done)
        self.on_progress(Progress(done, total, what, self._preview))

    @torch.no_grad()
    def _look(self, clean: Latents, step: int, of: int) -> None:
        """The clean estimate of each image (of its first candidate) as a picture, and its signal."""
        images = len(self.labels)
        count = min(8, images)
        rows = clean[:: max(1, len(clean) // images)][:count]
        calls = Calls(self.generator.calls)
        shown = self.generator.chunked(lambda z: self.generator.decode(z, tiny=True), rows).clamp(0, 1)
        level = [round(float(v), 4) for v in self._level(shown, self.labels[:count])]
        self.generator.calls.clear()
        self.generator.calls.update(calls)  # looking does not count as computing
        self._preview = to_uint8(shown)
        self.looks.append({"stage": self.stage, "step": step, "of": of, "level": level})


def to_uint8(images: Images) -> np.ndarray:
    """(B, 3, H, W) in [0, 1] to (B, H, W, 3) uint8, rounded."""
    array: np.ndarray = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return array


def from_uint8(images: np.ndarray | Sequence[np.ndarray]) -> Images:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(images))).permute(0, 3, 1, 2).float() / 255
