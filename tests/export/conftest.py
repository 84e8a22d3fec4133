"""A workspace with one sample of every kind that matters for an export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltg_core import curation
from ltg_core.data.workspace import Workspace

HOSTILE = "<img src=x onerror=alert(1)>/../../evil"


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(tmp_path / "ws") as workspace:
        workspace.set_label_names(["stop", HOSTILE])
        yield workspace


@pytest.fixture
def world(ws: Workspace) -> dict[str, str]:
    """One sample of every kind that matters, by a name for it."""
    run = ws.start_run(
        "generate", {"signal": "epistemic", "weight": 2.5}, seed=11, hashes={"classifier": "m"}
    )
    real = {"origin": "real", "label": 0, "label_name": "stop"}
    made = {"origin": run.id, "label": 0, "label_name": "stop", "caption": "a stop sign at night"}
    ids = {split: ws.add_image(picture(i), split=split, source=f"{split}.png", **real)
           for i, split in enumerate(("train", "val", "test"))}  # fmt: skip
    ids["generated"] = ws.add_image(picture(10), meta={"prompt": "a stop sign at night", "seed": 5}, **made)
    ids["from train"] = ws.add_image(picture(11), meta={"source": ids["train"], "seed": 6}, **made)
    ids["from test"] = ws.add_image(picture(12), meta={"source": ids["test"], "seed": 7}, **made)
    ids["from that"] = ws.add_image(picture(13), meta={"source": ids["from test"], "seed": 8}, **made)
    ids["from nowhere"] = ws.add_image(picture(14), meta={"source": "0123456789", "seed": 9}, **made)
    ids["copy of val"] = ws.add_image(picture(1), meta={"seed": 10}, **made)
    ids["copy of generated"] = ws.add_image(picture(10), meta={"seed": 12}, **made)
    ids["unlabelled"] = ws.add_image(picture(15), origin="real", split="train")
    ids["hostile"] = ws.add_image(picture(16), origin="real", split="train", label=1, label_name=HOSTILE)
    ws.finish_run(run.id, "done")
    ws.set_scores("m", "entropy", {ids["generated"]: (1.5, 97.0)})
    ws.set_predictions("m", {ids["generated"]: (1, 0.75)})
    curation.set_verdict(ws, [ids["generated"]], "accepted")
    curation.tag(ws, [ids["generated"]], add=["night"])
    return ids


def manifest(path: Path) -> dict[str, dict[str, Any]]:
    """The records of an export by sample id."""
    lines = (path / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}
