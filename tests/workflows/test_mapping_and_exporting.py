"""The map and the export as runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ltg_core import workflows
from ltg_core.curation import verdicts
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError


def test_the_map_places_every_sample_and_is_read_the_second_time(fitted: Workspace, classifier):
    assert workflows.map_points(fitted) == {}
    settings = workflows.MapSettings(neighbours=5)
    run = workflows.map_samples(fitted, classifier, settings)
    points = workflows.map_points(fitted)
    assert points["id"] == fitted.query() and len(points["x"]) == 72
    assert np.isfinite(points["x"]).all() and np.isfinite(points["y"]).all()
    samples = fitted.samples(points["id"])
    said = fitted.predictions(points["id"], classifier.hash)
    for row, sample in enumerate(samples):
        assert points["label"][row] == sample.label and points["split"][row] == sample.split
        assert (
            points["pred"][row] == said[sample.id].pred and points["correct"][row] == said[sample.id].correct
        )
    again = workflows.map_samples(fitted, classifier, settings)
    assert again.id != run.id and again.result["cached"] and not run.result["cached"]
    assert workflows.map_points(fitted)["x"] == points["x"]


def test_a_map_of_too_few_samples_is_refused_and_the_last_one_stays(fitted: Workspace, classifier):
    with pytest.raises(InputError, match="at least 5"):
        workflows.map_samples(fitted, classifier, ids=fitted.query()[:3])
    assert fitted.runs("map")[0].state == "failed" and workflows.map_points(fitted) == {}


def test_the_accepted_samples_are_exported_unless_others_are_named(fitted: Workspace, tmp_path: Path):
    train = fitted.query(Filter(split="train"))
    verdicts.set_verdict(fitted, train[:3], "accepted")
    run, report = workflows.export(fitted, None, "imagefolder", tmp_path / "set")
    assert run.state == "done" and report.n == run.result["samples"] == 3
    lines = (tmp_path / "set" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["id"] for line in lines} == set(train[:3])
    run, report = workflows.export(fitted, train[3:5], "parquet")
    assert report.n == 2 and report.path == fitted.exports_folder / run.id


def test_held_out_samples_are_left_out_and_the_run_says_why(fitted: Workspace, tmp_path: Path):
    mixed = fitted.query(Filter(split="train"))[:1] + fitted.query(Filter(split="test"))[:2]
    run, report = workflows.export(fitted, mixed, "imagefolder", tmp_path / "set")
    assert report.n == 1 and run.result["left_out"] == 2
    assert any("kept for measuring" in reason for reason in run.result["reasons"])


def test_with_nothing_accepted_there_is_nothing_to_export(fitted: Workspace):
    with pytest.raises(InputError, match="no sample is accepted yet"):
        workflows.export(fitted, None)
