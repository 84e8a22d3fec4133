"""What a page shows of a file that was just uploaded, read in a process that may fall over: weights and pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ltg_core.compat import ensure_torchvision
from ltg_core.data.images import read_image
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, ProgressFn
from ltg_core.models.preprocess import Preprocess
from ltg_core.workflows import confined
from ltg_core.workflows.bringing import WeightsReport, inspect_weights

PIXELS = "pixels"
"""What the reader writes of a picture: RGB, three bytes each."""


def desk(options: Mapping[str, Any]) -> Any:
    """The reader's side: ``weights`` (path, arch, room), ``picture`` (path, room), ``ready`` once all is there."""
    ensure_torchvision()

    def perform(task: str, given: Mapping[str, Any], on_progress: ProgressFn, cancel: CancelToken) -> Any:
        if task == "ready":
            return None
        path = Path(given["path"])
        room = Path(given["room"])
        confined.look(path, room)
        try:
            if task == "weights":
                return plain(inspect_weights(path, given["arch"], room=room))
            image = read_image(path)
            (room / PIXELS).write_bytes(image.tobytes())
        except MemoryError:
            raise InputError(f"'{path.name}' takes more memory than a file of its kind needs") from None
        return list(image.size)

    return perform


def plain(report: WeightsReport) -> dict[str, Any]:
    """A report as JSON values."""
    fields = {one.name: getattr(report, one.name) for one in dataclasses.fields(report)}
    return fields | {"preprocess": None if report.preprocess is None else report.preprocess.to_dict()}


def report_of(given: Mapping[str, Any]) -> WeightsReport:
    """The report that ``plain`` took apart."""
    suggested = tuple((str(name), float(score)) for name, score in given["suggested"])
    found = None if given["preprocess"] is None else Preprocess.from_dict(given["preprocess"])
    changed = {"suggested": suggested, "labels": tuple(given["labels"]), "preprocess": found}
    return WeightsReport(**{**given, **changed})


def picture_of(room: Path, size: list[int]) -> Image.Image:
    """The picture whose pixels the reader has written: there is nothing to be decoded."""
    return Image.frombytes("RGB", (size[0], size[1]), (room / PIXELS).read_bytes())
