"""Tiny real pictures and data sets."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltg_core.data.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(tmp_path / "ws") as workspace:
        yield workspace


def picture(seed: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded(seed: int, kind: str = "PNG", side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(seed, side)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def make() -> Callable[..., np.ndarray]:
    return picture


@pytest.fixture
def encode() -> Callable[..., bytes]:
    return encoded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes in three splits, two pictures each, as somebody would lay them out."""
    root = tmp_path / "signs"
    for number, split in enumerate(("train", "valid", "test")):
        for place, label in enumerate(("stop", "give way")):
            target = root / split / label
            target.mkdir(parents=True)
            for image in range(2):
                (target / f"{image}.png").write_bytes(encoded(100 * number + 10 * place + image))
    return root
