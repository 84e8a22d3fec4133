"""Names for what goes wrong: captions, vocabulary, metadata, guided images; the causal check; the pool; habits."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.data.records import Filter, NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, EndpointError, InputError
from ltg_core.workflows.imagined import effect, pairs
from ltg_core.workflows.naming_tasks import NAMING_TASKS
from ltg_core.workflows.terming import describe
from tests.conftest import SIGNS, draw
from tests.speaker import Speaker, speaking

KEY = "sk-not-to-be-told"
SMALL = workflows.WeakSettings(smallest=5, use_clusters=False)
CAPTIONS = workflows.TermSettings(source="captions", rarely=3)


def look(asked: dict[str, Any], number: int) -> str:
    """A vision model that knows light from dark."""
    url = asked["messages"][0]["content"][1]["image_url"]["url"]
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    dark = np.asarray(picture).mean() < 75
    return json.dumps({"terms": ["dark night" if dark else "bright day", "road sign"]})


@pytest.fixture
def held(fitted: Workspace, classifier: Any) -> dict[str, bool]:
    """Held-out samples, and whether they are dark; the dark ones are read wrongly here, all others rightly."""
    found = {}
    for sample in fitted.samples(fitted.query(Filter(split=("val", "test")))):
        found[sample.id] = bool(np.asarray(fitted.image(sample.id)).mean() < 75)
        said = (sample.label + 1) % 3 if found[sample.id] else sample.label
        fitted.set_predictions(classifier.hash, {sample.id: (said, 0.9)})
    assert 8 <= sum(found.values()) <= 14
    return found


def named_by(server: Speaker, monkeypatch: pytest.MonkeyPatch, key: str = KEY) -> None:
    monkeypatch.setenv("LTG_LLM_BASE_URL", server.url)
    monkeypatch.setenv("LTG_LLM_MODEL", "sees")
    monkeypatch.setenv("LTG_LLM_API_KEY", key)


def test_captions_name_what_errors_have_in_common_and_are_asked_for_once(
    fitted: Workspace, classifier: Any, held: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with speaking(look, KEY) as server:
        named_by(server, monkeypatch)
        run = workflows.find_slices(fitted, classifier, settings=SMALL, words=CAPTIONS)
        assert len(server.asked) == len(held)
        workflows.find_slices(fitted, classifier, settings=SMALL, words=CAPTIONS)
        assert len(server.asked) == len(held), "each picture is described once"
    first = workflows.slices(fitted, "found")[0]
    assert "dark night" in first.name and first.n == first.evidence["bad"] == sum(held.values())
    assert set(fitted.query(first.filter)) == {one for one, dark in held.items() if dark}
    assert first.evidence["cell"]["value"] == "dark night" and run.result["words"] == "captions"
    everything = "".join(p.read_text(errors="ignore") for p in fitted.path.rglob("*") if p.is_file())
    assert KEY not in everything, "the key is nowhere in the workspace"


def test_an_endpoint_that_cannot_be_used_ends_the_search_in_words(
    fitted: Workspace, classifier: Any, held: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LTG_LLM_BASE_URL", raising=False)
    with pytest.raises(InputError, match="LTG_LLM_BASE_URL"):
        workflows.find_slices(fitted, classifier, words=CAPTIONS)
    with speaking(look, "another") as server:
        named_by(server, monkeypatch)
        with pytest.raises(EndpointError, match="refuses the key") as told:
            workflows.find_slices(fitted, classifier, words=CAPTIONS)
        assert KEY not in str(told.value) and len(server.asked) <= 8
    run = fitted.runs("slices")[0]
    assert run.state == "failed" and KEY not in json.dumps([run.reason, run.settings])
    with speaking(lambda asked, number: "It is a nice picture.") as server:
        named_by(server, monkeypatch, "")
        with pytest.raises(EndpointError, match="of no use"):
            workflows.find_slices(fitted, classifier, words=CAPTIONS)
        assert len(server.asked) < 40, "not every picture is tried"


def test_single_useless_answers_leave_their_pictures_without_a_caption(
    fitted: Workspace, held: dict[str, bool]
) -> None:
    from ltg_core.introspection.captions import EndpointCaptioner
    from ltg_core.llm import Endpoint

    def answer(asked: dict[str, Any], number: int) -> str:
        return json.dumps({"terms": ["fog"] * 10_000}) if number <= 2 else '{"terms": ["fog"]}'

    ids = list(held)[:5]
    with speaking(answer) as server:
        captioner = EndpointCaptioner(Endpoint(server.url, "m", pause=0.01))
        captioner.at_once = 1
        assert describe(fitted, captioner, ids) == [None, *[["fog"]] * 4]


def test_a_vocabulary_and_metadata_name_too(
    fitted: Workspace, classifier: Any, held: dict[str, bool], tmp_path: Path
) -> None:
    fitted.merge_meta(
        {one: {"light": "dark" if dark else "bright", "hour": 0.5} for one, dark in held.items()}
    )
    words = workflows.TermSettings(source="metadata")
    run = workflows.find_slices(fitted, classifier, settings=SMALL, words=words)
    first = workflows.slices(fitted, "found")[0]
    assert first.name == "light dark" and first.evidence["cell"] == {
        "class": "",
        "column": "light",
        "value": "dark",
        "phrase": "",
    }
    assert run.result["tried"] <= 2 + 3 + 6, "values, classes and both; numbers cannot be asked for"
    # The tiny encoder has learned nothing, but knows the words of its captions and no others.
    (tmp_path / "words.txt").write_text("at night\non a clear day\nunheard of things\n")
    words = workflows.TermSettings(vocabulary=str(tmp_path / "words.txt"))
    run = workflows.find_slices(fitted, classifier, settings=SMALL, words=words)
    assert any("unheard of things" in said for said in run.result["skipped"])
    own = dataclasses.replace(words, own=" at night, unheard of things,")
    again = workflows.find_slices(fitted, classifier, settings=SMALL, words=own)
    assert again.result["skipped"] == run.result["skipped"] and again.result["tried"] < run.result["tried"]
    (tmp_path / "words.txt").write_text("zyxwvut qponmlk\n")
    with pytest.raises(InputError, match="none of the 1 terms"):
        workflows.find_slices(fitted, classifier, settings=SMALL, words=words)
    fitted.put_state("generator", None)
    with pytest.raises(InputError, match="--encoder"):
        workflows.find_slices(fitted, classifier, settings=SMALL, words=words)


def pair(ws: Workspace, place: int, dark: bool) -> None:
    """A guided image and its control; guidance made it dark, or not."""
    sides = {}
    for role, condition in (("control", "clear day"), ("guided", "night" if dark else "clear day")):
        meta = {"role": role, "index": place, **({"control": sides["control"]} if role == "guided" else {})}
        picture = np.asarray(draw("stop", 5000 + 2 * place + (role == "guided"), condition))
        one = NewSample(
            picture,
            origin="generate-x",
            split="generated",
            label=0,
            label_name="stop",
            source=f"{role}{place}",
            meta=meta,
        )
        sides[role] = ws.add_images([one])[0]


def test_guided_images_are_named_against_their_controls(
    fitted: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetError, match="none yet"):
        workflows.find_imagined(fitted, CAPTIONS)
    for place in range(12):
        pair(fitted, place, dark=place < 10)
    with speaking(look) as server:
        named_by(server, monkeypatch, "")
        run = workflows.find_imagined(fitted, CAPTIONS)
    (only,) = workflows.slices(fitted, "found")
    assert only.name == "stop with dark night" and run.result["samples"] == 12
    got = only.evidence
    assert got["effect"]["errors"] == got["effect"]["percentiles"] == [None, None], "nobody has scored them"
    assert (
        got["n"] == 12
        and got["bad"] >= 8
        and got["rest"] <= 2 / 12
        and got["q"] < 0.05
        and got["log_odds"][1] > 0
    )
    with pytest.raises(InputError, match="no metadata"):
        workflows.find_imagined(fitted, workflows.TermSettings(source="metadata"))


def test_the_effect_of_a_term_is_in_errors_and_in_percentiles_of_the_signal(
    fitted: Workspace, classifier: Any
) -> None:
    ids = fitted.query(Filter(split="test"))[:6]
    fitted.set_predictions(classifier.hash, dict.fromkeys(ids[:2], (9, 0.5)))
    fitted.set_predictions(classifier.hash, {one.id: (one.label, 0.5) for one in fitted.samples(ids[2:])})
    fitted.set_scores(classifier.hash, "epistemic", {id: (0.1, 10.0 * k) for k, id in enumerate(ids[:5])})
    fitted.set_scores(classifier.hash, "epistemic", {ids[5]: (0.1, float("nan"))})
    got = effect(fitted, ids[:3], ids[3:])
    assert got["signal"] == "epistemic" and got["errors"] == [pytest.approx(2 / 3), 0.0]
    assert got["percentiles"] == [pytest.approx(10.0), pytest.approx(35.0)], (
        "a sample without a score is left out"
    )


def test_quarantined_images_name_nothing(fitted: Workspace) -> None:
    for place in range(6):
        pair(fitted, place, dark=True)
    guided = pairs(fitted)
    assert len(guided) == 6
    fitted.set_belief({guided[0].id: ("quarantined", "p"), guided[1].meta["control"]: ("quarantined", "p")})
    assert {one.id for one in pairs(fitted)} == {one.id for one in guided[2:]}
    assert len(pairs(fitted)) == 4


def test_a_cause_is_checked_in_pairs_of_one_seed_and_shown_beside_the_pool(
    fitted: Workspace, classifier: Any, held: dict[str, bool], tmp_path: Path
) -> None:
    fitted.merge_meta({one: {"light": "dark" if dark else "bright"} for one, dark in held.items()})
    workflows.find_slices(fitted, classifier, settings=SMALL, words=workflows.TermSettings(source="metadata"))
    first = workflows.slices(fitted, "found")[0]
    for place, sign in enumerate(SIGNS * 2):
        (tmp_path / "pool").mkdir(exist_ok=True)
        draw(sign, 7000 + place).save(tmp_path / "pool" / f"{place}.png")
    workflows.import_data(fitted, tmp_path / "pool", split="pool")

    told: list[str] = []

    def tell(progress: Any) -> None:
        told.append(progress.message)

    from ltg_core.jobs import CancelToken

    done = NAMING_TASKS["check_cause"](
        fitted, slice=first.id, pairs=4, on_progress=tell, cancel=CancelToken()
    )
    got = workflows.slice_of(fitted, first.id).evidence
    cause = got["cause"]
    assert done["verdict"] == cause["verdict"] in ("moves the signal", "associated, not causal")
    assert cause["change"]["n"] == 4 and (cause["verdict"] == "moves the signal") == (
        cause["change"]["low"] > 0
    )
    assert done["errs"] == cause["errs"] == (cause["errors"]["low"] > 0)
    again = NAMING_TASKS["check_causes"](
        fitted, slices=[first.id, first.id], pairs=4, on_progress=tell, cancel=CancelToken()
    )
    assert again == {"checked": 2, "errs": 2 * cause["errs"]}, "the same seeds, the same answer"
    assert any(one.startswith("1 of 2: ") for one in told) and told[-1].startswith("2 of 2: ")
    without, with_ = (fitted.samples(cause[side]) for side in ("without", "with"))
    assert [one.meta["seed"] for one in without] == [one.meta["seed"] for one in with_]
    assert all(a.caption != b.caption and a.label == b.label for a, b in zip(without, with_, strict=True))
    assert "dark" in with_[0].caption and "dark" not in without[0].caption
    pool = set(fitted.query(Filter(split="pool")))
    assert len(pool) == 6 and {row["source"] for row in got["real"]["text"]} <= pool
    with pytest.raises(InputError, match="cannot be asked for"):
        workflows.cell_to_check(fitted, workflows.save_slice(fitted, "by hand", Filter(label=0)))


def test_a_pool_is_searched_where_it_is_by_likeness_and_by_text(
    fitted: Workspace, classifier: Any, tmp_path: Path
) -> None:
    one, outside = fitted.query(Filter(split="train"))[5], tmp_path / "outside"
    outside.mkdir()
    for place in range(6):
        draw("parking", 8000 + place).save(outside / f"{place}.png")
    fitted.image(one).save(outside / "same.png")
    (outside / "broken.png").write_bytes(b"no picture")
    found = workflows.retrieve(fitted, classifier, like=[one], pool=outside, number=3)
    assert (found.size, found.skipped, found.by) == (7, 1, "likeness")
    assert found.evidence[0].source.endswith("same.png") and found.evidence[0].cosine > 0.999
    by_text = workflows.retrieve(fitted, classifier, text="a photo of a stop sign", pool=outside)
    assert len(by_text.evidence) == 7 and [e.cosine for e in by_text.evidence] == sorted(
        (e.cosine for e in by_text.evidence), reverse=True
    )
    with pytest.raises(DatasetError, match="no pool"):
        workflows.retrieve(fitted, classifier, like=[one])
    with pytest.raises(InputError, match="one of the two"):
        workflows.retrieve(fitted, classifier)


def test_habits_and_names_on_the_command_line(
    fitted: Workspace, held: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    fitted.merge_meta({one: {"light": "dark" if dark else "bright"} for one, dark in held.items()})
    place = ["--workspace", str(fitted.path), "--quiet", "--json"]
    assert main(["name", *place, "--source", "metadata", "--smallest", "5", "--no-use-clusters"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["found"][0]["name"] == "light dark" and found["words"] == "metadata"
    assert main(["name", *place, "--list"]) == 0
    assert json.loads(capsys.readouterr().out) == found["found"]
    assert main(["name", *place, "--habits", "light"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"habits", "lifts", "tried", "samples"} <= set(told) and told["samples"] == len(held)
    assert main(["name", *place, "--habits", "weather"]) == 2
    before = len(fitted.runs("generate"))
    assert main(["name", *place, "--cause", "1", "99"]) == 2
    assert len(fitted.runs("generate")) == before, "a wrong place is said before the first image"
    said = capsys.readouterr().err
    assert "no metadata column 'weather'" in said and "no finding 99" in said
    assert main(["name", *place, "--cause", "all", "--pairs", "4"]) == 0
    (checked,) = json.loads(capsys.readouterr().out)  # a list, however many there were
    assert checked["name"] == "light dark" and checked["errs"] == (checked["errors"]["low"] > 0)
    assert main(["name", *place, "--cause", "all"]) == 2
    assert main(["pool", *place, "--text", "x"]) == 2
    errors = capsys.readouterr().err
    assert "no finding is left whose cause could be tested" in errors
    assert "--split pool" in errors
