"""Figures against scikit-learn and torchmetrics, intervals against known cases, regressions in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn import functional as F

from ltg_core.evaluation.bootstrap import differences, regressions
from ltg_core.evaluation.frame import Answers, Frame, answers, shots, thirds

CLASSES = ("a", "b", "c", "d")


def logits(n: int, seed: int, skill: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=n, p=[0.5, 0.3, 0.15, 0.05])
    return rng.normal(size=(n, 4)) + skill * np.eye(4)[labels], labels


def test_figures_are_those_of_scikit_learn_and_torchmetrics() -> None:
    from ltg_core.compat import ensure_torchvision

    ensure_torchvision()
    from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

    z, y = logits(500, 0)
    said = answers(z)
    dark = np.arange(500) % 5 == 0
    frame = Frame(y, CLASSES, {"tail": np.array([2, 3])}, {"dark": dark, "light": ~dark}, ("dark", "light"))
    found = frame.measured(said)
    recall = metrics.recall_score(y, said.pred, average=None)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, said.pred))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, said.pred))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, said.pred, average="macro"))
    assert found["worst_class"] == pytest.approx(recall.min())
    assert found["tail"] == pytest.approx(recall[2:].mean())
    assert [found[f"class:{c}"] for c in CLASSES] == pytest.approx(recall.tolist())
    by_set = [metrics.accuracy_score(y[m], said.pred[m]) for m in (dark, ~dark)]
    assert [found["set:dark"], found["set:light"]] == pytest.approx(by_set)
    assert found["worst_group"] == pytest.approx(min(by_set))
    p, t = torch.from_numpy(z).softmax(dim=1), torch.from_numpy(y)
    ece = multiclass_calibration_error(p, t, num_classes=4, n_bins=15, norm="l1")
    assert found["ece"] == pytest.approx(ece.item(), abs=1e-6)
    f1 = multiclass_f1_score(p, t, num_classes=4, average="macro")
    assert found["macro_f1"] == pytest.approx(f1.item(), abs=1e-6)
    assert said.confidence == pytest.approx(F.softmax(torch.from_numpy(z), dim=1).max(dim=1).values.numpy())


def test_classes_without_images_and_too_small_groups_are_left_out() -> None:
    y = np.array([0] * 10 + [1] * 10 + [2])
    pred = np.array([0] * 8 + [1] * 2 + [1] * 9 + [0] + [0])
    small = np.zeros(21, dtype=bool)
    small[-1] = True
    frame = Frame(y, CLASSES, {}, {"all": ~small, "one": small}, ("all", "one"), smallest=5)
    found = frame.measured(Answers(pred, np.full(21, 0.9)))
    assert found["balanced_accuracy"] == pytest.approx((0.8 + 0.9 + 0) / 3)
    assert found["worst_class"] == pytest.approx(0.8) and np.isnan(found["class:d"])
    assert found["worst_group"] == pytest.approx(17 / 20)
    assert found["ece"] == pytest.approx(abs(17 / 21 - 0.9))


def test_parts_of_the_classes_are_thirds_and_shots() -> None:
    counts = np.array([3, 500, 100, 20, 19, 101, 7])
    parts = thirds(counts)
    assert [part.tolist() for part in parts.values()] == [[1, 5, 2], [3, 4], [6, 0]]
    found = {name: part.tolist() for name, part in shots(counts).items()}
    assert found == {"many": [1, 5], "medium": [2, 3], "few": [0, 4, 6]}
    assert list(shots(np.array([500, 200]))) == ["many"]


def test_an_interval_agrees_with_the_formula_for_paired_shares() -> None:
    """McNemar's setting: the variance of a difference of paired shares is known."""
    n, rng = 2000, np.random.default_rng(4)
    y = np.zeros(n, dtype=int)
    first, second = rng.random(n) < 0.7, rng.random(n) < 0.75
    sure = np.full(n, 0.7)
    arms = [Answers(np.where(right, 0, 1), sure) for right in (first, second)]
    found = {one.name: one for one in differences(Frame(y, CLASSES), arms[:1], arms[1:], rounds=3000, seed=1)}
    one = found["accuracy"]
    gain = second.astype(float) - first
    half = 1.96 * gain.std() / np.sqrt(n)
    assert one.change == pytest.approx(gain.mean())
    assert one.low == pytest.approx(gain.mean() - half, abs=0.1 * half)
    assert one.high == pytest.approx(gain.mean() + half, abs=0.1 * half)


def test_an_arm_against_itself_is_exactly_0_and_seeds_repeat() -> None:
    z, y = logits(200, 2)
    frame, said = Frame(y, CLASSES), answers(z)
    for one in differences(frame, [said], [said], rounds=100):
        assert one.change == 0 and one.low in (0, None) and one.high in (0, None) and not one.worse
    other = answers(logits(200, 3)[0])
    runs = [differences(frame, [said], [other], rounds=100, seed=s) for s in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


def test_an_arm_of_several_seeds_is_their_mean_and_says_their_spread() -> None:
    z, y = logits(300, 2)
    frame = Frame(y, CLASSES)
    seeds = [answers(z + 0.8 * np.random.default_rng(k).normal(size=z.shape)) for k in range(3)]
    single = [frame.measured(said)["accuracy"] for said in seeds]
    one = next(d for d in differences(frame, [answers(z)], seeds, rounds=50) if d.name == "accuracy")
    assert one.after == pytest.approx(np.mean(single)) and one.spread == pytest.approx(np.std(single, ddof=1))
    assert differences(frame, [answers(z)], [answers(z)], rounds=50)[0].spread is None


def test_few_images_have_no_interval() -> None:
    y = np.array([0] * 40 + [3] * 4)
    said = [Answers(np.zeros(44, dtype=int), np.full(44, 0.5)), Answers(y.copy(), np.full(44, 0.5))]
    found = {d.name: d for d in differences(Frame(y, CLASSES), said[:1], said[1:], rounds=50)}
    assert found["class:d"].n == 4 and found["class:d"].low is None and not found["class:d"].certain
    assert found["class:d"].change == 1 and found["class:a"].low == 0.0
    assert "class:b" not in found


def test_regressions_come_with_the_certain_ones_first_then_by_size() -> None:
    n = 400
    y = np.repeat([0, 1, 2, 3], n // 4)
    before, after = y.copy(), y.copy()
    before[:100:2] = 1  # half of class a wrong before, right after
    after[100:160] = 0  # most of class b lost: certain
    after[200] = 0  # one of class c
    sure = [Answers(before, np.full(n, 0.8)), Answers(after, np.full(n, 0.8))]
    found = regressions(differences(Frame(y, CLASSES), sure[:1], sure[1:], rounds=300))
    names = [one.name for one in found]
    assert names[0] == "class:b" and found[0].certain
    assert "class:c" in names and "class:a" not in names and "class:d" not in names
    certain = [one.certain for one in found]
    assert certain == sorted(certain, reverse=True) and not found[names.index("class:c")].certain


def test_a_larger_calibration_error_is_a_regression() -> None:
    y = np.zeros(100, dtype=int)
    said = [Answers(y, np.full(100, c)) for c in (0.99, 0.7)]
    assert [d.name for d in regressions(differences(Frame(y, CLASSES), said[:1], said[1:], rounds=20))] == [
        "ece"
    ]
