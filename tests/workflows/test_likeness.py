"""Similar images against plain cosines of all pairs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler, normalize

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.types import Outputs
from ltg_core.workflows.store import FeatureStore


def cosines(ws: Workspace, classifier: Any, ids: list[str], one: str) -> np.ndarray:
    """By scikit-learn."""
    features = workflows.features(ws, classifier, ids)
    unit = normalize(StandardScaler().fit_transform(features.astype(np.float64)))
    found: np.ndarray = unit @ unit[ids.index(one)]
    return found


def test_the_order_is_that_of_the_cosines(fitted: Workspace, classifier: Any) -> None:
    ids = fitted.query()
    wanted = cosines(fitted, classifier, ids, ids[7])
    found = workflows.likeness(fitted, classifier, ids[7])
    ranked = found.ranked(fitted, Filter())
    assert ids[7] not in ranked.ids() and len(ranked) == len(ids) - 1
    assert found.of(ranked) == pytest.approx([wanted[ids.index(one)] for one in ranked.ids()], abs=1e-4)
    assert found.of(ranked) == sorted(found.of(ranked), reverse=True)


def test_it_combines_with_filters(fitted: Workspace, classifier: Any) -> None:
    ids = fitted.query()
    found = workflows.likeness(fitted, classifier, ids[7])
    chosen = Filter(label=1, split=("val", "test"))
    assert set(found.ranked(fitted, chosen).ids()) == set(fitted.query(chosen)) - {ids[7]}
    everyone = found.ranked(fitted, Filter()).ids()
    assert found.ranked(fitted, chosen).ids() == [one for one in everyone if one in fitted.query(chosen)]


def test_features_that_come_later_are_found_and_the_old_file_goes(fitted: Workspace, classifier: Any) -> None:
    ids = fitted.query()
    workflows.likeness(fitted, classifier, ids[0])
    image = np.asarray(fitted.image(ids[0])).copy()
    image[0, 0] ^= 1
    twin = fitted.add_image(image, origin="real", split="test", source="twin")
    before = workflows.likeness(fitted, classifier, ids[0]).ranked(fitted, Filter()).ids()
    assert twin not in before, "not scored yet"
    with pytest.raises(InputError, match="score"):
        workflows.likeness(fitted, classifier, twin)
    workflows.score(fitted, classifier)
    found = workflows.likeness(fitted, classifier, ids[0])
    assert found.ranked(fitted, Filter()).ids(0, 1) == [twin]
    assert found.of(found.ranked(fitted, Filter()), 0, 1)[0] > 0.99
    kept = [path.stem for path in (fitted.path / "arrays").glob("units-*.npy")]
    assert len(kept) == 3 and len({name.split("-")[2] for name in kept}) == 1


def test_an_uploaded_picture_finds_itself(fitted: Workspace, classifier: Any) -> None:
    ids = fitted.query()
    buffer = io.BytesIO()
    fitted.image(ids[3]).save(buffer, "BMP")
    like = workflows.upload(fitted, classifier, buffer.getvalue())
    assert like.isalnum() and workflows.picture_of(fitted, like).is_file()  # type: ignore[union-attr]
    found = workflows.likeness(fitted, classifier, like)
    ranked = found.ranked(fitted, Filter())
    assert ranked.ids(0, 1) == [ids[3]] and found.of(ranked, 0, 1)[0] == pytest.approx(1, abs=1e-4)
    assert fitted.count() == len(ids), "it is no sample"
    assert workflows.picture_of(fitted, ids[3]) is None


@pytest.mark.parametrize("like", ("u", "unknown", "u" + "0" * 32, "0" * 20))
def test_what_is_not_known_is_said(fitted: Workspace, classifier: Any, like: str) -> None:
    with pytest.raises(InputError):
        workflows.likeness(fitted, classifier, like)


def test_what_is_no_picture_is_refused(fitted: Workspace, classifier: Any) -> None:
    with pytest.raises(InputError):
        workflows.upload(fitted, classifier, b"no picture")


def test_chunks_that_hold_a_sample_twice_count_it_once(fitted: Workspace, classifier: Any) -> None:
    ids = fitted.query()
    store = FeatureStore(fitted, classifier)
    again = store.outputs(ids[:10])
    store.add(ids[:10], Outputs(again.logits.clone(), torch.zeros_like(again.features), again.early))
    blocks = list(FeatureStore(fitted, classifier).blocks())
    found = [one.decode() for some, _ in blocks for one in some.tolist()]
    assert sorted(found) == sorted(ids)
    assert len(workflows.likeness(fitted, classifier, ids[20]).ranked(fitted, Filter())) == len(ids) - 1
