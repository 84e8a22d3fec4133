"""The map where there are too many samples, what its points are, and their neighbours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ltg_core import workflows
from ltg_core.curation import verdicts
from ltg_core.data.records import Filter, NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError
from ltg_core.jobs import CancelToken, Progress

SETTINGS = workflows.MapSettings(neighbours=5, max_points=50)


@pytest.fixture(scope="module")
def _mapped(_fitted_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of 72 real and 6 generated samples with a map of 50 points; made once."""
    folder = tmp_path_factory.mktemp("mapped") / "ws"
    shutil.copytree(_fitted_workspace, folder)
    with Workspace(folder) as ws:
        run = ws.start_run("generate", {"preset": "explore"}, seed=0)
        rng = np.random.default_rng(0)
        ws.add_images(
            [
                NewSample(
                    Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)),
                    origin=run.id,
                    label=0,
                    label_name="stop",
                    source=f"{run.id}/{i}",
                    meta={"fog": i / 7},
                    belief="believed" if i else "quarantined",
                )
                for i in range(6)
            ]
        )
        ws.finish_run(run.id, "done")
        workflows.map_samples(ws, workflows.active_classifier(ws), SETTINGS)
    return folder


@pytest.fixture
def mapped(_mapped: Path, tmp_path: Path) -> Iterator[Workspace]:
    shutil.copytree(_mapped, tmp_path / "ws")
    with Workspace(tmp_path / "ws") as ws:
        yield ws


def test_too_many_samples_are_drawn_evenly_and_all_generated_ones_are_there(mapped: Workspace):
    run = mapped.runs("map")[0]
    assert run.result["drawn"] == "44 of 72 real samples, evenly by class; all 6 generated"
    table = workflows.map_table(mapped)
    assert table is not None and len(table.ids) == 50 and table.generated.sum() == 6
    counts = np.bincount(table.label[~table.generated])
    assert counts.max() - counts.min() <= 1
    assert table.density is not None and table.coords.shape == (50, 2)
    assert [table.names[i] for i in table.label] == [s.label_name for s in mapped.samples(table.ids)]


def test_the_rest_is_placed_on_demand_and_what_stood_there_stays(mapped: Workspace):
    before = workflows.map_points(mapped)
    result = workflows.place_on_map(mapped)
    after = workflows.map_points(mapped)
    assert json.loads(json.dumps(result)) == result and result["placed"] == 28 and result["samples"] == 78
    assert after["id"][:50] == before["id"] and after["x"][:50] == before["x"]
    assert set(after["id"]) == set(mapped.query())
    inside = np.array([after["x"], after["y"]])
    low, high = inside[:, :50].min(axis=1), inside[:, :50].max(axis=1)
    assert (inside.min(axis=1) >= low - 1e-4).all() and (inside.max(axis=1) <= high + 1e-4).all()
    again = workflows.place_on_map(mapped)
    assert again["placed"] == 28, "nothing is placed twice"


def test_one_sample_can_be_placed_and_a_full_map_says_so(mapped: Workspace):
    there = set(workflows.map_points(mapped)["id"])
    new = next(one for one in mapped.query() if one not in there)
    workflows.place_on_map(mapped, [new])
    assert workflows.map_points(mapped)["id"][-1] == new
    with pytest.raises(InputError, match="draws at most 51"):
        workflows.place_on_map(mapped, most=51)
    with pytest.raises(InputError):
        workflows.place_on_map(mapped, ["feed" * 5])


def test_placing_stops_on_request_and_the_map_stays(mapped: Workspace):
    before, token = workflows.map_points(mapped), CancelToken()

    def stop(step: Progress) -> None:
        token.cancel()

    token.cancel()
    with pytest.raises(Cancelled):
        workflows.place_on_map(mapped, on_progress=stop, cancel=token)
    assert workflows.map_points(mapped) == before


def test_without_a_map_there_is_nothing_to_place_or_show(fitted: Workspace):
    assert workflows.map_table(fitted) is None
    with pytest.raises(InputError, match="no map yet"):
        workflows.place_on_map(fitted)


def test_points_are_coloured_by_what_the_workspace_says(mapped: Workspace):
    classifier = workflows.active_classifier(mapped)
    table = workflows.map_table(mapped)
    assert table is not None
    ids = table.ids
    verdicts.set_verdict(mapped, ids[:2], "accepted")
    samples = mapped.samples(ids)
    said = mapped.predictions(ids, classifier.hash)
    labels = mapped.label_names()
    expected = {
        "class": [s.label_name for s in samples],
        "prediction": [labels[said[s.id].pred] for s in samples],
        "correct": ["right" if said[s.id].correct else "wrong" for s in samples],
        "origin": ["real" if s.real else "generated" for s in samples],
        "run": [s.origin for s in samples],
        "verdict": [s.verdict for s in samples],
        "belief": [s.belief or "real" for s in samples],
        "split": [s.split or "no value" for s in samples],
    }
    for by, values in expected.items():
        found = workflows.map_colouring(mapped, ids, by)
        assert [found.names[code] for code in found.codes] == values, by
        assert list(found.counts) == [values.count(name) for name in found.names], by
    assert workflows.map_colouring(mapped, ids, "class").names == tuple(labels)
    assert workflows.map_colouring(mapped, ids, "verdict").names == ("accepted", "undecided")


def test_signals_confidence_and_columns_are_scales(mapped: Workspace):
    classifier = workflows.active_classifier(mapped)
    table = workflows.map_table(mapped)
    assert table is not None
    ids = table.ids
    scores = mapped.scores(ids, classifier.hash, "entropy")
    found = workflows.map_colouring(mapped, ids, "signal:entropy")
    assert (found.low, found.high) == (0.0, 100.0)
    for one, code in zip(ids, found.codes.tolist(), strict=True):
        assert code == round(scores[one].percentile / 100 * 254)
    assert not workflows.map_colouring(mapped, ids, "confidence").names
    fog = workflows.map_colouring(mapped, ids, "meta:fog")
    made = [code for code, generated in zip(fog.codes.tolist(), table.generated, strict=True) if generated]
    assert len(set(made)) == 6 and "no value" in fog.names
    assert workflows.map_colouring(mapped, ids, "meta:never").names == ("no value",)
    with pytest.raises(InputError, match="cannot be coloured by 'mood'"):
        workflows.map_colouring(mapped, ids, "mood")


def test_the_nearest_real_samples_are_those_of_an_exhaustive_search(mapped: Workspace):
    classifier = workflows.active_classifier(mapped)
    one = mapped.query(Filter(origin="generated"))[0]
    real = mapped.query(Filter(origin="real"))
    features = workflows.features(mapped, classifier, [one, *real])
    away = np.linalg.norm(features[1:] - features[0], axis=1)
    found = workflows.nearest_real(mapped, classifier, one, 5)
    assert [sample for sample, _ in found] == [real[i] for i in np.argsort(away)[:5]]
    assert [distance for _, distance in found] == pytest.approx(sorted(away)[:5].copy(), rel=1e-5)
    own = workflows.nearest_real(mapped, classifier, real[0], 100)
    assert len(own) == 71 and real[0] not in dict(own)


def test_a_sample_that_was_deleted_underneath_is_left_out(mapped: Workspace):
    table = workflows.map_table(mapped)
    assert table is not None
    gone = table.ids[7]
    with mapped.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (gone,))
    after = workflows.map_table(mapped)
    assert after is not None and after.ids == [one for one in table.ids if one != gone]
    np.testing.assert_array_equal(after.coords, np.delete(table.coords, 7, axis=0))
    assert gone not in workflows.map_points(mapped)["id"]
