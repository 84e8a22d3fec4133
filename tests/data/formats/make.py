"""Makes the fixture of the format that this code writes: ``python -m tests.data.formats.make``.

A fixture is made once, when a format is released, and never again: it is what users' disks hold. Format 1 was written
by the first version of this package, format 6 by the first one that is released. What the curation of later formats
adds is left out where the code does not know it yet, so that the same script serves every version.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from ltg_core.data.records import NewSample
from ltg_core.data.workspace import Workspace

HERE = Path(__file__).parent
MODEL = "abcdef0123456789"


def fill(ws: Workspace) -> None:
    """Six samples with everything that a workspace knows of samples."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    names = ("stop", "yield")
    run = ws.start_run("generate", {"steps": 2}, seed=7, hashes={"classifier": MODEL})
    batch = [
        NewSample(
            pixels[i], "real" if i < 4 else run.id, ("train", "val")[i % 2], i % 2, names[i % 2], f"{i}.png",
            f"picture number {i}", {"site": f"north {i}", "speed": i / 2}, "believed" if i == 4 else None,
        )
        for i in range(6)
    ]  # fmt: skip
    ids = ws.add_images(batch)
    ws.set_predictions(MODEL, {one: (i % 2, 0.5 + i / 20) for i, one in enumerate(ids)})
    ws.set_scores(MODEL, "margin", {one: (i / 10, 10.0 * i) for i, one in enumerate(ids[:5])})
    ws.put_array("some-features", np.arange(12, dtype=np.float32).reshape(6, 2))
    ws.put_state("label_names", list(names))
    ws.finish_run(run.id, "done", result={"images": 2})
    ws.start_run("score", {"batch": 8})  # its process ends with this one
    curate(ws, ids)


def curate(ws: Workspace, ids: list[str]) -> None:
    """Decisions, as far as this version knows them."""
    from ltg_core import curation

    curation.set_verdict(ws, ids[:2], "accepted")
    curation.set_verdict(ws, ids[2:3], "rejected")
    curation.tag(ws, ids[:1], add=["odd"])
    if hasattr(curation, "rate"):
        curation.rate(ws, ids[:1], 4)
    if hasattr(curation, "note"):
        curation.note(ws, ids[:1], "seen from behind")
    if hasattr(curation, "pin"):
        curation.pin(ws, ids[3:4])
    if hasattr(curation, "sets"):
        curation.sets.snapshot(ws, "first")
    if importlib.util.find_spec("ltg_core.data.joblog") is not None:
        from ltg_core.data.joblog import JobRecords
        from ltg_core.jobs import Job, Spec

        work = Spec("score", {})
        JobRecords(ws.database).save(
            Job("a" * 32, "score", "compute", lambda p, c: None, "Score", {}, "", work)
        )


def main() -> None:
    """Write ``format-<version>.zip`` beside this file, or into the folder that is named."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    folder = Path(tempfile.mkdtemp()) / "ws"
    with Workspace(folder) as ws:
        fill(ws)
        version = ws.database.rows("SELECT version FROM schema_version")[0][0]
        ws.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    with zipfile.ZipFile(out / f"format-{version}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, path.relative_to(folder))
    shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
