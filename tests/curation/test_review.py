"""Blind second reviews and their agreement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ltg_core import curation
from ltg_core.curation import review
from ltg_core.data.records import NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError


@pytest.fixture
def many(ws: Workspace) -> list[str]:
    return ws.add_images([NewSample(np.full((4, 4, 3), i, dtype=np.uint8)) for i in range(60)])


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int):
    from sklearn.metrics import cohen_kappa_score

    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randint(0, 2 + seed % 2, (2, 40), generator=generator).tolist()
    a, b = ([review.CHOICES[i] for i in row] for row in (first, second))
    assert review.kappa(a, b) == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)


def test_a_published_example_of_kappa():
    pairs = [("accepted", "accepted")] * 20 + [("accepted", "rejected")] * 5
    pairs += [("rejected", "accepted")] * 10 + [("rejected", "rejected")] * 15
    assert review.kappa([a for a, _ in pairs], [b for _, b in pairs]) == pytest.approx(0.4)
    low, high = review.wilson(7, 10)
    assert (low, high) == pytest.approx((0.3968, 0.8922), abs=1e-4)


def test_answers_are_kept_apart_and_the_agreement_is_counted(ws: Workspace, many):
    curation.set_verdict(ws, many[:30], "accepted")
    curation.set_verdict(ws, many[30:50], "rejected")
    made = review.start(ws, many, "Grace", seed=3)
    assert (made.n, made.answered, made.reviewer) == (50, 0, "Grace")
    asked = review.questions(ws, made.id)
    assert {one.sample for one in asked} == set(many[:50])
    assert [one.sample for one in asked] != many[:50], "in a random order"
    given = {one.sample: "accepted" if many.index(one.sample) < 25 else "rejected" for one in asked}
    for sample, value in given.items():
        review.answer(ws, made.id, {sample: value})
    found = review.agreement(ws, made.id)
    assert (found.n, found.agreed, found.raw) == (50, 45, 0.9)
    assert found.table == {
        ("accepted", "accepted"): 25, ("accepted", "rejected"): 5, ("rejected", "rejected"): 20
    }  # fmt: skip
    assert {one[0] for one in found.disagreements} == set(many[25:30])
    assert found.kappa_interval[0] < found.kappa < found.kappa_interval[1] <= 1
    assert found.raw_interval[0] < 0.9 < found.raw_interval[1] and found.notes == ()
    assert review.agreement(ws, made.id) == found, "the resamples are seeded"
    assert [s.verdict for s in ws.samples(many[:50])] == ["accepted"] * 30 + ["rejected"] * 20


def test_the_bootstrap_agrees_with_one_that_draws_pairs(ws: Workspace):
    pairs = [("accepted", "accepted")] * 40 + [("accepted", "rejected")] * 12
    pairs += [("rejected", "accepted")] * 8 + [("rejected", "rejected")] * 40
    low, high, lost = review._bootstrap(pairs, 0)
    generator = torch.Generator().manual_seed(1)
    values = []
    for _ in range(2000):
        drawn = [pairs[i] for i in torch.randint(0, len(pairs), (len(pairs),), generator=generator)]
        values.append(review.kappa([a for a, _ in drawn], [b for _, b in drawn]))
    assert (low, high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=0.02) and lost == 0


def test_few_samples_and_one_answer_for_all_are_said(ws: Workspace, many):
    curation.set_verdict(ws, many[:4], "accepted")
    made = review.start(ws, many, "Grace")
    review.answer(ws, made.id, dict.fromkeys(many[:3], "accepted"))
    found = review.agreement(ws, made.id)
    assert found.raw == 1 and math.isnan(found.kappa) and math.isnan(found.kappa_interval[0])
    assert found.raw_interval[0] < 0.5, "three of three is no proof"
    said = " ".join(found.notes)
    assert (
        "1 of 4 samples have no answer" in said and "3 samples tell little" in said and "not defined" in said
    )
    empty = review.agreement(ws, review.start(ws, many, "Ada").id)
    assert empty.n == 0 and math.isnan(empty.raw) and math.isnan(empty.kappa)


def test_answers_and_reviews_are_undone(ws: Workspace, many):
    curation.set_verdict(ws, many[:10], "accepted")
    made = review.start(ws, many, "Grace", number=5, seed=1)
    assert made.n == 5 and review.start(ws, many, "Ada", number=5, seed=1).n == 5
    curation.undo(ws)
    assert [one.id for one in review.every(ws)] == [made.id]
    one = review.questions(ws, made.id)[0].sample
    review.answer(ws, made.id, {one: "rejected"})
    review.answer(ws, made.id, {one: "flagged"})
    curation.undo(ws)
    assert review.questions(ws, made.id)[0].answer == "rejected" and ws.sample(one).verdict == "accepted"
    curation.undo(ws)
    assert review.get(ws, made.id).answered == 0
    review.delete(ws, made.id)
    assert review.every(ws) == []
    curation.undo(ws)
    assert review.get(ws, made.id) == made


def test_what_cannot_be_reviewed_is_refused(ws: Workspace, many):
    with pytest.raises(InputError, match="none of these samples is decided"):
        review.start(ws, many, "Grace")
    curation.set_verdict(ws, many[:2], "accepted")
    for name, number in (("", None), ("x" * 61, None), ("Grace", 0)):
        with pytest.raises(InputError):
            review.start(ws, many, name, number=number)
    made = review.start(ws, many, "Grace")
    with pytest.raises(InputError, match="no answer 'undecided'"):
        review.answer(ws, made.id, {many[0]: "undecided"})
    with pytest.raises(InputError, match="not in this review"):
        review.answer(ws, made.id, {many[9]: "accepted"})
    with pytest.raises(InputError, match="no review"):
        review.questions(ws, "nobody")
    with ws.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (many[0],))
    assert [one.sample for one in review.questions(ws, made.id)] == [many[1]]
