"""Asking the demo's generator for classes with words: pairs, new pairs for what errs, findings with their cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import Cancelled, CancelToken, Progress
from ltg_core.workflows.asking import images_of

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "demo"
WORDS = workflows.TermSettings(own="covered in snow, at night")
FEW = workflows.AskSettings(first=6, second=12, again=1, classes="speed limit, no entry")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with Workspace(tmp_path_factory.mktemp("asked") / "demo") as ws:
        some = pd.read_parquet(ASSETS / "data.parquet").groupby("split").head(200)
        some[some["split"] != "test"].to_parquet(ws.path / "some.parquet")
        classifier = workflows.use_classifier(ws, ASSETS / "classifier.safetensors")
        workflows.use_generator(ws, ASSETS / "generator")
        workflows.import_data(ws, ws.path / "some.parquet")
        workflows.fit_head(ws, classifier, workflows.HeadSettings(members=4, hidden=8, epochs=2))
        yield ws


@pytest.mark.slow
def test_what_errs_is_asked_for_again_and_only_new_pairs_are_tested(demo: Workspace) -> None:
    classifier, generator = workflows.active_classifier(demo), workflows.active_generator(demo)
    told: list[str] = []
    token = CancelToken()

    def stop(progress: Progress) -> None:
        told.append(progress.message)
        if len(demo.query(Filter(origin="generated"))) >= 8:
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.find_asked(demo, classifier, generator, WORDS, FEW, on_progress=stop, cancel=token)
    kept = demo.query(Filter(origin="generated"))
    assert (
        kept
        and demo.runs("slices")[0].state == "cancelled"
        and told[-1].startswith("asking for every word: ")
    )

    run = workflows.find_asked(demo, classifier, generator, WORDS, FEW)
    got = run.result
    assert (got["tried"], got["again"], got["shown"]) == (4, 1, 1)
    assert (
        got["images"] == 2 * 3 * 6 + 2 * 12 == images_of(2, 2, FEW) == demo.count(Filter(origin="generated"))
    )
    assert set(kept) <= set(demo.query(Filter(origin=got["runs"][0]))), "an interrupted search goes on"

    (one,) = workflows.slices(demo, "found")
    seen = one.evidence
    assert one.name == "speed limit covered in snow" and seen["q"] == seen["p"] <= 0.05 and seen["tried"] == 1
    assert (
        seen["bad"] / seen["n"] > 0.5 > seen["rest"] and seen["low"] < seen["bad"] / seen["n"] < seen["high"]
    )
    cause = seen["cause"]
    without, with_ = (demo.samples(cause[side]) for side in ("without", "with"))
    assert len(with_) == len(without) == seen["n"] <= 12
    assert all(s.origin == got["runs"][1] and s.belief == "believed" for s in (*with_, *without))
    assert [s.meta["seed"] for s in with_] == [s.meta["seed"] for s in without]
    assert {s.meta["seed"] for s in with_} <= set(range(6, 18)), (
        "the pairs that were looked at first do not count"
    )
    assert all(
        a.caption.startswith(b.caption) and a.caption.endswith(" covered in snow")
        for a, b in zip(with_, without, strict=True)
    )
    said = demo.predictions(cause["with"], classifier.hash)
    wrong = [said[s.id].pred != s.label for s in with_]
    assert sum(wrong) == seen["bad"] and cause["errs"]
    seeds = [s.meta["seed"] for s in with_]
    assert seeds == sorted(seeds), "shown as they were drawn, not those that fit first"
    assert (
        cause["errors"]["n"] == seen["n"]
        and cause["errors"]["low"] > 0
        and cause["seen"][1] > cause["seen"][0]
    )
    assert set(demo.query(one.filter)) == set(cause["with"]) and not workflows.untested([one])

    again = workflows.find_asked(demo, classifier, generator, WORDS, FEW)
    assert again.result["runs"] == got["runs"] and demo.count(Filter(origin="generated")) == got["images"]


def test_what_cannot_be_asked_for_is_said_before_the_first_image(
    demo: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier, generator = workflows.active_classifier(demo), workflows.active_generator(demo)
    before = len(demo.runs("generate"))
    for words, settings, match in (
        (workflows.TermSettings(source="captions"), FEW, "come from a vocabulary"),
        (workflows.TermSettings(own="zyxwvut"), FEW, "learned none of the 1 terms"),
        (WORDS, workflows.AskSettings(classes="no entry, nobody"), "nobody"),
        (WORDS, workflows.AskSettings(first=1000, second=5000), "fewer classes"),
    ):
        with pytest.raises(InputError, match=match):
            workflows.find_asked(demo, classifier, generator, words, settings)
    place = ["--workspace", str(demo.path), "--quiet", "--json"]
    assert main(["name", *place, "--asked", "--shard", "1/2"]) == 2
    assert "not done in shards" in capsys.readouterr().err
    assert len(demo.runs("generate")) == before


@pytest.mark.slow
def test_the_command_line_asks_too(demo: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--workspace", str(demo.path), "--quiet", "--json"]
    few = [
        "--own",
        "covered in snow, at night",
        "--first",
        "6",
        "--second",
        "12",
        "--again",
        "1",
        "--classes",
        "speed limit, no entry",
    ]
    assert main(["name", *place, "--asked", *few]) == 0
    got = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in got["found"]] == ["speed limit covered in snow"] and got[
        "outcome"
    ] == "asked"
    assert workflows.words_to_ask(demo, "a, b") == 2 and workflows.words_to_ask(demo) == 10
    with (
        demo.database.write() as connection
    ):  # somebody removes one of the images: the search draws them anew
        connection.execute(
            "DELETE FROM samples WHERE id = ?", (demo.query(Filter(origin=got["runs"][0]))[0],)
        )
    assert main(["name", *place, "--asked", *few]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["images"] == got["images"] and again["runs"][0] != got["runs"][0]
    assert [one["bad"] for one in again["found"]] == [one["bad"] for one in got["found"]]
