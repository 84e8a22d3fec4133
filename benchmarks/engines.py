"""``python -m benchmarks.engines``: the same images by one process and by Ray, and what Ray costs beside them.

A run is begun and stopped before its first image, its workspace copied, and each copy is finished by the command line
(``generate --resume``) with one thread a worker, by another engine. The pictures must be the same, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, ROOT, commit, machine, write_json
from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled
from ltg_core.guidance.settings import PRESETS
from ltg_core.jobs import CancelToken

ENGINES: dict[str, tuple[str, ...]] = {
    "one process": (),
    "Ray, 1 worker": ("--engine", "ray", "--ray-workers", "1"),
    "Ray, 2 workers": ("--engine", "ray", "--ray-workers", "2"),
}


def begun(folder: Path, images: int, preset: str) -> str:
    """A workspace of the demo with a run that has no image yet; returns the run."""
    with Workspace(folder) as ws:
        workflows.open_demo(ws, workflows.DEMO)
        classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
        workflows.score(ws, classifier)
        if workflows.reference(ws, classifier) is None:
            workflows.fit_head(ws, classifier)
        names = classifier.labels
        each = -(-images // len(names))
        plan = workflows.plan_classes(classifier, generator, names, per_class=each)
        cut = {name: value[:images] if value else value for name, value in dataclasses.asdict(plan).items()}
        stopped = CancelToken()
        stopped.cancel()
        with contextlib.suppress(Cancelled):
            workflows.generate(
                ws, classifier, generator, **cut, guidance=PRESETS[preset], preset=preset, cancel=stopped
            )
        return ws.runs("generate")[0].id


def finished(folder: Path, run: str, words: tuple[str, ...]) -> tuple[float, list[str]]:
    """Seconds of the whole command, and the hashes of its pictures in their order."""
    command = [sys.executable, "-m", "ltg_core", "generate", "--resume", run, "--workspace", str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    subprocess.run(
        [*command, "--device", "cpu", "--quiet", "--json", *words],
        cwd=ROOT,
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    seconds = time.monotonic() - started
    with Workspace(folder) as ws:
        return seconds, [sample.image_hash for sample in ws.samples(ws.query(Filter(origin=run)))]


def main() -> None:
    """Measure, compare, write down."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--images", type=int, default=64)
    made.add_argument("--preset", choices=tuple(PRESETS), default="unguided")
    given = made.parse_args()
    rows: dict[str, Any] = {}
    pictures: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        start = Path(place) / "start"
        run = begun(start, given.images, given.preset)
        for name, words in ENGINES.items():
            folder = Path(place) / "now"
            shutil.copytree(start, folder)
            seconds, pictures[name] = finished(folder, run, words)
            shutil.rmtree(folder)
            first = rows.get("one process", {"seconds": seconds})["seconds"]
            rows[name] = {"seconds": round(seconds, 1), "ratio": round(seconds / first, 2)}
            print(f"{name}: {seconds:.1f} s, {seconds / first:.2f} of one process", flush=True)
    same = all(found == pictures["one process"] for found in pictures.values())
    print("the same pictures" if same else "OTHER PICTURES")
    record = {"machine": machine(), "commit": commit(), "images": given.images, "preset": given.preset}
    write_json(RESULTS / "engines.json", {**record, "same": same, "rows": rows})
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
