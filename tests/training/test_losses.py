"""Every loss against a case worked out by hand, the published test vector, or another library."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import ltg_core.training.losses
from ltg_core.errors import InputError, UnsupportedError
from ltg_core.training.losses import LOSSES, About, Batch
from ltg_core.training.losses.base import effective_weights
from ltg_core.training.losses.class_balanced import ClassBalanced
from ltg_core.training.losses.cross_entropy import CrossEntropy
from ltg_core.training.losses.focal import Focal
from ltg_core.training.losses.group_dro import GroupDro
from ltg_core.training.losses.ldam import Ldam
from ltg_core.training.losses.logit_adjusted import LogitAdjusted
from ltg_core.training.losses.neighbour_silencing import NeighbourSilencing, neighbours

CLASSES = 5
ABOUT = About(
    torch.tensor([400.0, 100.0, 25.0, 5.0, 1.0]),
    torch.tensor([300.0, 200.0, 31.0]),
    torch.tensor([-1, -1, -1, 0, 2]),
)


def a_batch(count: int = 12, dtype: torch.dtype = torch.float32) -> Batch:
    rng = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % CLASSES
    return Batch(
        2 * torch.randn(count, CLASSES, generator=rng, dtype=dtype),
        F.one_hot(labels, CLASSES).to(dtype),
        torch.ones(count, dtype=dtype),
        torch.arange(count) % 3,
        0.9,
    )


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_is_finite_and_its_gradient_agrees_with_finite_differences(name: str) -> None:
    loss, batch = LOSSES[name](), a_batch(6, torch.double)
    loss.check(ABOUT)
    state = loss.state(ABOUT)

    def value(logits: torch.Tensor) -> torch.Tensor:
        return loss(batch._replace(logits=logits), ABOUT, dict(state))

    # In single precision where the formula is computed in it: a large step, a generous tolerance.
    logits = batch.logits.clone().requires_grad_()
    assert math.isfinite(value(logits).item())
    assert torch.autograd.gradcheck(value, (logits,), eps=1e-2, atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize("name", list(LOSSES))
def test_an_image_of_weight_0_has_no_gradient_and_half_precision_is_no_trouble(name: str) -> None:
    loss, batch = LOSSES[name](), a_batch()
    weights = batch.weights.clone()
    weights[4] = 0.0
    logits = (30 * batch.logits).to(torch.bfloat16).requires_grad_()
    loss(batch._replace(logits=logits, weights=weights), ABOUT, loss.state(ABOUT)).backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
    assert not bool(logits.grad[4].any()) and bool(logits.grad[3].any())


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "neighbour-silencing"])
def test_a_soft_label_of_ones_and_zeros_is_a_label_and_a_soft_one_lies_between(name: str) -> None:
    loss, z = LOSSES[name](), torch.tensor([[1.0, -1.0, 0.0, 0.5, 2.0]])
    hard = [loss.each(z, F.one_hot(torch.tensor([k]), CLASSES).float(), ABOUT, 0.0).item() for k in (0, 1)]
    soft = loss.each(z, torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]]), ABOUT, 0.0).item()
    assert min(hard) < soft < max(hard)


def test_cross_entropy_is_that_of_torch_with_hard_and_soft_labels_and_smoothing() -> None:
    batch = a_batch()
    soft = torch.rand(12, CLASSES, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    for smoothing in (0.0, 0.1):
        for targets in (batch.targets, soft):
            ours = CrossEntropy(smoothing=smoothing)(batch._replace(targets=targets), ABOUT, {})
            torch.testing.assert_close(
                ours, F.cross_entropy(batch.logits, targets, label_smoothing=smoothing)
            )


def test_effective_weights_are_those_of_the_formula() -> None:
    # beta = .9: (1 - .9) / (1 - .9), / (1 - .81), / (1 - .9^10) = 1, .526316, .153534; their sum is 1.679850
    found = effective_weights(torch.tensor([1.0, 2.0, 10.0]), 0.9)
    torch.testing.assert_close(
        found, torch.tensor([1.0, 0.526316, 0.153534]) * 3 / 1.679850, rtol=1e-5, atol=1e-6
    )
    assert torch.equal(effective_weights(ABOUT.counts, 0.0), torch.ones(CLASSES))
    near = effective_weights(torch.tensor([1e6, 2.0]), 0.999999)
    torch.testing.assert_close(
        near[1] / near[0], torch.tensor((1 - math.exp(-1)) / 2e-6), rtol=1e-3, atol=0.0
    )


def test_class_balanced_is_cross_entropy_of_torch_with_those_weights() -> None:
    batch, loss = a_batch(), ClassBalanced(beta=0.99)
    weights = effective_weights(ABOUT.counts, 0.99)
    labels = batch.targets.argmax(dim=1)
    expected = F.cross_entropy(batch.logits, labels, weight=weights, reduction="none").mean()
    torch.testing.assert_close(loss(batch, ABOUT, {}), expected)


def test_focal_over_two_classes_is_the_sigmoid_form_of_torchvision() -> None:
    from torchvision.ops import sigmoid_focal_loss

    z = torch.tensor([[0.3], [-2.0], [1.5], [4.0]])
    labels = torch.tensor([1, 0, 0, 1])
    two = torch.cat([torch.zeros_like(z), z], dim=1)
    ours = Focal(gamma=2.0).each(two, F.one_hot(labels, 2).float(), ABOUT, 0.0)
    theirs = sigmoid_focal_loss(z[:, 0], labels.float(), alpha=-1, gamma=2.0, reduction="none")
    torch.testing.assert_close(ours, theirs)
    plain = Focal(gamma=0.0).each(two, F.one_hot(labels, 2).float(), ABOUT, 0.0)
    torch.testing.assert_close(plain, F.cross_entropy(two, labels, reduction="none"))


def test_ldam_takes_the_margin_from_the_own_logit_and_reweights_late() -> None:
    # n = (16, 81, 256): n^(-1/4) = 1/2, 1/3, 1/4; margins for M = .5: .5, 1/3, .25
    about = About(torch.tensor([16.0, 81.0, 256.0]))
    z, t = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 0.0]])
    loss = Ldam(margin=0.5, scale=2.0, defer=0.8, beta=0.9)
    by_hand = math.log(2 + math.exp(-2 / 3)) + 2 / 3
    assert loss.each(z, t, about, 0.79).item() == pytest.approx(by_hand, rel=1e-6)
    weight = effective_weights(about.counts, 0.9)[1].item()
    assert loss.each(z, t, about, 0.8).item() == pytest.approx(weight * by_hand, rel=1e-6)


def test_balanced_softmax_is_cross_entropy_with_the_log_of_the_counts_and_logit_adjustment_its_tau() -> None:
    batch = a_batch()
    expected = F.cross_entropy(batch.logits + ABOUT.counts.log(), batch.targets)
    torch.testing.assert_close(LOSSES["balanced-softmax"]()(batch, ABOUT, {}), expected)
    torch.testing.assert_close(LogitAdjusted(tau=1.0)(batch, ABOUT, {}), expected)
    expected = F.cross_entropy(batch.logits + 0.5 * ABOUT.counts.log(), batch.targets)
    torch.testing.assert_close(LogitAdjusted(tau=0.5)(batch, ABOUT, {}), expected)
    torch.testing.assert_close(
        LogitAdjusted(tau=0.0)(batch, ABOUT, {}), F.cross_entropy(batch.logits, batch.targets)
    )


def test_group_dro_moves_weight_to_the_worse_group_as_worked_out_by_hand() -> None:
    # Two classes, logits 0: every image has the loss log 2; weights 2 and 1 make the groups' means 2 log 2, log 2.
    about = About(torch.tensor([2.0, 2.0]), torch.tensor([4.0, 25.0]))
    loss = GroupDro(eta=1.0)
    state = loss.state(about)
    batch = Batch(
        torch.zeros(5, 2),
        torch.tensor([[1.0, 0.0]] * 5),
        torch.tensor([2.0, 2.0, 1.0, 1.0, 9.0]),
        torch.tensor([0, 0, 1, 1, -1]),  # the last is of no group
    )
    value = loss(batch, about, state)
    # q = (e^(2 log 2), e^(log 2)) / sum = (4, 2) / 6
    torch.testing.assert_close(state["q"], torch.tensor([2 / 3, 1 / 3]))
    assert value.item() == pytest.approx(2 / 3 * 2 * math.log(2) + 1 / 3 * math.log(2), rel=1e-6)
    # with the adjustment of 1: + 1/2 and + 1/5 in the exponent
    state = loss.state(about)
    GroupDro(eta=1.0, adjustment=1.0)(batch, about, state)
    a, b = 4 * math.exp(0.5), 2 * math.exp(0.2)
    torch.testing.assert_close(state["q"], torch.tensor([a / (a + b), b / (a + b)]))


@pytest.mark.parametrize(
    ("silence", "loss_value", "gradient"), [(1.0, 4.8752, 0.0763), (0.1, 4.8040, 0.0082), (0.0, 4.7958, 0.0)]
)
def test_neighbour_silencing_gives_the_published_test_vector(
    silence: float, loss_value: float, gradient: float
) -> None:
    about = About(torch.tensor([5.0, 50.0, 500.0, 50.0, 50.0]), parents=torch.tensor([-1, -1, -1, 0, 1]))
    z = torch.zeros(1, 5, requires_grad=True)
    loss = (
        NeighbourSilencing(silence=silence).each(z, F.one_hot(torch.tensor([0]), 5).float(), about, 0.0).sum()
    )
    loss.backward()
    assert loss.item() == pytest.approx(loss_value, abs=5e-5)
    assert z.grad is not None and z.grad[0, 3].item() == pytest.approx(gradient, abs=5e-5)
    assert bool(z.grad.isfinite().all()) and (silence > 0 or z.grad[0, 3].item() == 0.0)


def test_an_auxiliary_class_silences_its_parent_and_not_the_others() -> None:
    about = About(torch.ones(4), parents=torch.tensor([-1, -1, 0, 0]))
    z = torch.zeros(1, 4, requires_grad=True)
    NeighbourSilencing(silence=0.0).each(z, torch.tensor([[0.0, 0.0, 1.0, 0.0]]), about, 0.0).sum().backward()
    assert z.grad is not None
    # its parent 0 is silent; class 1 and its sibling 3 compete
    torch.testing.assert_close(z.grad[0], torch.tensor([0.0, 1 / 3, -2 / 3, 1 / 3]))


def test_an_auxiliary_class_may_stand_beside_several_and_silences_each_of_them() -> None:
    parents = torch.tensor([[-1, -1], [-1, -1], [-1, -1], [0, 2], [1, -1]])
    wanted = torch.zeros(5, 5, dtype=torch.bool)
    for y, k in ((0, 3), (2, 3), (1, 4)):
        wanted[y, k] = wanted[k, y] = True
    assert torch.equal(neighbours(parents), wanted)
    z = torch.zeros(1, 5, requires_grad=True)
    loss = NeighbourSilencing(silence=0.0)
    loss.each(
        z, torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]]), About(torch.ones(5), parents=parents), 0.0
    ).sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad[0], torch.tensor([0.25, 0.25, -0.75, 0.0, 0.25]))


def test_a_loss_without_what_it_needs_says_how_to_get_it() -> None:
    plain = About(torch.ones(3))
    with pytest.raises(UnsupportedError, match="--column"):
        LOSSES["group-dro"]().check(plain)
    with pytest.raises(UnsupportedError, match="auxiliary_of"):
        LOSSES["neighbour-silencing"]().check(plain)
    with pytest.raises(InputError, match="known: cross-entropy"):
        LOSSES["arcface"]


def test_every_loss_stands_in_a_file_of_its_name_and_says_what_for_and_from_where() -> None:
    folder = Path(ltg_core.training.losses.__file__).parent
    for name, loss in LOSSES.items():
        assert (folder / f"{name.replace('-', '_')}.py").is_file()
        assert loss.HELP.endswith(".") and loss.SOURCE.endswith(".")
    names = {p.stem.replace("_", "-") for p in folder.glob("[a-z]*.py")} - {"base"}
    assert names == set(LOSSES)
