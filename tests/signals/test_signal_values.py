"""Every signal's value against an independent computation."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from scipy.special import logsumexp, softmax
from scipy.stats import entropy, multivariate_normal

from ltg_core.signals.density import Density
from ltg_core.signals.energy import Energy
from ltg_core.signals.entropy import Entropy
from ltg_core.signals.epistemic import Epistemic, mutual_information
from ltg_core.signals.hardness import Hardness
from ltg_core.signals.leverage import Leverage
from ltg_core.signals.logit_variance import LogitVariance
from ltg_core.signals.loss import Loss
from ltg_core.signals.margin import Margin
from ltg_core.signals.reference import Reference
from ltg_core.signals.relative_mahalanobis import RelativeMahalanobis
from ltg_core.types import Labels, Outputs

Data = tuple[Outputs, Labels]


def covariance(factor: torch.Tensor) -> np.ndarray:
    lower = factor.double().numpy()
    return lower @ lower.T


def standardised(ref: Reference, out: Outputs) -> np.ndarray:
    mean, std = ref.projection.mean.double().numpy(), ref.projection.std.double().numpy()
    return (out.features.double().numpy() - mean) / std


def test_entropy_agrees_with_scipy(heldout: Data) -> None:
    expected = entropy(softmax(heldout[0].logits.double().numpy(), axis=1), axis=1)
    np.testing.assert_allclose(Entropy()(heldout[0], None), expected, rtol=1e-4, atol=1e-6)


def test_margin_agrees_with_a_sorted_loop(heldout: Data) -> None:
    for on in ("probabilities", "logits"):
        rows = heldout[0].logits.double().numpy()
        rows = softmax(rows, axis=1) if on == "probabilities" else rows
        expected = [sorted(row)[-2] - sorted(row)[-1] for row in rows]
        np.testing.assert_allclose(Margin(on=on)(heldout[0], None), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_energy_agrees_with_scipy(heldout: Data, temperature: float) -> None:
    expected = -temperature * logsumexp(heldout[0].logits.double().numpy() / temperature, axis=1)
    np.testing.assert_allclose(
        Energy(temperature=temperature)(heldout[0], None), expected, rtol=1e-4, atol=1e-5
    )


def test_loss_agrees_with_a_loop(heldout: Data) -> None:
    out, labels = heldout
    p = softmax(out.logits.double().numpy(), axis=1)
    expected = [-np.log(p[i, y]) for i, y in enumerate(labels.tolist())]
    np.testing.assert_allclose(Loss()(out, None, labels), expected, rtol=1e-4, atol=1e-5)


def test_mutual_information_is_the_difference_of_the_two_entropies() -> None:
    logits = 2 * torch.randn(7, 20, 4, generator=torch.Generator().manual_seed(0))
    p = softmax(logits.double().numpy(), axis=2)
    expected = entropy(p.mean(axis=0), axis=1) - entropy(p, axis=2).mean(axis=0)
    np.testing.assert_allclose(mutual_information(logits), expected, rtol=1e-4, atol=1e-7)


def test_mutual_information_keeps_its_digits_where_all_members_are_sure() -> None:
    logits = torch.tensor([[[30.0, 0.0, -2.0]], [[31.0, 0.0, 1.0]], [[29.0, -3.0, 0.5]]])
    with mpmath.workdps(60):
        members = []
        for row in logits[:, 0].tolist():
            exps = [mpmath.exp(v) for v in row]
            members.append([e / sum(exps) for e in exps])
        mean = [sum(column) / 3 for column in zip(*members, strict=True)]
        h = lambda p: -sum(v * mpmath.log(v) for v in p)  # noqa: E731
        expected = float(h(mean) - sum(h(p) for p in members) / 3)
    assert expected < 1e-12
    assert float(mutual_information(logits)) == pytest.approx(expected, rel=1e-4)


def test_mutual_information_is_zero_where_members_agree_and_never_negative() -> None:
    one = torch.randn(1, 50, 6, generator=torch.Generator().manual_seed(0)) * 10
    assert mutual_information(one.expand(8, -1, -1)).abs().max() < 1e-6
    close = one + 1e-3 * torch.randn(8, 50, 6, generator=torch.Generator().manual_seed(1))
    assert mutual_information(close).min() > -1e-6


def test_mutual_information_has_finite_gradients_at_extreme_logits() -> None:
    logits = torch.tensor([[[200.0, 0.0]], [[0.0, 200.0]], [[1e4, -1e4]]], requires_grad=True)
    mutual_information(logits).sum().backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_mutual_information_of_half_precision_is_computed_in_full() -> None:
    logits = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)).half()
    assert mutual_information(logits).dtype == torch.float32
    torch.testing.assert_close(mutual_information(logits), mutual_information(logits.float()))


def test_epistemic_and_logit_variance_read_the_members_of_the_group(
    reference: Reference, heldout: Data
) -> None:
    out = heldout[0]
    z = reference.head.logits(out.stacked()).double().numpy()
    for group, rows in (("all", slice(None)), ("guide", slice(0, None, 2)), ("audit", slice(1, None, 2))):
        p = softmax(z[rows], axis=2)
        expected = entropy(p.mean(axis=0), axis=1) - entropy(p, axis=2).mean(axis=0)
        np.testing.assert_allclose(Epistemic()(out, reference, group=group), expected, rtol=2e-3, atol=1e-6)
        variance = z[rows].var(axis=0).mean(axis=1)
        np.testing.assert_allclose(
            LogitVariance()(out, reference, group=group), variance, rtol=1e-3, atol=1e-6
        )


def test_hardness_agrees_with_scipy_in_the_features_own_units(reference: Reference, heldout: Data) -> None:
    out, labels = heldout
    g, scale = reference.gaussians, np.diag(reference.projection.std.double().numpy())
    shift = reference.projection.mean.double().numpy()
    expected = [
        -multivariate_normal(
            g.means[y].double().numpy() @ scale + shift, scale @ covariance(g.factors[y]) @ scale
        ).logpdf(h)
        for h, y in zip(out.features.double().numpy(), labels.tolist(), strict=True)
    ]
    np.testing.assert_allclose(Hardness()(out, reference, labels), expected, rtol=1e-4, atol=1e-4)


def test_hardness_without_labels_takes_the_predicted_class(reference: Reference, heldout: Data) -> None:
    out = heldout[0]
    torch.testing.assert_close(
        Hardness()(out, reference), Hardness()(out, reference, out.logits.argmax(dim=1)), rtol=0, atol=0
    )


def test_density_agrees_with_a_scipy_mixture(reference: Reference, heldout: Data) -> None:
    g, x = reference.gaussians, standardised(reference, heldout[0])
    parts = [
        multivariate_normal(g.means[c].double().numpy(), covariance(g.tied)).logpdf(x)
        + float(g.log_priors[c])
        for c in range(len(g.means))
    ]
    expected = -logsumexp(np.stack(parts), axis=0) + float(reference.projection.std.double().log().sum())
    np.testing.assert_allclose(Density()(heldout[0], reference), expected, rtol=1e-4, atol=1e-4)


def test_relative_mahalanobis_agrees_with_scipy(reference: Reference, heldout: Data) -> None:
    g, x = reference.gaussians, standardised(reference, heldout[0])
    tied, background = np.linalg.inv(covariance(g.tied)), np.linalg.inv(covariance(g.background))
    expected = [
        min(mahalanobis(row, mean, tied) ** 2 for mean in g.means.double().numpy())
        - mahalanobis(row, g.center.double().numpy(), background) ** 2
        for row in x
    ]
    np.testing.assert_allclose(RelativeMahalanobis()(heldout[0], reference), expected, rtol=1e-3, atol=1e-3)


def test_leverage_agrees_with_a_numpy_inverse(reference: Reference, train: Data, heldout: Data) -> None:
    h, x = (
        np.hstack([a, np.ones((len(a), 1))])
        for a in (standardised(reference, d[0]) for d in (train, heldout))
    )
    inverse = np.linalg.inv(h.T @ h + np.eye(h.shape[1]))
    expected = np.einsum("bi,ij,bj->b", x, inverse, x)
    np.testing.assert_allclose(Leverage()(heldout[0], reference), expected, rtol=1e-4)
