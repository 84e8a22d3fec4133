"""A report tells what the workspace holds, in one file, and leaves file names out when asked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.curation import annotate, pin
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError
from ltg_core.jobs import CancelToken
from ltg_core.workflows.telling_change import told_of


def words(text: str) -> str:
    """A file's words without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.S)).split())


def told(ws: Workspace, draft: workflows.Draft | None = None) -> str:
    run = workflows.tell(ws, draft)
    return workflows.report_path(ws, run.id).read_text(encoding="utf-8")


def test_the_numbers_are_those_of_the_workspace(fitted: Workspace, classifier) -> None:
    state = workflows.glance(fitted, classifier)
    text = words(told(fitted)).replace("\xa0", " ")
    right = state.right
    assert f"{right.part} of {right.whole}" in text
    assert f"{100 * right.low:.1f} to {100 * right.high:.1f} %" in text
    assert state.right.part == fitted.count(
        Filter(split="test", origin="real", correct=True, model_hash=classifier.hash)
    )
    for sign in (classifier.hash, "resnet14_small", "torch", "seed 0"):
        assert sign in text, sign


def test_pinned_cases_come_in_order_with_note_picture_and_attribution(fitted: Workspace, classifier) -> None:
    one, two = fitted.query(Filter(split="test"), limit=2)
    pin(fitted, [two, one])
    annotate(fitted, two, "<b>mine</b> & yours")
    text = told(fitted)
    assert text.index(two) < text.index(one)
    assert "&lt;b&gt;mine&lt;/b&gt; &amp; yours" in text and "<b>mine" not in text
    assert text.count("data:image/webp;base64,") == 4 and "grad cam" in text
    plain = told(fitted, workflows.Draft(attribution=False))
    assert plain.count("data:image/webp;base64,") == 2


def test_without_pins_the_clearest_errors_are_the_cases(fitted: Workspace, classifier) -> None:
    ids = fitted.query(Filter(split="test", origin="real"))
    fitted.set_predictions(classifier.hash, {one: (2, 0.5 + n / 100) for n, one in enumerate(ids)})
    errors = Filter(split="test", origin="real", correct=False, model_hash=classifier.hash)
    wanted = fitted.query(errors, sort="confidence", limit=3)
    text = told(fitted)
    assert wanted and all(one in text for one in wanted) and "Nothing was pinned" in text


def test_a_generated_case_is_a_matched_triplet_with_the_run_that_made_it(
    fitted: Workspace, classifier
) -> None:
    generator = workflows.active_generator(fitted)
    run = workflows.generate(
        fitted,
        classifier,
        generator,
        prompts=["a photo of a stop sign"] * 2,
        labels=[0, 0],
        seeds=[7, 8],
        guidance=workflows.Guidance(
            steps=2,
            search="none",
            climb="denoiser-free",
            band_start=0.0,
            band_end=1.0,
            every=1,
            augment=False,
        ),
    )
    guided = [row["guided"] for row in workflows.triplets(fitted, run.id)]
    pin(fitted, guided[:1])
    text = words(told(fitted, workflows.Draft(attribution=False)))
    for sign in ("nearest real", "unguided, same seed", "guided", f"Generation {run.id}", "seeds 7 to 8"):
        assert sign in text, sign


def test_redaction_leaves_no_file_name_and_no_path(fitted: Workspace, classifier) -> None:
    one = fitted.query(Filter(split="test"), limit=1)[0]
    source = fitted.sample(one).source
    fitted.merge_meta({one: {"origin_file": "/data/secret/anna.jpg", "camera": "dash cam"}})
    pin(fitted, [one])
    annotate(fitted, one, f"look at {source} in {fitted.path}")
    draft = workflows.Draft(title="About anna.jpg", weakness=f"See {fitted.path}/x")
    plain = told(fitted, draft)
    assert source in plain and "anna.jpg" in plain
    hidden = told(fitted, workflows.Draft(draft.title, draft.weakness, redact=True))
    place = fitted.path
    for secret in (
        source,
        Path(source).name,
        "anna",
        "secret",
        str(place),
        place.name + "/",
        classifier.name,
    ):
        assert secret not in hidden, secret
    assert "dash cam" in hidden, words(hidden)
    assert "parking" in hidden, words(hidden)


def test_the_map_shows_where_the_cases_lie(fitted: Workspace, classifier) -> None:
    workflows.map_samples(fitted, classifier, workflows.MapSettings(neighbours=5))
    pin(fitted, fitted.query(Filter(split="test"), limit=2))
    text = told(fitted)
    assert text.count('class="mark"') == 2 and "all 72 shown" in text
    assert 'class="mark"' not in told(fitted, workflows.Draft(show_map=False))


def test_what_an_arm_learned_from_is_told_with_how_to_read_it() -> None:
    assert workflows.learned_from(None) == ()
    few = workflows.learned_from({"n": 3, "overall": None, "note": "only 3 made images"})
    assert few == ("What it learned from: 3 synthetic images", "Not measured: only 3 made images.")
    shares = {"precision": 0.9, "recall": 0.25, "density": 1.2, "coverage": 0.5}
    q = {**shares, "real": 1200, "vendi": 4.25, "vendi_real": 9.0, "kid": 0.0123}
    _, figures, hint = workflows.learned_from({"n": 1000, "overall": q, "note": ""})
    assert (
        "1,200 real images" in figures
        and "precision 0.90, recall 0.25, density 1.20, coverage 0.50" in figures
    )
    assert (
        "4.2 different ones" in figures and "real ones 9.0" in figures and "kernel distance 0.012" in figures
    )
    assert "equal numbers" in hint


@pytest.mark.parametrize(("sure", "perhaps", "told"), [(0, 3, 3), (2, 30, 12), (20, 30, 20), (0, 0, 0)])
def test_what_clearly_became_worse_is_listed_however_much_it_is(sure: int, perhaps: int, told: int) -> None:
    assert told_of([{"certain": True}] * sure + [{"certain": False}] * perhaps) == told


def test_a_comparison_of_this_classifier_is_told_before_and_after(
    fitted: Workspace, classifier, tmp_path: Path
) -> None:
    settings = workflows.TrainSettings(epochs=1, batch_size=12, patience=0, fresh_head=True)
    run = workflows.retrain(fitted, classifier, settings, seeds=(0, 1), name="net.safetensors again")
    draft = workflows.Draft(attribution=False)
    assert "Before and after" not in told(fitted, draft), "nothing was compared"
    workflows.compare(fitted, "", [run.id], workflows.CompareSettings(rounds=100))
    text = words(told(fitted, draft)).replace("\xa0", " ")
    assert "Before is this classifier, after would be “net.safetensors again (2 seeds)”" in text
    assert "18 real images of the split “test”" in text and "What became worse" in text
    assert text.index("What became worse") < text.index("All in all") < text.rindex("Balanced accuracy")
    assert "by chance" in text and "100 resamples" in text
    hidden = words(told(fitted, workflows.Draft(attribution=False, redact=True)))
    assert "net.safetensors" not in hidden and "another version" in hidden
    workflows.score(fitted, workflows.adopt(fitted, run.id))
    assert f"Before is “{classifier.name}”, after is this classifier as it was retrained" in words(
        told(fitted, draft)
    )
    out = tmp_path / "r.html"
    command = ["tell", "--workspace", str(fitted.path), "--out", str(out), "--no-attribution", "--no-map"]
    assert main([*command, "--quiet"]) == 0 and "Before and after" in out.read_text(encoding="utf-8")
    assert main([*command, "--quiet", "--no-change"]) == 0
    assert "Before and after" not in out.read_text(encoding="utf-8")


def test_what_a_report_needs_is_said(empty_workspace: Workspace, tiny_world, tiny_classifier_file) -> None:
    with pytest.raises(InputError, match="no classifier yet"):
        workflows.tell(empty_workspace)
    classifier = workflows.use_classifier(empty_workspace, tiny_classifier_file)
    workflows.import_data(empty_workspace, tiny_world.folder / "train", split="train")
    workflows.score(empty_workspace, classifier)
    with pytest.raises(InputError, match="not seen"):
        workflows.tell(empty_workspace)
    with pytest.raises(InputError, match="limit is 200"):
        workflows.Draft(title="x" * 201)


def test_a_cancelled_report_leaves_no_file(fitted: Workspace, tmp_path: Path) -> None:
    pin(fitted, fitted.query(limit=2))
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        workflows.tell(fitted, out=tmp_path / "out" / "r.html", cancel=token)
    assert fitted.runs("tell")[0].state == "cancelled" and not (tmp_path / "out").exists()


def test_the_command_line_writes_the_same_file(
    fitted: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = fitted.query(Filter(split="test"), limit=1)[0]
    out = tmp_path / "new" / "report.html"
    command = ["tell", "--workspace", str(fitted.path), "--out", str(out), "--pin", one, "--redact", "--json"]
    assert main([*command, "--title", "Stop signs", "--no-attribution", "--no-map"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cases"] == 1 and said["bytes"] == out.stat().st_size
    text = out.read_text(encoding="utf-8")
    assert "<h1>Stop signs</h1>" in text and one in text and fitted.sample(one).source not in text
    assert main(["tell", "--workspace", str(tmp_path / "none"), "--out", str(out)]) == 2
