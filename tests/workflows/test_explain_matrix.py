"""Samples by methods: what cannot be had says why and offers another; what is there is read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ltg_core import workflows
from ltg_core.attribution import ATTRIBUTIONS, ClassTarget, ContrastTarget
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.workflows.questions import Question

TWO = ["saliency", "grad_cam"]


@pytest.fixture
def ids(fitted: Workspace) -> list[str]:
    return fitted.query(Filter(split="test"))[:3]


def test_every_cell_is_there_and_the_answer_is_plain_json(fitted: Workspace, classifier, ids):
    answer = workflows.explain_matrix(fitted, ids, TWO, target="class:yield")
    assert json.loads(json.dumps(answer)) == answer
    assert answer["maps"] == 6 and answer["refused"] == [] and answer["words"] == "What speaks for yield"
    found = workflows.stored_matrix(fitted, ids, TWO, target="class:yield")
    assert set(found) == {(one, method) for one in ids for method in TWO}
    straight = ATTRIBUTIONS["saliency"]().attribute(ClassTarget(classifier, 1), fitted.tensor(ids))
    for one, heat in zip(ids, straight, strict=True):
        np.testing.assert_allclose(found[one, "saliency"].values, heat.numpy(), rtol=1e-4, atol=1e-6)
    assert workflows.stored_matrix(fitted, ids, TWO, target="class:stop") == {}
    assert fitted.run(answer["run"]).result["computed"] == 6


def test_a_method_without_a_place_to_look_is_refused_and_the_others_are_shown(
    fitted: Workspace, classifier, ids, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(classifier, "gradcam_layer", None)
    answer = workflows.explain_matrix(fitted, ids, TWO)
    assert answer["maps"] == 3
    assert {one["sample"] for one in answer["refused"]} == set(ids)
    for one in answer["refused"]:
        assert one["method"] == "grad_cam" and one["offer"] == {"method": "integrated_gradients"}
        assert "no spatial layer" in one["reason"] and one["reason"].endswith(".")
    assert set(workflows.stored_matrix(fitted, ids, TWO)) == {(one, "saliency") for one in ids}


def test_a_question_that_needs_a_label_is_answered_where_there_is_one(fitted: Workspace, ids):
    new = fitted.add_image(Image.new("RGB", (32, 32)), origin="real")
    answer = workflows.explain_matrix(fitted, [ids[0], new], ["saliency"], target="signal:loss")
    (refused,) = answer["refused"]
    assert refused["sample"] == new and refused["offer"] == {"target": "prediction"}
    assert set(workflows.stored_matrix(fitted, [ids[0], new], ["saliency"], target="signal:loss")) == {
        (ids[0], "saliency")
    }


def test_a_mistake_is_explained_where_there_is_one(fitted: Workspace, classifier, ids):
    samples = {sample.id: sample for sample in fitted.samples(ids)}
    wrong, right = ids[0], ids[1]
    other = (samples[wrong].label + 1) % 3
    fitted.set_predictions(classifier.hash, {wrong: (other, 0.9), right: (samples[right].label, 0.9)})
    answer = workflows.explain_matrix(fitted, [wrong, right], ["saliency"], target="mistake")
    (refused,) = answer["refused"]
    assert refused["sample"] == right and refused["offer"] == {"target": "runner-up"}
    assert "no mistake" in refused["reason"]


def test_the_prediction_is_compared_with_the_runner_up(fitted: Workspace, classifier, ids):
    images = fitted.tensor(ids)
    workflows.explain_matrix(fitted, ids, ["saliency"], target="runner-up")
    found = workflows.stored_matrix(fitted, ids, ["saliency"], target="runner-up")
    first, second = classifier.outputs(images).logits.topk(2, dim=1).indices.T
    straight = ATTRIBUTIONS["saliency"]().attribute(ContrastTarget(classifier, first, second), images)
    for one, heat in zip(ids, straight, strict=True):
        np.testing.assert_allclose(found[one, "saliency"].values, heat.numpy(), rtol=1e-4, atol=1e-6)


def test_class_names_with_a_bar_are_told_apart(fitted: Workspace, classifier, monkeypatch):
    monkeypatch.setattr(classifier, "labels", ("a|b", "b", "a"))
    target = Question(fitted, classifier, "contrast:a|b|a").build([])
    assert isinstance(target, ContrastTarget) and (target.a, target.b) == (0, 2)
    with pytest.raises(InputError, match="are the same"):
        Question(fitted, classifier, "contrast:b|b")


@pytest.mark.parametrize("target", ("class:bus", "contrast:stop", "signal:luck", "mood", "prediction:x"))
def test_a_question_without_meaning_is_an_error_and_not_a_table_of_refusals(
    fitted: Workspace, ids, target: str
):
    with pytest.raises(InputError):
        workflows.explain_matrix(fitted, ids, ["saliency"], target=target)


def test_checked_maps_carry_their_evidence_and_unchecked_ones_do_not(fitted: Workspace, ids):
    workflows.explain_matrix(fitted, ids[:1], TWO, checked=["saliency"])
    found = workflows.stored_matrix(fitted, ids[:1], TWO)
    one, other = found[ids[0], "saliency"], found[ids[0], "grad_cam"]
    assert other.trust is None and other.evidence is None
    assert one.evidence is not None and one.trust == one.evidence.trust
    assert one.evidence.curves.shape == (4, 17) and one.evidence.unlearned.shape == (32, 32)
    assert not np.array_equal(one.evidence.unlearned, one.values)
    answer = workflows.explain_matrix(fitted, ids[:1], TWO, checked=["saliency"])
    assert fitted.run(answer["run"]).result["computed"] == 0, "the checks are read as well"


def test_a_map_that_does_not_fit_into_memory_offers_a_lighter_method(fitted: Workspace, ids, monkeypatch):
    def full(self: ClassTarget, images: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ClassTarget, "forward", full)
    answer = workflows.explain_matrix(fitted, ids[:1], ["integrated_gradients", "occlusion"])
    assert answer["maps"] == 0 and len(answer["refused"]) == 2
    for one in answer["refused"]:
        assert "does not fit into memory" in one["reason"] and one["offer"] == {"method": "grad_cam"}


def test_a_stopped_table_keeps_its_finished_columns(fitted: Workspace, ids):
    token = CancelToken()

    def stop(step: Progress) -> None:
        if step.message.startswith("saliency"):
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.explain_matrix(fitted, ids, TWO, on_progress=stop, cancel=token)
    assert set(workflows.stored_matrix(fitted, ids, TWO)) == {(one, "saliency") for one in ids}
