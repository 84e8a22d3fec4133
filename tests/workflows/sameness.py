"""What a workspace holds, for tests that say two of them are the same."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ltg_core import workflows
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled
from ltg_core.guidance.settings import Guidance
from ltg_core.jobs import CancelToken

QUICK = Guidance(
    steps=2, search="none", climb="denoiser-free", band_start=0.0, band_end=1.0, every=1, augment=False
)


def begin(ws: Workspace, number: int, **options: Any) -> str:
    """A run that was stopped before its first unit, so that several can take it up."""
    classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
    plan = workflows.plan_classes(classifier, generator, ["stop"], per_class=number)
    stopped = CancelToken()
    stopped.cancel()
    with pytest.raises(Cancelled):
        workflows.generate(
            ws, classifier, generator, **dataclasses.asdict(plan), guidance=QUICK, cancel=stopped, **options
        )
    return ws.runs("generate")[0].id


def copies(ws: Workspace, tmp_path: Path) -> tuple[Workspace, Workspace]:
    """Two workspaces that are the same."""
    for name in ("one", "two"):
        shutil.copytree(ws.path, tmp_path / name)
    return Workspace(tmp_path / "one"), Workspace(tmp_path / "two")


def rows(ws: Workspace) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the database says of samples but the time, in the order in which it was written."""
    said = {}
    for table in ("samples", "predictions", "scores"):
        columns = [row[1] for row in ws.database.rows(f"PRAGMA table_info({table})") if row[1] != "created"]
        order = "seq" if table == "samples" else "1, 2"
        found = ws.database.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}")
        said[table] = [tuple(row) for row in found]
    return said


def files(folder: Path) -> dict[str, str]:
    """Hash of every file by its place; what tells of times is left out of the text."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            timed = rb'"(seconds|started|finished|created)": ("[^"]*"|[0-9.e+-]+|null)'
            content = re.sub(timed, b"", content)
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found
