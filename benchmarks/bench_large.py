"""``make bench-large``: importing, and a page over a hundred thousand or a million samples.

Two parts. *Import*: pictures of 64 x 64 pixels, all different, written as PNG, imported with thumbnails. *Page*: a
workspace of ``--samples`` rows, made in parts (a call that is stopped goes on where it was; 5,000 different pictures are
shared by the rows, everything else differs), on which the real server answers the page's own events: pages, filters,
orders, searches, the table of classes, the map. Wall time is that of the client; CPU time that of the server's process,
which another process on the machine does not change.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import crowd
from benchmarks.measure import RESULTS, commit, machine, read_json, write_json
from benchmarks.page import Page
from benchmarks.ui import served
from benchmarks.users import children, memory
from ltg_core import workflows
from ltg_core.data.records import NewSample
from ltg_core.data.shelf import FOLDER
from ltg_core.data.workspace import Workspace
from ltg_core.types import Outputs
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.store import FeatureStore

PART = 10_000
MAPPED = 100_000
SIDE = 64
BAR_ROWS, BAR_SECONDS, BAR_MB = 1500.0, 0.3, 1536.0


def imported(work: Path, count: int) -> dict[str, Any]:
    """Rows a second of an import with thumbnails, and of the same import once more."""
    data, rows = work / f"pictures-{count}", []
    if not (data / "list.jsonl").exists():
        data.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
        for i in range(count):
            low, high, disc = rng.integers(0, 256, size=(3, 3))
            centre, radius = rng.uniform(0.3, 0.7, size=2), rng.uniform(0.1, 0.3)
            ramp = (low + (high - low) * (x * rng.random() + y * rng.random())[..., None]).clip(0, 255)
            inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
            pixels = np.where(inside[..., None], disc, ramp) + rng.normal(0, 6, (SIDE, SIDE, 1))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data / f"{i}.png")
            rows.append({"path": f"{i}.png", "class_name": f"class {i % 10}", "site": f"site {i % 12}"})
        (data / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    place = work / "imported"
    shutil.rmtree(place, ignore_errors=True)
    found: dict[str, Any] = {"rows": count}
    with Workspace(place) as ws:
        for name in ("first", "again"):
            wall, cpu = time.perf_counter(), time.process_time()
            report = workflows.import_data(ws, data / "list.jsonl")
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            found[name] = {
                "added": report.added, "rows_a_second": round(count / wall), "rows_a_cpu_second": round(count / cpu)
            }  # fmt: skip
    shutil.rmtree(place)
    return found


def made(folder: Path, count: int, seconds: float) -> bool:
    """A workspace of so many rows, part after part; False where the time ended first."""
    began = time.perf_counter()
    with Workspace(folder) as ws:
        classifier = workflows.use_classifier(ws, crowd.MODEL)
        pictures = crowd._pictures(ws, np.random.default_rng(0)) if ws.count() < count else []
        while (done := int(ws.get_state("large", 0))) < count:
            if time.perf_counter() - began > seconds:
                return False
            _part(ws, classifier, pictures, done, min(PART, count - done))
            ws.put_state("large", done + min(PART, count - done))
        if ws.get_state("map") is None:
            _map(ws, classifier, count)
        ws.put_state(f"scored-{classifier.hash}", "none")
    return True


def _part(ws: Workspace, classifier: Any, pictures: Any, start: int, size: int) -> None:
    """One part; made twice it is the same."""
    rng = np.random.default_rng([3, start])
    rows = crowd._rows(classifier, size, rng)
    site, camera, hour = (rng.integers(n, size=size) for n in (len(crowd.SITES), len(crowd.CAMERAS), 24))
    split, speed = (
        rng.choice(("train", "val", "test"), size=size, p=(0.7, 0.1, 0.2)),
        rng.gamma(4, 12, size=size),
    )
    batch = []
    for i in range(size):
        name, condition = classifier.labels[rows.label[i]], crowd.CONDITIONS[rows.condition[i]]
        meta = {
            "condition": condition, "site": crowd.SITES[site[i]], "camera": crowd.CAMERAS[camera[i]],
            "hour": int(hour[i]), "speed": round(float(speed[i]), 1),
        }  # fmt: skip
        batch.append(
            NewSample(
                pictures[(start + i) % len(pictures)], split=str(split[i]), label=int(rows.label[i]), label_name=name,
                source=f"{crowd.SITES[site[i]]}/{start + i:07d}.png", meta=meta,
                caption=f"a {name} sign, {condition}, seen by {crowd.CAMERAS[camera[i]]} at {int(hour[i])} h",
            )
        )  # fmt: skip
    ids = ws.add_images(batch)
    said = zip(rows.pred.tolist(), rows.confidence.tolist(), strict=True)
    ws.set_predictions(classifier.hash, dict(zip(ids, said, strict=True)))
    for name in crowd.SIGNALS:
        values = rng.normal(size=size) + 1.5 * (rows.pred != rows.label)
        ranks = 100 * values.argsort().argsort() / size
        ws.set_scores(
            classifier.hash, name,
            dict(zip(ids, zip(values.tolist(), ranks.tolist(), strict=True), strict=True)),
        )  # fmt: skip
    logits = torch.zeros(size, classifier.num_classes)
    logits[torch.arange(size), torch.from_numpy(rows.pred)] = 5.0
    early = classifier.outputs(torch.zeros(1, 3, SIDE, SIDE)).early
    blank = None if early is None else torch.zeros(size, early.shape[1])
    store = FeatureStore(ws, classifier)
    if store.missing(ids):
        store.add(ids, Outputs(logits, torch.from_numpy(rows.features), blank))


def _map(ws: Workspace, classifier: Any, count: int) -> None:
    """A stratified part by the main directions of its features, kept as a map; others are placed on demand."""
    from sklearn.decomposition import PCA

    base = ws.columns.base()
    step = max(1, count // MAPPED)
    order = np.argsort(base.label, kind="stable")[::step][:MAPPED]
    ids = ws.columns.ids(np.sort(order))
    features = FeatureStore(ws, classifier).features(ids)
    with recorded(ws, "map", {"samples": len(ids)}, hashes={"classifier": classifier.hash}) as recording:
        key = f"map-{recording.run.id}"
        ws.put_array(key, PCA(2, random_state=0).fit_transform(features).astype(np.float32))
        ws.put_array(f"{key}-ids", np.array([one.encode() for one in ids]))
        recording.result |= {"samples": len(ids), "notes": [f"{len(ids):,} of {count:,} samples."]}
        ws.put_state("map", {"run": recording.run.id, "model_hash": classifier.hash})


def events(page: Page, count: int) -> dict[str, Callable[[int], Any]]:
    """What is asked of the page, by name; each gets the number of the turn."""

    def act(part: str, **data: Any) -> Any:
        return page.call(part, "act", data)

    def filtered(field: str, value: str) -> Callable[[int], Any]:
        def both(turn: int) -> Any:
            act("browse-count", name="clear")
            return "timed", lambda: act("browse-facets", name="filter", field=field, value=value)

        return both

    last = count // 60
    return {
        "next page": lambda turn: act("browse-count", name="page", to=str(turn + 2)),
        "last page": lambda turn: act("browse-count", name="page", to=str(last - turn)),
        "page in the middle": lambda turn: act("browse-count", name="page", to=str(last // 2 + turn)),
        "200 a page": lambda turn: act("browse-count", name="size", n=(60, 200)[turn % 2]),
        **{
            f"order: {name}": (lambda turn, name=name: page.call("browse-sort", "input", browse_sort=name))
            for name in ("epistemic", "energy", "entropy", "-confidence", "created")
        },
        "filter: split": filtered("split", "val"),
        "filter: wrong": filtered("answer", "wrong"),
        "filter: camera": filtered("meta.camera", "camera-007"),
        "filter: speed": filtered("meta.speed", "10..20"),
        "words: rare": lambda turn: page.call("browse-text", "submit", browse_text=f"camera-0{turn + 10} fog"),
        "words: common": lambda turn: page.call("browse-text", "submit", browse_text=("sign", "seen")[turn % 2]),
        "no words": lambda turn: page.call("browse-text", "submit", browse_text=""),
        "confusion": lambda turn: act("browse-count", name="show", mode=("confusion", "samples")[turn % 2]),
        "classes": lambda turn: act("browse-count", name="show", mode=("classes", "samples")[turn % 2]),
        "map": lambda turn: page.show("map"),
        "curate": lambda turn: page.show("curate"),
    }  # fmt: skip


def columns_read(folder: Path) -> dict[str, float]:
    """CPU seconds until what the first views need is there: from the database, and from the files of the columns."""
    found = {}
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    for where in ("from_database_cpu_s", "from_files_cpu_s"):  # the first writes what the second reads
        with Workspace(folder) as ws:
            model = ws.get_state("classifier")["hash"]
            began = time.process_time()
            ws.columns.warm(model, ws.score_names(model))
            found[where] = round(time.process_time() - began, 2)
    return found


def paged(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Seconds of every event on the real server, first and median of the later ones; the server's memory."""
    with Workspace(folder) as ws:
        model = ws.models_folder / str(ws.get_state("classifier")["hash"]) / "classifier.safetensors"
    columns, log = columns_read(folder), folder.parent / "server.log"
    print("columns", columns, flush=True)
    with served(log, "--workspace", str(folder), "--model", str(model)) as address:
        page = Page(address)
        server = next(
            pid for pid in children(os.getpid()) if b"app.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        began = time.perf_counter()
        page.show("browse")
        found: dict[str, Any] = {"first view": {"s": round(time.perf_counter() - began, 3)}}
        for name, ask in events(page, count).items():
            found[name] = _timed(ask, server, repeats)
            print(f"{name:20s} {found[name]}", flush=True)
        found["picture"] = _pictures(page, folder, repeats)
        every = [round(memory(pid)) for pid in children(server)]
        page.close()
    return {"events": found, "columns": columns, "server_mb": every[0], "workers_mb": every[1:]}


def _timed(ask: Callable[[int], Any], server: int, repeats: int) -> dict[str, float]:
    wall, cpu = [], []
    for turn in range(repeats + 1):
        began, used = time.perf_counter(), _cpu(server)
        said = ask(turn)
        if isinstance(said, tuple):  # what came before it is not counted
            began, used = time.perf_counter(), _cpu(server)
            said[1]()
        wall.append(time.perf_counter() - began)
        cpu.append(_cpu(server) - used)
    return {
        "first_s": round(wall[0], 3), "median_s": round(statistics.median(wall[1:]), 3),
        "first_cpu_s": round(cpu[0], 2), "median_cpu_s": round(statistics.median(cpu[1:]), 2),
    }  # fmt: skip


def _pictures(page: Page, folder: Path, repeats: int) -> dict[str, float]:
    with Workspace(folder) as ws:
        ids = ws.query(limit=repeats * 10)
    wall = []
    for one in ids:
        began = time.perf_counter()
        assert page.get(f"/media/thumb/{one}").status_code == 200
        wall.append(time.perf_counter() - began)
    return {"median_s": round(statistics.median(wall), 4)}


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure, print, keep; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=20_000, help="of the import; 0 to leave it out")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "longtail-large")
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="stop making rows after so long; goes on next time"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "large.json")
    given = parser.parse_args()
    load = [round(os.getloadavg()[0], 1)]
    said: dict[str, Any] = read_json(given.out) or {}
    if given.pictures:
        said["import"] = imported(given.work, given.pictures) | {
            "machine": machine(),
            "commit": commit(),
            "load_average": load[0],
        }
        print(said["import"], flush=True)
        write_json(given.out, said)
    folder = given.work / f"ws-{given.samples}"
    if given.samples:
        if not made(folder, given.samples, given.seconds):
            print("not all rows are there yet; the same command goes on")
            return 2
        found = paged(folder, given.samples, given.repeats)
        load.append(round(os.getloadavg()[0], 1))
        about = {"machine": machine(), "commit": commit(), "load_average": load, "repeats": given.repeats}
        said[f"page {given.samples:,}"] = {**about, "disk_mb": _disk(folder), **found}
        write_json(given.out, said)
    return _tell(said)


def _disk(folder: Path) -> int:
    return round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20)


def _tell(said: dict[str, Any]) -> int:
    missed = []
    if "import" in said and said["import"]["first"]["rows_a_second"] < BAR_ROWS:
        missed.append(f"import: {said['import']['first']}")
    for name, part in said.items():
        if name.startswith("page"):
            slow = {event: t for event, t in part["events"].items() if t.get("median_s", 0) > BAR_SECONDS}
            missed += [f"{name}: {event} {t}" for event, t in slow.items()]
            missed += [f"{name}: {part['server_mb']} MB"] if part["server_mb"] > BAR_MB else []
    print("\n".join(missed) if missed else "every bar is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
