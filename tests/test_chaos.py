"""A sample of ``make chaos``, and that the campaign would notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos.__main__ import wanted
from benchmarks.chaos.steps import Curation, Generation, Import, decisions
from ltg_core import curation
from ltg_core.data.records import NewSample
from ltg_core.data.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

# Three files and two transactions, acknowledged one by one; killed before each of its writes.
_POINTS = """
import json, sys
from pathlib import Path
from benchmarks.chaos.kill import attempt
from ltg_core.data.database import Database

place = Path(sys.argv[1])

def work(folder, ack):
    folder.mkdir()
    database = Database(folder / "d.sqlite")
    for number in range(2):
        (folder / str(number)).write_text("x")
        with database.write() as connection:
            connection.execute("INSERT INTO state VALUES (?, '1')", (str(number),))
        ack(number)
    return "whole"

whole = attempt(lambda ack: work(place / "whole", ack))
rows = []
for at in range(1, whole.writes + 2):
    out = attempt(lambda ack, at=at: work(place / str(at), ack), at_write=at)
    files = sorted(p.name for p in (place / str(at)).glob("[01]")) if (place / str(at)).exists() else None
    rows.append([out.killed, out.acks, files, out.result])
bad = attempt(lambda ack: 1 / 0)
slow = attempt(lambda ack: __import__("time").sleep(60), after=0.2)
print(json.dumps({"writes": whole.writes, "acks": whole.acks, "rows": rows, "bad": [bad.error, bad.ours, bad.killed],
                  "slow": [slow.killed, slow.error]}))
"""


def test_points_that_other_code_has_passed_are_tried_again_after_those_that_nobody_tried():
    rows = [{"fault": "kill", "number": 0, "code": "a"}, {"fault": "kill", "number": 1, "code": "b"}]
    rows.append({"fault": "busy", "number": 0})  # of before codes were noted
    asked = wanted(["kill", "busy"], 3, rows, "b")
    assert asked == [("kill", 2), ("busy", 1), ("kill", 0), ("busy", 0)]


def test_a_child_is_killed_before_each_of_its_writes(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", _POINTS, str(tmp_path)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    rows = said["rows"]
    assert said["acks"] == [0, 1] and said["writes"] > 8
    assert all(killed and result is None for killed, _, _, result in rows[:-1])
    assert rows[-1] == [False, [0, 1], ["0", "1"], "whole"], "one write more than there are"
    assert rows[0][2] is None, "before the first write there is nothing"
    assert rows[-2][1] == [0] and rows[-2][2] == ["0", "1"], "the last write is the second transaction's end"
    assert {len(acks) for _, acks, _, _ in rows} == {0, 1, 2} and {
        len(f) for _, _, f, _ in rows if f is not None
    } == {
        0,
        1,
        2,
    }
    assert said["bad"] == [["ZeroDivisionError", "division by zero"], False, False]
    assert said["slow"] == [True, None]


@pytest.mark.slow
def test_a_sample_of_the_campaign_finds_nothing_wrong(_fitted_workspace: Path, tmp_path: Path):
    """One kill in each kind of work, at points that differ with the commit's writes."""
    import shutil

    shutil.copytree(_fitted_workspace, tmp_path / "base")
    words = [
        "--base",
        tmp_path / "base",
        "--work",
        tmp_path / "work",
        "--points",
        7,
        "--only",
        "kill",
        "--seed",
        1,
    ]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.chaos", *map(str, words)]
    out = tmp_path / "chaos.json"
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert out.exists(), done.stderr[-2000:]
    rows = json.loads(out.read_text())["rows"]
    assert [row["wrong"] for row in rows] == [[]] * 7, json.dumps(rows, indent=1)
    assert {row["step"] for row in rows} == {
        "import", "head fit", "generation", "curation", "export", "retraining", "backup"
    }  # fmt: skip
    assert done.returncode == 0 and "7 points, 0 went wrong" in done.stdout


def test_what_is_lost_is_noticed(empty_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import numpy as np

    ws, rng = empty_workspace, np.random.default_rng(0)
    run = ws.start_run("generate", {})
    ids = ws.add_images(
        [NewSample(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8), origin=run.id) for _ in range(12)]
    )
    here = ws.sample(ids[0]).image_hash
    assert Import(tmp_path).kept(ws, [3, 12], None) == []
    assert Import(tmp_path).kept(ws, [3, 13], None) == ["13 samples were acknowledged, 12 are there"]
    assert Generation(tmp_path).kept(ws, [[here]], None) == []
    assert Generation(tmp_path).kept(ws, [[here], [here, "other"]], None) == ["1 finished images are gone"]

    step, acks = Curation(tmp_path), []
    reference = step.work(ws.path, acks.append)
    assert acks == list(range(1, len(decisions(ids)) + 1)) and len(reference) == len(acks) + 1
    now = step.again(ws.path, acks.append)
    assert step.same(now, acks, reference) and step.same(now, acks[:-1], reference)
    assert not step.same(now, acks[:-2], reference), "a decision that nobody made"
    curation.undo(ws)
    assert not step.same(step.again(ws.path, acks.append), acks, reference), "one that is lost"
