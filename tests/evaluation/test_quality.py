"""Quality of a set of images: against hand-computed cases, brute force, torchmetrics and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ltg_core.errors import Cancelled, InputError
from ltg_core.evaluation import quality as q
from ltg_core.jobs import CancelToken

Array = np.ndarray[Any, Any]


def clouds(n: int = 60, m: int = 40, width: int = 5, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)), 0.4 + 1.3 * rng.normal(size=(m, width))


def brute(real: Array, made: Array, k: int) -> tuple[float, float, float, float]:
    """The formulas of the papers, image by image."""

    def distance(a: Array, b: Array) -> float:
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(points: Array, i: int) -> float:
        return sorted(distance(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]

    r = [radius(real, i) for i in range(len(real))]
    g = [radius(made, j) for j in range(len(made))]
    inside = [[distance(x, y) <= r[i] for i, x in enumerate(real)] for y in made]
    precision = np.mean([any(row) for row in inside])
    density = np.sum(inside) / (k * len(made))
    coverage = np.mean([any(inside[j][i] for j in range(len(made))) for i in range(len(real))])
    recall = np.mean([any(distance(x, y) <= g[j] for j, y in enumerate(made)) for x in real])
    return float(precision), float(recall), float(density), float(coverage)


def test_four_real_and_three_made_on_a_line() -> None:
    """Real 0, 1, 2, 10 with one neighbour: balls of radius 1, 1, 1, 8; made .5, 1.5, 30: radii 1, 1, 28.5."""
    real, made = np.array([[0.0], [1], [2], [10]]), np.array([[0.5], [1.5], [30]])
    found = q.prdc(real, made, neighbours=1)
    # .5 lies in the balls of 0 and 1, 1.5 in those of 1 and 2, 30 in none; the ball of 10 reaches from 2 to 18.
    assert found.precision == pytest.approx(2 / 3)
    assert found.density == pytest.approx(4 / 3)
    assert found.coverage == pytest.approx(3 / 4)
    # 0, 1 and 2 lie within 1 of a made image; 10 lies in the ball of 30, which reaches from 1.5 to 58.5.
    assert found.recall == pytest.approx(1.0)


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(6, 14), st.integers(6, 14))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_prdc_is_the_brute_force(seed: int, k: int, n: int, m: int) -> None:
    real, made = clouds(n, m, 2, seed)
    assert tuple(q.prdc(real, made, neighbours=k)) == pytest.approx(brute(real, made, k))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = clouds()
    whole = q.quality(real, made)
    monkeypatch.setattr(q, "BLOCK", 8 * 70)  # a row a block
    assert len(q._blocks(60, 40)) == 60
    parts = q.quality(real, made).record()
    assert parts == {name: pytest.approx(value, rel=1e-9) for name, value in whole.record().items()}


def test_a_copy_is_perfect_and_a_collapse_is_not() -> None:
    real, _ = clouds()
    same = q.quality(real, real)
    assert (same.precision, same.recall, same.coverage) == (1.0, 1.0, 1.0)
    assert same.kid < 0.05 and same.frechet == pytest.approx(0.0, abs=1e-6)
    assert same.vendi == pytest.approx(same.vendi_real)
    collapsed = q.quality(real, np.repeat(real[:1], 40, axis=0))
    assert collapsed.precision == 1.0 and collapsed.coverage < 0.3 and collapsed.recall < 0.1
    assert collapsed.vendi == pytest.approx(1.0)
    far = q.quality(real, real[:40] + 50)
    assert far.precision == far.recall == far.density == far.coverage == 0.0
    assert far.kid > same.kid and (far.frechet or 0) > 5 * 50**2 * 0.9


def test_the_vendi_score_counts_different_images() -> None:
    eye = np.eye(6)
    assert q.vendi(eye) == pytest.approx(6)
    assert q.vendi(np.concatenate([eye[:2]] * 5)) == pytest.approx(2)  # ten images, two kinds
    # Two kinds as three to one: exp of the entropy of (3/4, 1/4).
    mixed = np.concatenate([eye[:1]] * 3 + [eye[1:2]])
    assert q.vendi(mixed) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    x, _ = clouds(30, 3, 50)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = torch.linalg.eigvalsh(torch.from_numpy(unit @ unit.T / 30)).clamp(min=1e-15)
    assert q.vendi(x) == pytest.approx(float((-(values * values.log()).sum()).exp()), rel=1e-6)
    assert q.vendi(x[:, :4]) == pytest.approx(q.vendi(np.pad(x[:, :4], ((0, 0), (0, 96)))))  # either product
    with pytest.raises(InputError, match="all zero"):
        q.vendi(np.zeros((3, 2)))


class _Itself(torch.nn.Module):
    """Features that are given instead of images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_the_kernel_distance_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    real, made = clouds(40, 40, 12)
    theirs = KernelInceptionDistance(feature=_Itself(), subsets=1, subset_size=40, normalize=True)
    theirs.update(torch.from_numpy(real), real=True)
    theirs.update(torch.from_numpy(made), real=False)
    mean, _ = theirs.compute()
    assert q.kid(real, made) == pytest.approx(float(mean), rel=1e-5)
    few = q.kid(real[:3], made[:2])
    kernel = [[(x @ y / 12 + 1) ** 3 for y in (*real[:3], *made[:2])] for x in (*real[:3], *made[:2])]
    k = np.array(kernel)
    by_hand = (
        (k[:3, :3].sum() - np.trace(k[:3, :3])) / 6
        + (k[3:, 3:].sum() - np.trace(k[3:, 3:])) / 2
        - 2 * k[:3, 3:].mean()
    )
    assert few == pytest.approx(by_hand)


def test_the_frechet_distance_is_that_of_scipy() -> None:
    from scipy.linalg import sqrtm

    real, made = clouds(80, 70, 4)
    a, b = np.cov(real.T), np.cov(made.T)
    shift = ((real.mean(0) - made.mean(0)) ** 2).sum()
    expected = shift + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert q.frechet(real, made) == pytest.approx(expected, rel=1e-6)
    line = np.array([[0.0], [2.0]])  # variances 2 and 8, means 1 and 5: 16 + 2 + 8 - 2 * 4
    assert q.frechet(line, 2 * line + 3) == pytest.approx(16 + 2 + 8 - 8)
    assert q.quality(*clouds(8, 8, 9), neighbours=2).frechet is None


def test_what_cannot_be_measured_is_said() -> None:
    real, made = clouds()
    with pytest.raises(InputError, match="only 5 made images; at least 6"):
        q.quality(real, made[:5])
    with pytest.raises(InputError, match="only 2 real images"):
        q.prdc(real[:2], made)
    with pytest.raises(InputError, match="one space"):
        q.quality(real, made[:, :3])
    with pytest.raises(InputError, match="no numbers"):
        q.quality(real, np.full_like(made, np.nan))
    with pytest.raises(InputError, match="expected"):
        q.vendi(np.zeros(3))
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        q.prdc(real, made, cancel=token)
