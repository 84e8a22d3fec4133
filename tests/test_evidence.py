"""The campaign of the evidence: its statistics, resuming, and a whole trial at a tiny size."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score

from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence import pools
from benchmarks.evidence.asking import confirmed, judged
from benchmarks.evidence.figure import Line, chart
from benchmarks.evidence.finding import findings
from benchmarks.evidence.photos import long_tailed
from benchmarks.evidence.signals import calibration
from benchmarks.evidence.statistics import Estimate, Judged, estimated, packed, unpacked
from benchmarks.evidence.tables import cell, verdict
from benchmarks.evidence.truth import CELLS, counted
from benchmarks.evidence.units import Clock, Store, Unit, breadth_first, campaign, slug
from ltg_core.demo.world import CLASSES
from ltg_core.guidance.settings import Guidance

FOLDER = Path(evidence.__file__).parent
EXAMINERS = {"truth", "roadsigns", "discovery", "asking", "signals", "tables"}
"""Modules that count what others have made; tables read the frame."""


def test_flags_come_back_from_text() -> None:
    flags = np.random.default_rng(0).random(45) < 0.5
    assert (unpacked(packed(flags), 45) == flags).all()
    assert len(packed(np.ones(3000, bool))) == 500


def test_figures_are_those_of_scikit_learn_on_every_resample() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 30)
    said = np.where(rng.random(120) < 0.6, labels, rng.integers(4, size=120))
    hidden = rng.random(120) < 0.2
    frame = Judged(labels, {"tail": [1, 3]}, {"planted": hidden})
    rows = [np.arange(120), *[rng.integers(120, size=120) for _ in range(3)]]
    weights = np.stack([np.bincount(i, minlength=120) for i in rows]).astype(float)
    found = frame.figures((said == labels).astype(float), weights)
    for values, i in zip(found, rows, strict=True):
        y, p = labels[i], said[i]
        recall = recall_score(y, p, average=None, labels=range(4))
        wanted = [accuracy_score(y, p), balanced_accuracy_score(y, p), recall.min(), recall[[1, 3]].mean(),
                  (y == p)[hidden[i]].mean()]  # fmt: skip
        np.testing.assert_allclose(values, wanted, rtol=1e-12)
    assert frame.names == ("overall", "balanced", "worst class", "tail", "planted")


def test_paired_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    labels = np.zeros(400, int)
    before = rng.random(400) < 0.6
    after = before | (rng.random(400) < 0.15)
    found = estimated(Judged(labels, {}, {}), {7: after}, {7: before}, rounds=4000)["overall"]
    change = after.astype(float) - before
    wanted = stats.bootstrap(
        (change,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == pytest.approx(change.mean())
    assert [found.low, found.high] == pytest.approx([wanted.low, wanted.high], abs=0.004)
    unpaired = 1.96 * np.sqrt(before.var() / 400 + after.var() / 400)
    assert found.high - found.low < 1.6 * unpaired  # what both have in common does not widen it
    assert found.certain


def test_intervals_hold_the_spread_of_the_seeds_and_only_common_seeds_are_paired() -> None:
    frame = Judged(np.zeros(50, int), {}, {})
    none, every = np.zeros(50, bool), np.ones(50, bool)
    found = estimated(frame, {0: every, 1: none, 2: every}, {0: none, 1: every, 9: every}, rounds=400)[
        "overall"
    ]
    assert (found.value, found.low, found.high) == (0.0, -1.0, 1.0)
    alone = estimated(frame, {0: every, 1: none}, rounds=400)["overall"]
    assert (alone.value, alone.low, alone.high) == (0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match="no seed in common"):
        estimated(frame, {0: every}, {1: every})


def test_a_unit_that_is_there_is_not_measured_again(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []
    units = breadth_first([[Unit("p", arm, seed) for arm in ("+ a", "b") for seed in (0, 1)]])
    assert [(u.arm, u.seed) for u in units] == [("+ a", 0), ("b", 0), ("+ a", 1), ("b", 1)]

    def run(settings: dict[str, Any], clock: Clock | None = None) -> list[Unit]:
        def measure(unit: Unit) -> dict[str, Any]:
            calls.append((unit.arm, unit.seed))
            return {"value": len(calls)}

        return campaign(units, store, lambda _: settings, measure, clock or Clock(), lambda _: None)

    over = Clock(1.0)
    over.began -= 61
    assert run({"size": 1}, over) == units and not calls
    assert run({"size": 1}) == [] and len(calls) == 4
    (tmp_path / units[1].file).unlink()
    assert run({"size": 1}) == [] and calls[4:] == [("b", 0)]
    assert run({"size": 2}) == [] and len(calls) == 9  # other settings are another measurement
    assert sorted(store.all("p", "+ a")) == [0, 1] and store.all("p", "a") == {}
    with pytest.raises(ValueError, match="same file name"):
        campaign([Unit("p", "a b", 0), Unit("p", "a-b", 0)], store, lambda _: {}, lambda _: {}, Clock())


def test_a_field_of_the_guidance_that_came_later_changes_nothing(tmp_path: Path) -> None:
    store, unit, now = Store(tmp_path), Unit("p", "a", 0), Guidance().to_dict()
    early = {name: value for name, value in now.items() if name != "like_dropout"}
    store.write(unit, {"guidance": early}, {"value": 1}, 0.0)
    assert store.read(unit, {"guidance": now}) is not None
    assert store.read(unit, {"guidance": {**now, "like_dropout": 0.9}}) is None
    assert store.read(unit, {"guidance": {**now, "weight": 9.0}}) is None


def test_nothing_that_makes_or_finds_images_reads_the_planted_cells() -> None:
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
        }
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        plan = [
            n
            for n in names
            if n.startswith(("ltg_core.demo.plan", "benchmarks.bench_demo", "benchmarks.bench_naming"))
        ]
        assert not plan or path.stem == "truth", f"{path.name} reads {plan}"
        truth = [n for n in names if n.startswith("benchmarks.evidence.truth")]
        assert not truth or path.stem in EXAMINERS, f"{path.name} reads {truth}"


def test_cells_are_ranked_by_the_exact_test_of_scipy() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 40)
    table = np.stack([rng.random(80) < 0.3, rng.random(80) < 0.3], axis=1)
    bad = (labels == 1) & table[:, 0]
    bad[rng.integers(80, size=6)] = True
    found = findings(table, bad, labels, ["night", "snow"])
    best = found[0]
    assert (best.sign, best.word) == (CLASSES[1], "night")
    inside = (labels == 1) & table[:, 0]
    odds = [[bad[inside].sum(), (~bad)[inside].sum()], [bad[~inside].sum(), (~bad)[~inside].sum()]]
    assert best.p == pytest.approx(stats.fisher_exact(odds, alternative="greater").pvalue)
    assert all(one.bad for one in found) and [f.p for f in found] == sorted(f.p for f in found)
    cell = next(iter(CELLS))
    said = counted([cell, ("stop", "nothing")], [])
    assert said["first"] == {"findings": 2, "hits": 1, "recall": 0.1, "false_discovery": 0.5}
    assert said["significant"]["findings"] == 0


def test_a_cell_is_confirmed_by_its_pairs_and_corrected_over_the_candidates_alone() -> None:
    cell = "{} / {}".format(*next(iter(CELLS)))
    cells = [{"cell": cell, "pairs": 8, "without": 0, "with": 6, "p": 1 / 64}]
    cells += [{"cell": f"stop / {i}", "pairs": 8, "without": 1, "with": 1, "p": 1.0} for i in range(30)]
    few = confirmed(cells, [cell, "stop / 3", "not asked for"])
    assert [one["cell"] for one in few] == [cell] and few[0]["q"] == pytest.approx(2 / 64)
    assert confirmed(cells, [one["cell"] for one in cells]) == []  # one in 64 is nothing among 31
    assert confirmed(cells, []) == []
    assert judged(few) == {"findings": 1, "hits": 1, "recall": 0.1, "false_discovery": 0.0}


def test_a_pool_takes_the_first_believed_images_and_bills_all_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def generate(_g: Any, _t: Any, _guidance: Any, request: Any, **_: Any) -> SimpleNamespace:
        made.extend(request.seeds)
        count, seeds = len(request.seeds), np.array(request.seeds)
        images = np.zeros((count, 2, 2, 3), np.uint8) + (seeds % 251)[:, None, None, None].astype(np.uint8)
        return SimpleNamespace(
            images=images, percentile=seeds * 0.0, signal=seeds * 0.0, calls={"U": 10 * count}
        )

    def examine(_g: Any, _t: Any, _s: str, images: np.ndarray, labels: Any) -> list[SimpleNamespace]:
        good = [
            bool(label == 0) or int(image[0, 0, 0]) % 3 == 0
            for image, label in zip(images, labels, strict=True)
        ]
        good = [g and label != 2 for g, label in zip(good, labels.tolist(), strict=True)]
        return [SimpleNamespace(believed=g, survival=1.0) for g in good]

    monkeypatch.setattr(pools, "generate_images", generate)
    monkeypatch.setattr(pools, "examine", examine)
    target: Any = SimpleNamespace(classifier=SimpleNamespace(labels=("a", "b", "c"), hash="h"))
    generator: Any = SimpleNamespace(chunk=8)

    def pool(seed: int = 0) -> pools.Pool:
        return pools.Pool(tmp_path, "arm", generator, target, Guidance(), lambda k, a: f"{k}", seed)

    small = pool().take(2)
    assert small.labels.tolist() == [0, 0, 1, 1] and small.short == 2  # class c never gives one
    base, before = 20_000_000, len(made)
    assert len(set(made)) == before and before % 8 == 0 and min(made) == base
    second = [a for a in range(1000) if (base + 10_000 + a) % 251 % 3 == 0][1]
    tried_c = sum(s >= base + 20_000 for s in made)
    assert small.attempts == 2 + (second + 1) + tried_c and tried_c >= pools.ATTEMPTS * 2
    assert small.calls["U"] == pytest.approx(10 * small.attempts)
    again = pool()
    assert (again.take(2).images == small.images).all() and len(made) == before  # read back
    large = again.take(4)
    assert (large.images[:2] == small.images[:2]).all() and (large.images[4:6] == small.images[2:4]).all()
    rows = again.first(3)
    assert again.rows("label")[rows].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert again.rows("attempt")[rows].tolist() == 3 * [0, 1, 2]
    before = np.bincount(again.rows("label"), minlength=3)
    rows = again.first(30, [1])
    assert again.rows("label")[rows].tolist() == 30 * [1] and again.rows("attempt")[rows].tolist() == list(
        range(30)
    )
    assert np.bincount(again.rows("label"), minlength=3)[[0, 2]].tolist() == before[[0, 2]].tolist()
    assert (
        pool(1).take(1).images[0, 0, 0, 0] != small.images[0, 0, 0, 0] and len(list(tmp_path.iterdir())) == 2
    )


def test_verdicts_look_at_the_estimate_and_at_the_whole_interval() -> None:
    assert verdict(Estimate(0.12, 0.10, 0.14), 0.10) == "met, with the whole interval"
    assert verdict(Estimate(0.12, 0.08, 0.14), 0.10) == "met, not with the whole interval"
    assert verdict(Estimate(0.0, -0.1, 0.1), 0.0, more=False) == "**not met**"
    assert cell(Estimate(0.12, 0.1, 0.14), True) == "**+12.0** [+10.0, +14.0]"
    assert cell(Estimate(0.12, -0.1, 0.14), True) == "+12.0 [-10.0, +14.0]"


def test_long_tails_have_the_published_counts() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    kept, rest = long_tailed(labels, 10, 100)
    counts = np.bincount(labels[kept])
    assert counts.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50] and counts.sum() == 12406
    assert len(np.intersect1d(kept, rest)) == 0 and len(kept) + len(rest) == 50_000


def test_calibration_is_the_statistic_of_kolmogorov_and_smirnov() -> None:
    values = 100 * np.random.default_rng(0).beta(2, 1, size=200)
    found = calibration(values)
    assert found["distance"] == pytest.approx(stats.kstest(values / 100, "uniform").statistic, abs=1e-4)
    assert found["above_95"] == pytest.approx((values > 95).mean())


def test_the_figure_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    lines = [Line("a & b", [(60, 51, 48, 55), (240, 63, 60, 66)]), Line("c", [(60, 50, 47, 53)])]
    for name in ("one.svg", "two.svg"):
        chart(tmp_path / name, lines, "images", "accuracy")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    root = ElementTree.parse(tmp_path / "one.svg").getroot()
    circles = [e for e in root.iter() if e.tag.endswith("circle")]
    assert len(circles) == 3 and float(circles[0].get("cy", 0)) > float(circles[1].get("cy", 0))
    assert "a & b" in [e.text for e in root.iter()]


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute of CPU, which a busy machine can stretch
def test_a_whole_trial_writes_tables_says_what_is_missing_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ["as bundled, not retrained", "real only", "post-hoc logit adjustment", "+ unguided", "+ LTG epistemic",
            "+ LTG epistemic in two rounds", "+ unguided, 2x", "demo"]  # fmt: skip
    parts = ["roadsigns", "curve", "adversarial", "discovery", "signals", "gtsrb"]
    words = ["--quick", "--results", str(tmp_path / "results"), "--work", str(tmp_path / "work"),
             "--parts", *parts, "--arms", *arms]  # fmt: skip
    evidence.main(words)
    out = capsys.readouterr().out
    assert "15 of 15 units are there" in out
    store = Store(tmp_path / "results")
    one = store.all("roadsigns", "+ LTG epistemic in two rounds")[0]
    assert one["synthetic"]["images"] + one["synthetic"]["short"] == 20
    assert one["synthetic"]["gflop"] > 0 and one["synthetic"]["attempts"] >= 20
    double = store.all("curve", "+ unguided, 2x")[0]["synthetic"]
    assert double["images"] + double["short"] == 40
    text = (tmp_path / "results" / "evidence.md").read_text(encoding="utf-8")
    assert "| + LTG epistemic | + unguided | 0 |" in text and "**Not yet measured:**" in text
    assert "+ best of N, equal compute" in text.split("**Not yet measured:**", 1)[1].split("\n")[0]
    assert "## Is guidance adversarial?" in text and "Demo: right on" in text
    monkeypatch.setattr(pools, "generate_images", lambda *_, **__: pytest.fail("these images are there"))
    (tmp_path / "results" / "roadsigns" / f"{slug('+ unguided')}-0.json").unlink()
    evidence.main(words)
    assert "15 of 15 units are there" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--results"):
        evidence.main(["--quick"])
