"""What every registered signal promises, checked over the whole registry."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blob_world import CLASSES, EARLY, WIDTH, means, outputs

import ltg_core.signals
from ltg_core.errors import InputError, ModelError, ParamError, UnsupportedError
from ltg_core.params import specs
from ltg_core.signals import SIGNALS
from ltg_core.signals.base import GROUPS
from ltg_core.signals.reference import Reference
from ltg_core.types import Labels, Outputs

Data = tuple[Outputs, Labels]

# a sample between two classes, or one far from all of them: what each signal must rank above a typical sample
AMBIGUOUS, FAR = "ambiguous", "far"
RISES = {
    "epistemic": AMBIGUOUS,
    "logit_variance": FAR,
    "entropy": AMBIGUOUS,
    "margin": AMBIGUOUS,
    "energy": FAR,
    "loss": AMBIGUOUS,
    "hardness": FAR,
    "density": FAR,
    "relative_mahalanobis": AMBIGUOUS,
    "leverage": FAR,
}


@pytest.mark.parametrize("name", list(SIGNALS))
def test_a_signal_gives_one_finite_number_per_sample(name: str, reference: Reference, heldout: Data) -> None:
    out, labels = heldout
    for group in GROUPS:
        scores = SIGNALS[name]()(out, reference, labels, group)
        assert scores.shape == (len(labels),)
        assert scores.dtype == torch.float32
        assert bool(scores.isfinite().all())


@pytest.mark.parametrize("name", list(SIGNALS))
def test_a_rare_case_scores_above_the_typical_sample(name: str, reference: Reference) -> None:
    far = torch.full((1, WIDTH), -9.0)
    between = means()[:2].mean(dim=0, keepdim=True)
    case = {AMBIGUOUS: between, FAR: far}[RISES[name]]
    both = SIGNALS[name]()(outputs(torch.cat([means()[:1], case])), reference, torch.tensor([0, 0]))
    assert both[1] > both[0]


@pytest.mark.parametrize("name", list(SIGNALS))
def test_the_declared_gradient_agrees_with_finite_differences(
    name: str, reference: Reference, heldout: Data
) -> None:
    signal = SIGNALS[name]()
    double = reference.to(dtype=torch.double)
    features = heldout[0].features[:4].double().requires_grad_()
    labels = heldout[1][:4]

    def score(h: torch.Tensor) -> torch.Tensor:
        return signal(outputs(h), double, labels)

    if signal.DIFFERENTIABLE:
        assert torch.autograd.gradcheck(score, (features,))
        (gradient,) = torch.autograd.grad(score(features).sum(), features)
        assert bool((gradient.abs().sum(dim=1) > 0).all())
    else:
        assert not score(features).requires_grad


@pytest.mark.parametrize("name", list(SIGNALS))
def test_a_score_does_not_depend_on_the_batch(name: str, reference: Reference, heldout: Data) -> None:
    out, labels = heldout
    signal = SIGNALS[name]()
    together = signal(out, reference, labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    some = Outputs(out.logits[order], out.features[order], out.early[order])
    torch.testing.assert_close(signal(some, reference, labels[order]), together[order], rtol=1e-4, atol=1e-5)
    for i in (0, 7, 299):
        one = Outputs(*(part[i : i + 1] for part in out))
        torch.testing.assert_close(
            signal(one, reference, labels[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", list(SIGNALS))
def test_a_gradient_reaches_only_its_own_sample(name: str, reference: Reference, heldout: Data) -> None:
    features = heldout[0].features[:6].clone().requires_grad_()
    SIGNALS[name]()(outputs(features), reference, heldout[1][:6])[2].backward()
    assert features.grad is not None
    touched = features.grad.abs().sum(dim=1) > 0
    assert touched.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("name", list(SIGNALS))
def test_a_signal_scores_an_empty_batch(name: str, reference: Reference) -> None:
    empty = Outputs(torch.zeros(0, CLASSES), torch.zeros(0, WIDTH), torch.zeros(0, EARLY))
    assert SIGNALS[name]()(empty, reference, torch.zeros(0, dtype=torch.long)).shape == (0,)


@pytest.mark.parametrize("name", list(SIGNALS))
def test_a_missing_need_is_named_and_a_declared_one_is_enough(
    name: str, reference: Reference, heldout: Data
) -> None:
    signal, (out, labels) = SIGNALS[name](), heldout
    assert signal.available(reference, labels)
    for ref, given in ((None, labels), (reference, None)):
        if signal.available(ref, given):
            assert signal(out, ref, given).shape == (len(labels),)
        else:
            with pytest.raises(UnsupportedError, match=name):
                signal(out, ref, given)


@pytest.mark.parametrize("name", [n for n in SIGNALS if "label" in SIGNALS[n].NEEDS])
def test_labels_that_do_not_fit_are_refused(name: str, reference: Reference, heldout: Data) -> None:
    signal, (out, labels) = SIGNALS[name](), heldout
    with pytest.raises(InputError, match="300 samples"):
        signal(out, reference, labels[:5])
    for wrong in (-1, CLASSES):
        with pytest.raises(InputError, match="0 to 4"):
            signal(out, reference, torch.full_like(labels, wrong))


@pytest.mark.parametrize("name", [n for n in SIGNALS if SIGNALS[n].NEEDS & {"head", "gaussian", "leverage"}])
def test_outputs_of_another_classifier_are_refused(name: str, reference: Reference, heldout: Data) -> None:
    out, labels = heldout
    other = Outputs(out.logits, out.features[:, :5], out.early)
    with pytest.raises(ModelError, match="fit"):
        SIGNALS[name]()(other, reference, labels)


def test_every_signal_stands_in_a_file_of_its_name_and_says_what_it_is() -> None:
    folder = Path(ltg_core.signals.__file__).parent
    for name, signal in SIGNALS.items():
        assert (folder / f"{name}.py").exists()
        assert signal.__module__ == f"ltg_core.signals.{name}"
        assert signal.HELP.endswith(".")
        assert {"logits", "label", "head", "gaussian", "leverage"} >= signal.NEEDS
        for spec in specs(signal):
            assert spec.help


def test_an_unknown_signal_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="epistemic"):
        SIGNALS["surprise"]


def test_a_parameter_out_of_bounds_is_refused() -> None:
    with pytest.raises(ParamError, match="temperature"):
        SIGNALS["energy"].from_dict({"temperature": 0.0})
    with pytest.raises(ParamError, match="probabilities"):
        SIGNALS["margin"].from_dict({"on": "pixels"})


def test_margin_of_a_classifier_with_one_class_says_what_to_choose() -> None:
    with pytest.raises(UnsupportedError, match="energy"):
        SIGNALS["margin"]()(Outputs(torch.zeros(2, 1), torch.zeros(2, 3)), None)
