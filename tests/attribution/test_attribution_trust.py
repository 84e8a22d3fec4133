"""The checks of a map: honest ones pass, edge detectors and noise do not."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.stats
import torch

from ltg_core.attribution import Attribution, ClassTarget, IntegratedGradients, Occlusion
from ltg_core.attribution.base import Chunk
from ltg_core.attribution.trust import examine, randomised, rank_correlation, sanity
from ltg_core.errors import InputError
from ltg_core.models.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class Brightness(Attribution):
    """Shows the image and never looks at the network."""

    NAME: ClassVar[str] = "brightness"
    HELP: ClassVar[str] = "For comparison."

    def _heat(self, chunk: Chunk) -> torch.Tensor:
        return chunk.images.sum(dim=1)


def test_a_map_of_the_image_fails_the_randomisation_check(classifier: Classifier, batch: Any) -> None:
    for trust in sanity(Brightness(), ClassTarget(classifier), batch.images):
        assert trust.randomisation == pytest.approx(1.0)
        assert not trust.depends_on_network and not trust.passed
        assert "similar" in trust.verdict


def test_hot_pixels_of_an_honest_map_matter_more_than_random_ones(classifier: Classifier, batch: Any) -> None:
    target = ClassTarget(classifier)
    for method in (IntegratedGradients(n_steps=16, baseline="mean"), Occlusion(window=0.3)):
        for trust in sanity(method, target, batch.images):
            assert trust.faithful
            assert trust.deletion < trust.deletion_random
            assert trust.insertion > trust.insertion_random


def test_the_evidence_is_what_the_figures_were_taken_from(classifier: Classifier, batch: Any) -> None:
    target, method = ClassTarget(classifier), Occlusion(window=0.3)
    heat = method.attribute(target, batch.images)
    for found, own in zip(examine(method, target, batch.images, heat), heat, strict=True):
        areas = np.trapezoid(found.curves, dx=1 / 16, axis=1)
        trust = found.trust
        expected = (trust.deletion, trust.insertion, trust.deletion_random, trust.insertion_random)
        np.testing.assert_allclose(areas, expected, rtol=1e-4)
        assert found.curves.shape == (4, 17) and found.curves.min() >= 0 and found.curves.max() <= 1
        # Both curves of a pair run between the untouched image and the empty one.
        np.testing.assert_allclose(found.curves[0, 0], found.curves[1, -1], atol=1e-5)
        unlearned = torch.from_numpy(found.unlearned)
        assert rank_correlation(own.abs(), unlearned.abs()) == pytest.approx(trust.randomisation)
        assert found.notes == ()


def test_checks_that_run_out_of_memory_go_on_in_smaller_parts_and_say_so(
    classifier: Classifier, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, method = ClassTarget(classifier), Occlusion(window=0.3)
    heat = method.attribute(target, batch.images)
    expected = examine(method, target, batch.images, heat)
    forward = ClassTarget.forward

    def tight(self: ClassTarget, images: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images, *rest)

    monkeypatch.setattr(ClassTarget, "forward", tight)
    for found, before in zip(examine(method, target, batch.images, heat), expected, strict=True):
        np.testing.assert_allclose(found.curves, before.curves, atol=1e-4)
        assert "memory ran out while checking 32 images at once; finished with 2 at once" in found.notes


def test_an_inverted_map_is_called_unfaithful(classifier: Classifier, batch: Any) -> None:
    method, target = Occlusion(window=0.3), ClassTarget(classifier)
    heat = method.attribute(target, batch.images)
    for trust in sanity(method, target, batch.images, -heat):
        assert not trust.faithful


def test_a_target_that_no_pixel_moves_cannot_be_judged(classifier: Classifier) -> None:
    flat = torch.full((1, 3, 24, 24), 0.3)  # the colour that removed pixels get
    (trust,) = sanity(Occlusion(), ClassTarget(classifier), flat)
    assert "cannot be judged" in trust.verdict
    assert not trust.passed


def test_checks_repeat_with_the_same_generator_seed(classifier: Classifier, batch: Any) -> None:
    def run() -> Any:
        return sanity(
            Occlusion(window=0.4),
            ClassTarget(classifier),
            batch.images[:2],
            generator=torch.Generator().manual_seed(3),
        )

    assert run() == run()


def test_the_original_is_untouched_and_the_copy_differs_in_its_last_layers(classifier: Classifier) -> None:
    before = {key: value.clone() for key, value in classifier.net.state_dict().items()}
    copy = randomised(classifier, 0.34, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[key]) for key, value in classifier.net.state_dict().items())
    after = copy.net.state_dict()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert not torch.equal(after["7.weight"], before["7.weight"])
    everything = randomised(classifier, 1.0, torch.Generator().manual_seed(0)).net.state_dict()
    assert not torch.equal(everything["0.weight"], before["0.weight"])
    with pytest.raises(InputError, match="share"):
        randomised(classifier, 0.0, torch.Generator())


def test_rank_correlation_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 200), rng.integers(0, 6, 200) + rng.integers(0, 2, 200)
    expected = scipy.stats.spearmanr(a, b).statistic
    assert rank_correlation(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected)
    assert rank_correlation(torch.ones(5), torch.arange(5)) == 0.0


def test_heat_of_another_shape_is_refused(classifier: Classifier, batch: Any) -> None:
    with pytest.raises(InputError, match="heat has shape"):
        sanity(Occlusion(), ClassTarget(classifier), batch.images, torch.zeros(4, 8, 8))
