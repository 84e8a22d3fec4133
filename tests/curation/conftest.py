"""A workspace with a few plain pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ltg_core.data.records import NewSample
from ltg_core.data.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(tmp_path / "ws") as workspace:
        yield workspace


@pytest.fixture
def ids(ws: Workspace) -> list[str]:
    return ws.add_images([NewSample(np.full((4, 4, 3), i, dtype=np.uint8)) for i in range(5)])
