"""Explanations as a run: every target, stored maps, and words for what cannot be asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltg_core import workflows
from ltg_core.attribution import ATTRIBUTIONS, ClassTarget
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError, UnsupportedError
from ltg_core.jobs import CancelToken, Progress

FAST = {"integrated_gradients": {"n_steps": 4}}


@pytest.fixture
def ids(fitted: Workspace) -> list[str]:
    return fitted.query(Filter(split="test"))[:2]


def test_a_map_is_that_of_the_method_itself_and_has_the_size_of_the_picture(
    fitted: Workspace, classifier, ids
):
    maps = workflows.explain(fitted, classifier, ids, ["saliency"])
    images = fitted.tensor(ids)
    straight = ATTRIBUTIONS["saliency"]().attribute(ClassTarget(classifier), images)
    for one, heat in zip(maps, straight, strict=True):
        np.testing.assert_allclose(one.values, heat.numpy(), rtol=1e-4, atol=1e-6)
    assert [one.sample_id for one in maps] == ids and "predicted" in maps[0].target


def test_several_methods_come_sample_by_sample_in_the_order_asked_for(fitted: Workspace, classifier, ids):
    maps = workflows.explain(fitted, classifier, ids, ["grad_cam", "saliency"])
    assert [(m.sample_id, m.method) for m in maps] == [(i, m) for i in ids for m in ("grad_cam", "saliency")]
    run = fitted.runs("explain")[0]
    assert run.state == "done" and run.result["maps"] == 4 and run.settings["target"] == "prediction"


def test_a_map_that_was_made_is_read_from_the_store(fitted: Workspace, classifier, ids):
    first = workflows.explain(fitted, classifier, ids, ["saliency"], target="class:yield")
    again = workflows.explain(fitted, classifier, ids, ["saliency"], target="class:yield")
    assert fitted.runs("explain")[0].result["computed"] == 0
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert (one.target, one.signed, one.notes) == (other.target, other.signed, other.notes)
    workflows.explain(fitted, classifier, ids, ["saliency"], target="class:stop")
    assert fitted.runs("explain")[0].result["computed"] == 2


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("label", "logit of"),
        ("class:yield", "yield"),
        ("class:2", "parking"),
        ("contrast:stop|yield", "stop rather than yield"),
        ("signal:epistemic", "signal epistemic"),
        ("signal:entropy", "signal entropy"),
        ("signal:loss", "signal loss"),
        ("signal:hardness", "signal hardness"),
    ],
)
def test_every_question_can_be_asked(fitted: Workspace, classifier, ids, target: str, words: str):
    (one,) = workflows.explain(fitted, classifier, ids[:1], ["saliency"], target=target)
    assert words in one.target and one.values.shape == (32, 32) and np.isfinite(one.values).all()


def test_a_new_head_makes_new_maps_of_the_uncertainty(fitted: Workspace, classifier, ids):
    workflows.explain(fitted, classifier, ids[:1], ["saliency"], target="signal:epistemic")
    workflows.fit_head(fitted, classifier, workflows.HeadSettings(members=4, hidden=8, epochs=1), seed=4)
    workflows.explain(fitted, classifier, ids[:1], ["saliency"], target="signal:epistemic")
    assert fitted.runs("explain")[0].result["computed"] == 1


def test_checked_maps_say_what_the_checks_found(fitted: Workspace, classifier, ids):
    (one,) = workflows.explain(fitted, classifier, ids[:1], ["saliency"], trust=True)
    assert isinstance(one, workflows.Explanation) and one.trust is not None
    assert one.notes[-1] == f"Checked: {one.trust.verdict}."
    (again,) = workflows.explain(fitted, classifier, ids[:1], ["saliency"], trust=True)
    assert fitted.runs("explain")[0].result["computed"] == 0
    assert isinstance(again, workflows.Explanation) and again.trust == one.trust


def test_settings_of_a_method_are_its_own(fitted: Workspace, classifier, ids):
    method = ["integrated_gradients"]
    (few,) = workflows.explain(fitted, classifier, ids[:1], method, settings=FAST)
    (more,) = workflows.explain(fitted, classifier, ids[:1], method, settings={method[0]: {"n_steps": 8}})
    assert not np.array_equal(few.values, more.values)


def test_a_large_photograph_is_explained_small_and_shown_at_its_size(fitted: Workspace, classifier):
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (300, 200, 3), dtype=np.uint8))
    new = fitted.add_image(photo, origin="real")
    (one,) = workflows.explain(fitted, classifier, [new], ["saliency"])
    assert one.values.shape == (300, 200)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("class:bus", "no class 'bus'"),
        ("contrast:stop", "names one class"),
        ("signal:luck", "no signal 'luck'"),
        ("mood", "no target 'mood'"),
    ],
)
def test_a_question_without_meaning_is_refused_in_words(
    fitted: Workspace, classifier, ids, target: str, words: str
):
    with pytest.raises(InputError, match=words):
        workflows.explain(fitted, classifier, ids, ["saliency"], target=target)


def test_unlabelled_samples_have_no_loss_to_explain(fitted: Workspace, classifier):
    new = fitted.add_image(Image.new("RGB", (32, 32)), origin="real")
    with pytest.raises(InputError, match="no class that the classifier knows"):
        workflows.explain(fitted, classifier, [new], ["saliency"], target="signal:loss")


def test_without_a_head_its_signal_cannot_be_explained(fitted: Workspace, classifier, ids):
    (fitted.path / "arrays" / f"reference-{classifier.hash}.safetensors").unlink()
    with pytest.raises(UnsupportedError, match="fit"):
        workflows.explain(fitted, classifier, ids, ["saliency"], target="signal:epistemic")


def test_a_stopped_explanation_keeps_finished_maps(fitted: Workspace, classifier, ids, tmp_path: Path):
    token = CancelToken()

    def stop(step: Progress) -> None:
        if step.message.startswith("saliency"):
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.explain(fitted, classifier, ids, ["saliency", "grad_cam"], on_progress=stop, cancel=token)
    before = torch.random.get_rng_state()
    workflows.explain(fitted, classifier, ids, ["saliency", "grad_cam"])
    assert fitted.runs("explain")[0].result["computed"] == 2
    assert torch.equal(torch.random.get_rng_state(), before)
