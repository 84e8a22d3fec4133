"""The epistemic head: what it learns, what it repeats, what stops it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from blob_world import CLASSES, SMALL, blobs, means, outputs
from scipy.special import expit

from ltg_core.errors import Cancelled, InputError, ModelError, ParamError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.signals.epistemic import mutual_information
from ltg_core.signals.head import EpistemicHead, HeadSettings, fit_head
from ltg_core.types import Labels, Outputs

Data = tuple[Outputs, Labels]
ANCHORED = dataclasses.replace(SMALL, anchor=True, temperature=1.0)


def fit(data: Data, settings: HeadSettings = SMALL, seed: int = 0, **more: object) -> EpistemicHead:
    out, labels = data
    generator = torch.Generator().manual_seed(seed)
    return fit_head(
        out.stacked(), labels, CLASSES, settings, generator=generator, base_logits=out.logits, **more
    )


@pytest.mark.parametrize("settings", [SMALL, ANCHORED])
def test_members_learn_the_classes_and_agree_where_there_was_data(
    settings: HeadSettings, train: Data, heldout: Data
) -> None:
    head, (out, labels) = fit(train, settings), heldout
    z = head.logits(out.stacked(), base=out.logits)
    assert z.shape == (6, 300, CLASSES)
    accuracy = (z.argmax(dim=2) == labels).float().mean(dim=1)
    assert accuracy.min() > 0.85
    strange = outputs(-means()[:3])
    unknown = mutual_information(head.logits(strange.stacked(), base=strange.logits)).mean()
    assert unknown > 2 * mutual_information(z).mean()


def test_the_same_seed_gives_the_same_head_and_another_a_different_one(train: Data) -> None:
    first, second, other = fit(train, seed=4), fit(train, seed=4), fit(train, seed=5)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert not torch.equal(first.weight_in, other.weight_in)


def test_fitting_draws_nothing_from_the_global_generator(train: Data) -> None:
    before = torch.get_rng_state()
    fit(train)
    assert torch.equal(before, torch.get_rng_state())


def test_the_members_are_those_of_a_plain_loop(train: Data, heldout: Data) -> None:
    settings = dataclasses.replace(ANCHORED, temperature=2.0)
    head, out = fit(train, settings), heldout[0]
    state = {n: t.double().numpy() for n, t in head.state_dict().items()}
    x = (out.stacked().double().numpy() - state["mean"]) / state["std"]
    expected = []
    for k in range(6):
        hidden = x @ state["weight_in"][:, k] + state["bias_in"][k]
        learned = (hidden * expit(hidden)) @ state["weight_out"][k] + state["bias_out"][k]
        prior = np.cos(x @ state["prior_in"][:, k] + state["prior_phase"][k]) @ state["prior_out"][k]
        expected.append((learned + prior + out.logits.double().numpy()) / 2)
    z = head.logits(out.stacked(), base=out.logits)
    np.testing.assert_allclose(z, np.stack(expected), rtol=1e-3, atol=1e-3)
    for group, rows in (("guide", [0, 2, 4]), ("audit", [1, 3, 5])):
        assert head.members(group) == rows
        torch.testing.assert_close(head.logits(out.stacked(), group, base=out.logits), z[rows])


def test_the_prior_has_the_size_that_was_asked_for() -> None:
    settings = dataclasses.replace(SMALL, prior_scale=3.0, members=32, hidden=64)
    generator = torch.Generator().manual_seed(0)
    wide, narrow = (
        EpistemicHead(torch.zeros(8), torch.ones(8), CLASSES, s, generator=generator)
        for s in (settings, dataclasses.replace(settings, prior_scale=0.0))
    )
    x = torch.randn(200, 8, generator=generator)
    with torch.no_grad():
        wide.weight_out.zero_()
        narrow.weight_out.zero_()
        assert float(wide(x).std()) == pytest.approx(3.0, rel=0.1)
        assert float(narrow(x).abs().max()) == 0


def test_without_bootstrap_prior_and_data_differences_only_the_start_differs(train: Data) -> None:
    plain = dataclasses.replace(SMALL, bootstrap=False, prior_scale=0.0, epochs=30)
    rich = dataclasses.replace(plain, bootstrap=True, prior_scale=3.0)
    x = train[0].stacked()
    assert (
        mutual_information(fit(train, plain).logits(x)).mean()
        < mutual_information(fit(train, rich).logits(x)).mean()
    )


def test_a_strong_consistency_makes_an_anchored_head_repeat_the_classifier(
    train: Data, heldout: Data
) -> None:
    out = heldout[0]
    gaps = []
    for consistency in (0.0, 10.0):
        head = fit(train, dataclasses.replace(ANCHORED, consistency=consistency, epochs=30))
        gaps.append(float((head.logits(out.stacked(), base=out.logits) - out.logits).square().mean()))
    assert gaps[1] < 0.5 * gaps[0]


def test_the_fitted_head_is_frozen_and_the_inputs_are_untouched(train: Data) -> None:
    features = train[0].stacked().clone().requires_grad_()
    head = fit_head(features, train[1], CLASSES, SMALL, generator=torch.Generator().manual_seed(0))
    assert features.grad is None
    assert torch.equal(features, train[0].stacked())
    assert not head.training
    assert not any(p.requires_grad for p in head.parameters())
    head.logits(features).sum().backward()
    assert features.grad is not None and bool((features.grad.abs().sum(dim=1) > 0).all())


def test_progress_counts_the_passes_and_ends_at_the_total(train: Data) -> None:
    seen: list[Progress] = []
    fit(train, on_progress=seen.append)
    assert [p.done for p in seen[:-1]] == list(range(1, len(seen)))
    assert (seen[-1].done, seen[-1].total) == (SMALL.epochs, SMALL.epochs)
    assert "pass 1" in seen[0].message


def test_training_stops_when_the_held_out_loss_no_longer_falls(train: Data) -> None:
    seen: list[Progress] = []
    settings = dataclasses.replace(SMALL, epochs=300, patience=2, lr=0.02)
    fit(train, settings, on_progress=seen.append)
    assert len(seen) < 150


def test_cancelling_stops_at_the_next_step(train: Data) -> None:
    token, seen = CancelToken(), []

    def report(progress: Progress) -> None:
        seen.append(progress)
        token.cancel()

    with pytest.raises(Cancelled):
        fit(train, on_progress=report, cancel=token)
    assert len(seen) == 1


def test_a_handful_of_samples_is_enough() -> None:
    head = fit(blobs(6, seed=0))
    assert head.logits(blobs(3, seed=1)[0].stacked()).shape == (6, 3, CLASSES)


def test_input_that_does_not_fit_is_refused_with_what_was_given(train: Data) -> None:
    out, labels = train
    x, generator = out.stacked(), torch.Generator().manual_seed(0)
    with pytest.raises(InputError, match="two samples"):
        fit_head(x[:1], labels[:1], CLASSES, SMALL, generator=generator)
    with pytest.raises(InputError, match=r"\(5,\)"):
        fit_head(x, labels[:5], CLASSES, SMALL, generator=generator)
    with pytest.raises(InputError, match="0 to 1; got 0 to 4"):
        fit_head(x, labels, 2, SMALL, generator=generator)
    with pytest.raises(InputError, match="broken images"):
        fit_head(x.clone().fill_(torch.nan), labels, CLASSES, SMALL, generator=generator)
    with pytest.raises(InputError, match="base_logits"):
        fit_head(x, labels, CLASSES, ANCHORED, generator=generator)
    with pytest.raises(ParamError, match="members"):
        HeadSettings(members=2)


def test_reading_with_a_wrong_width_group_or_base_is_refused(train: Data) -> None:
    head, out = fit(train, ANCHORED), train[0]
    with pytest.raises(ModelError, match="12 stacked features"):
        head.logits(out.features, base=out.logits)
    with pytest.raises(InputError, match="guide"):
        head.logits(out.stacked(), "jury", base=out.logits)
    with pytest.raises(InputError, match="base"):
        head.logits(out.stacked())


def test_training_that_diverges_says_so(train: Data) -> None:
    out, labels = train
    against = torch.nn.functional.one_hot(labels, CLASSES) * -3e38
    huge = Outputs(against, out.features, out.early)
    with pytest.raises(ModelError, match="diverged in pass 1; use a smaller learning rate"):
        fit((huge, labels), ANCHORED)
