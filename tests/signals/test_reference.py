"""Fitting, percentiles, saving and loading of the reference."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blob_world import CLASSES, SMALL, WIDTH, blobs, outputs
from scipy.stats import percentileofscore
from sklearn.neighbors import NearestNeighbors

from ltg_core.errors import Cancelled, InputError, ModelError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.signals import SIGNALS
from ltg_core.signals.gaussian import Gaussians
from ltg_core.signals.head import EpistemicHead
from ltg_core.signals.percentiles import QUANTILES, fit_table, ranks
from ltg_core.signals.projection import Projection
from ltg_core.signals.reference import Reference, ReferenceSettings, fit_reference, score_all
from ltg_core.types import Labels, Outputs

Data = tuple[Outputs, Labels]


def refit(train: Data, heldout: Data, **more: object) -> Reference:
    settings = more.pop("settings", SMALL)
    return fit_reference(
        *train, *heldout, CLASSES, settings, generator=torch.Generator().manual_seed(3), **more
    )


def test_all_signals_are_scored_with_a_reference_and_labels(reference: Reference, heldout: Data) -> None:
    out, labels = heldout
    scores = score_all(out, reference, labels)
    assert list(scores) == list(SIGNALS)
    for name, values in scores.items():
        torch.testing.assert_close(values, SIGNALS[name]()(out, reference, labels))
        assert not values.requires_grad


def test_what_several_signals_ask_is_computed_once_a_part_and_every_value_is_the_same(
    reference: Reference, heldout: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, labels = heldout
    monkeypatch.setattr("ltg_core.signals.reference.CHUNK", 16)
    asked: Counter[str] = Counter()

    def counted(owner: type, name: str) -> None:
        whole = getattr(owner, name)

        def call(self: Any, *given: Any, **more: Any) -> Any:
            asked[name] += 1
            return whole(self, *given, **more)

        monkeypatch.setattr(owner, name, call)

    counted(EpistemicHead, "logits")
    counted(Projection, "__call__")
    counted(Gaussians, "class_distances")
    scores = score_all(out, reference, labels)
    parts = -(-len(labels) // 16)
    assert parts > 2 and asked == {"logits": parts, "__call__": parts, "class_distances": parts}
    assert reference.memory is None, "nothing is remembered beyond a part"
    for name, values in scores.items():
        alone = []
        for start in range(0, len(labels), 16):
            rows = slice(start, start + 16)
            some = Outputs(*(None if part is None else part[rows] for part in out))
            alone.append(SIGNALS[name]()(some, reference, labels[rows]))
        assert torch.equal(values, torch.cat(alone)), name


def test_what_cannot_be_computed_is_left_out(reference: Reference, heldout: Data) -> None:
    out, labels = heldout
    assert set(SIGNALS) - set(score_all(out, reference, None)) == {"loss"}
    assert set(score_all(out, None, labels)) == {"entropy", "margin", "energy", "loss"}
    assert set(score_all(out, None, None)) == {"entropy", "margin", "energy"}


def test_no_samples_give_no_scores(reference: Reference) -> None:
    empty = outputs(torch.zeros(0, WIDTH))
    scores = score_all(empty, reference, torch.zeros(0, dtype=torch.long))
    assert all(v.shape == (0,) for v in scores.values())


def test_loading_gives_bit_identical_scores(reference: Reference, heldout: Data, tmp_path: Path) -> None:
    reference.save(tmp_path / "deep" / "reference.safetensors")
    loaded = Reference.load(tmp_path / "deep" / "reference.safetensors")
    out, labels = heldout
    for group in ("all", "guide", "audit"):
        before, after = (score_all(out, r, labels, group) for r in (reference, loaded))
        for name in before:
            assert torch.equal(before[name], after[name]), name
            assert torch.equal(
                reference.percentile(name, before[name], group), loaded.percentile(name, after[name], group)
            )
    assert torch.equal(reference.knn_distance(out.features), loaded.knn_distance(out.features))
    assert loaded.limits == reference.limits
    assert loaded.bank_ids == reference.bank_ids
    assert loaded.model_hash == "abc"
    assert loaded.head.settings == SMALL
    assert not any(p.requires_grad for p in loaded.head.parameters())


def test_the_card_beside_the_file_is_plain_json(reference: Reference, tmp_path: Path) -> None:
    reference.save(tmp_path / "reference.safetensors")
    card = json.loads((tmp_path / "reference.json").read_text(encoding="utf-8"))
    assert card["model_hash"] == "abc"
    assert card["bank_ids"] == list(reference.bank_ids)
    assert card["limits"] == {"d_95": reference.limits.d_95, "d_99": reference.limits.d_99}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reference.json", "reference.safetensors"]


def test_saving_where_nothing_can_be_written_leaves_the_old_file_whole(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reference.safetensors"
    reference.save(path)
    before = path.read_bytes()
    broken = dataclasses.replace(reference, tables={"entropy": np.array(["x"], dtype=object)})
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["reference.json", "reference.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not a tensor file", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_file_is_refused_with_what_to_do(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="fit the head again"):
        Reference.load(path)


def test_a_truncated_file_and_a_missing_one_are_refused(reference: Reference, tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    reference.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="fit the head again"):
        Reference.load(path)
    with pytest.raises(ModelError, match="fit the head"):
        Reference.load(tmp_path / "nothing.safetensors")


def test_percentiles_are_those_of_scipy(reference: Reference, heldout: Data) -> None:
    out, labels = heldout
    real = score_all(out, reference, labels)
    new = score_all(*_other(reference))
    for name, values in new.items():
        expected = [percentileofscore(real[name].numpy(), v, kind="mean") for v in values.numpy()]
        np.testing.assert_allclose(reference.percentile(name, values), expected, atol=1e-3)
        array = reference.percentile(name, values.double().numpy())
        assert isinstance(array, np.ndarray)
        np.testing.assert_allclose(array, expected, atol=1e-3)


def _other(reference: Reference) -> tuple[Outputs, Reference, Labels]:
    out, labels = blobs(50, seed=9)
    return out, reference, labels


def test_percentiles_of_large_sets_come_from_two_thousand_quantiles() -> None:
    values = torch.randn(30_000, generator=torch.Generator().manual_seed(0))
    table = fit_table("entropy", values)
    assert len(table) == QUANTILES
    exact = [percentileofscore(values.numpy(), v) for v in (-2.0, 0.0, 0.5, 3.0)]
    np.testing.assert_allclose(ranks(table, torch.tensor([-2.0, 0.0, 0.5, 3.0])), exact, atol=0.1)
    shape = ranks(table, torch.zeros(2, 3, 4))
    assert shape.shape == (2, 3, 4)
    assert torch.isnan(ranks(table, torch.tensor([torch.nan]))).all()
    assert ranks(table, torch.tensor([-99.0, 99.0])).tolist() == [0.0, 100.0]


def test_groups_of_the_head_have_percentiles_of_their_own(reference: Reference, heldout: Data) -> None:
    for group in ("guide", "audit"):
        values = score_all(*heldout[:1], reference, heldout[1], group)
        for name in ("epistemic", "logit_variance"):
            assert abs(float(reference.percentile(name, values[name], group).mean()) - 50) < 1e-3
        torch.testing.assert_close(
            reference.percentile("entropy", values["entropy"], group),
            reference.percentile("entropy", values["entropy"]),
        )


def test_the_value_at_a_percentile_is_the_inverse(reference: Reference) -> None:
    for name in ("epistemic", "entropy", "hardness"):
        for percentile in (0, 20, 80, 97, 100):
            value = reference.value_at(name, percentile, "guide")
            back = float(reference.percentile(name, torch.tensor([value], dtype=torch.double), "guide"))
            assert back == pytest.approx(percentile, abs=0.5)
    with pytest.raises(InputError, match="0 to 100"):
        reference.value_at("entropy", 101)


def test_an_unknown_signal_has_no_percentile_and_the_known_ones_are_listed(reference: Reference) -> None:
    with pytest.raises(InputError, match=r"surprise.*epistemic"):
        reference.percentile("surprise", torch.zeros(1))


def test_nearest_real_samples_are_named_by_their_ids(reference: Reference, train: Data) -> None:
    out, _ = train
    distances, rows = reference.nearest(out.features[[10, 400]], 3)
    assert distances.shape == rows.shape == (2, 3)
    assert [reference.bank_ids[r] for r in rows[:, 0].tolist()] == ["sample-10", "sample-400"]
    assert distances[:, 0].tolist() == pytest.approx([0, 0], abs=1e-5)


def test_limits_are_quantiles_of_held_out_distances(reference: Reference, train: Data, heldout: Data) -> None:
    real, held = (reference.projection(d[0].features).numpy() for d in (train, heldout))
    distance = NearestNeighbors(n_neighbors=10).fit(real).kneighbors(held)[0].mean(axis=1)
    np.testing.assert_allclose(reference.limits, np.quantile(distance, [0.95, 0.99]), rtol=1e-4)
    assert float(
        reference.percentile("knn_distance", torch.tensor([reference.limits.d_95]))
    ) == pytest.approx(95, abs=0.5)


def test_the_bank_is_cut_to_its_size_and_keeps_the_rare_class(train: Data, heldout: Data) -> None:
    ids = [str(i) for i in range(600)]
    small = refit(train, heldout, options=ReferenceSettings(bank_size=50), ids=ids)
    assert len(small.bank_ids) == len(small.bank.positions) == 50
    assert int((small.bank.labels == CLASSES - 1).sum()) == 2
    assert list(small.bank_ids) == [ids[p] for p in small.bank.positions.tolist()]


def test_the_same_seed_gives_the_same_reference(reference: Reference, train: Data, heldout: Data) -> None:
    again = score_all(heldout[0], refit(train, heldout), heldout[1])
    for name, values in score_all(heldout[0], reference, heldout[1]).items():
        assert torch.equal(values, again[name]), name


@pytest.mark.parametrize("anchor", [False, True])
def test_wide_features_and_no_early_layer_are_fitted_too(anchor: bool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 40, generator=generator) + labels[:, None]
    out = Outputs(features[:, :3] * 2, features)
    fitted = fit_reference(
        out,
        labels,
        out,
        labels,
        3,
        dataclasses.replace(SMALL, anchor=anchor),
        generator=generator,
        options=ReferenceSettings(max_dims=6),
    )
    assert fitted.bank.features.shape == (90, 6)
    scores = score_all(out, fitted, labels)
    assert set(scores) == set(SIGNALS)
    fitted.save(tmp_path / "r.safetensors")
    loaded = score_all(out, Reference.load(tmp_path / "r.safetensors"), labels)
    assert all(torch.equal(scores[n], loaded[n]) for n in scores)


def test_a_thousand_classes_do_not_take_gigabytes() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1000)
    features = torch.randn(1000, 300, generator=generator)
    out = Outputs(torch.randn(1000, 1000, generator=generator), features)
    settings = HEAD_OF_A_THOUSAND
    fitted = fit_reference(out, labels, out, labels, 1000, settings, generator=generator)
    assert fitted.gaussians.factors.numel() <= 32_000_000
    assert score_all(out, fitted, labels)["hardness"].shape == (1000,)


HEAD_OF_A_THOUSAND = dataclasses.replace(SMALL, members=4, hidden=8, epochs=1)


def test_progress_never_goes_back_and_ends_at_the_total(train: Data, heldout: Data) -> None:
    seen: list[Progress] = []
    refit(train, heldout, on_progress=seen.append)
    done = [p.done for p in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].total == SMALL.epochs + 3


def test_cancelling_after_the_head_stops_too(train: Data, heldout: Data) -> None:
    token = CancelToken()

    def report(progress: Progress) -> None:
        if progress.done >= SMALL.epochs:
            token.cancel()

    with pytest.raises(Cancelled):
        refit(train, heldout, on_progress=report, cancel=token)


def test_held_out_data_is_required_and_ids_must_fit(train: Data, heldout: Data) -> None:
    nothing = (Outputs(*(part[:0] for part in heldout[0])), heldout[1][:0])
    with pytest.raises(InputError, match="held-out"):
        refit(train, nothing)
    with pytest.raises(InputError, match="600 training samples came with 1 ids"):
        refit(train, heldout, ids=["a"])


def test_another_precision_gives_nearly_the_same_scores(reference: Reference, heldout: Data) -> None:
    out, labels = heldout
    double = score_all(Outputs(*(p.double() for p in out)), reference.to(dtype=torch.double), labels)
    for name, values in score_all(out, reference, labels).items():
        torch.testing.assert_close(values.double(), double[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("max_dims", [4, 64], ids=["projected", "whole"])
def test_fitting_in_parts_is_fitting_at_once(
    train: Data, heldout: Data, monkeypatch: pytest.MonkeyPatch, max_dims: int
) -> None:
    """More samples than are taken at a time: sums go over all parts, and no part is left out."""
    options = ReferenceSettings(max_dims=max_dims)
    whole = refit(train, heldout, options=options)
    near = whole.nearest(heldout[0].features)
    for module in ("gaussian", "projection", "neighbours", "reference"):
        monkeypatch.setattr(f"ltg_core.signals.{module}.CHUNK", 37)
    parts = refit(train, heldout, options=options)
    assert parts.projection.basis.shape == ((WIDTH, 4) if max_dims < WIDTH else (0, 0))
    for name in ("projection", "gaussians", "design", "bank"):
        for part, expected in getattr(whole, name).tensors().items():
            found = getattr(parts, name).tensors()[part]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, msg=f"{name}.{part}")
    assert parts.limits == pytest.approx(whole.limits, rel=1e-4)
    for found, expected in zip(whole.nearest(heldout[0].features), near, strict=True):
        assert torch.equal(found, expected)
    for name, table in whole.tables.items():
        np.testing.assert_allclose(parts.tables[name], table, rtol=1e-3, atol=1e-4, err_msg=name)
