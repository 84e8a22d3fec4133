"""The index of stored outputs: what is added to it is what is read anew, and a run reads it once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ltg_core.data.workspace import Workspace
from ltg_core.types import Outputs
from ltg_core.workflows.computing import keep_outputs
from ltg_core.workflows.store import FeatureStore
from tests.workflows.test_generating import PLAIN, make


class Model:
    """Something with outputs."""

    hash, name = "0123456789abcdef", "a model"


def outputs(ids: list[str], width: int = 3) -> Outputs:
    """Logits, features and early features that tell their sample."""
    numbers = torch.tensor([[float(int(sample, 16) % 1000)] for sample in ids])
    return Outputs(numbers.expand(-1, 2), numbers.expand(-1, width) + 0.5, numbers + 0.25)


def names(*numbers: int) -> list[str]:
    return [f"{(number * 2654435761) % 2**32:020x}" for number in numbers]


def same(one: FeatureStore, other: FeatureStore) -> None:
    ids = other.ids()
    assert one.ids() == ids and one.stamp == other.stamp and len(one) == len(ids)
    np.testing.assert_array_equal(one.features(ids[::-1]), other.features(ids[::-1]))
    for mine, its in zip(one.outputs(ids), other.outputs(ids), strict=True):
        assert torch.equal(mine, its)
    for (a, b), (c, d) in zip(one.blocks(), other.blocks(), strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


def test_what_is_added_to_the_index_is_what_is_read_anew(empty_workspace: Workspace) -> None:
    store = FeatureStore(empty_workspace, Model())
    assert store.missing(names(1)) == names(1)
    for chunk in (range(8), range(8, 11), range(20, 28), [30]):
        store.add(names(*chunk), outputs(names(*chunk)))
        same(store, FeatureStore(empty_workspace, Model()))
    store.add(names(5, 40), outputs(names(5, 40)))  # one is there
    store.add(names(41, 41), outputs(names(41, 41)))  # one comes twice
    store.add(names(30), outputs(names(30)))  # the same chunk once more
    same(store, FeatureStore(empty_workspace, Model()))
    assert store.missing(names(5, 41, 50)) == names(50)
    store.add(names(60), outputs(names(60), width=4))  # of another form: the earlier ones are computed again
    same(store, FeatureStore(empty_workspace, Model()))
    assert store.ids() == names(60)


def test_two_that_write_at_once_lose_nothing(empty_workspace: Workspace, tmp_path: Path) -> None:
    with Workspace(empty_workspace.path) as second:
        one, other = FeatureStore(empty_workspace, Model()), FeatureStore(second, Model())
        for start in range(0, 40, 4):
            for store, first in ((one, start), (other, 100 + start)):
                ids = names(*range(first, first + 4))
                keep_outputs(store, ids, outputs(ids))
                assert store.missing(ids) == []
        every = FeatureStore(empty_workspace, Model())
        assert len(every) == 80 and len(one) == 40
        one.refresh()
        same(one, every)


def test_a_chunk_whose_names_were_not_written_is_no_chunk_and_is_written_again(
    empty_workspace: Workspace,
) -> None:
    store = FeatureStore(empty_workspace, Model())
    store.add(names(1, 2), outputs(names(1, 2)))
    store.add(names(3, 4), outputs(names(3, 4)))
    latest = max((empty_workspace.path / "arrays").glob("ids-*"), key=lambda path: path.stat().st_mtime_ns)
    latest.unlink()  # as if killed between the two
    again = FeatureStore(empty_workspace, Model())
    keep_outputs(again, names(1, 2, 3, 4), outputs(names(1, 2, 3, 4)))
    same(again, FeatureStore(empty_workspace, Model()))
    assert sorted(again.ids()) == sorted(names(1, 2, 3, 4))


def test_a_run_reads_the_index_of_all_chunks_once_and_not_at_every_unit(
    fitted: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, array = Counter[str](), Workspace.array

    def counted(self: Workspace, key: str, **options: Any) -> Any:
        if key.startswith("ids-"):
            read[key] += 1
        return array(self, key, **options)

    monkeypatch.setattr(Workspace, "array", counted)
    run = make(fitted, 12, PLAIN, unit=2)
    assert run.result["images"] == 12
    # at the start, and once when it is looked for what an earlier attempt has left
    assert read and max(read.values()) <= 2
