"""What the measurements compute, against independent libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import bench_zoo
from benchmarks.measure import resampled_auroc


def test_aurocs_of_resamples_are_those_of_scikit_learn_ties_included() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(12, size=80).astype(float), rng.random(80) < 0.3
    rows = [np.arange(80), *[rng.integers(80, size=80) for _ in range(5)]]
    weights = np.stack([np.bincount(i, minlength=80) for i in rows])
    wanted = [roc_auc_score(positive[i], scores[i]) for i in rows]
    np.testing.assert_allclose(resampled_auroc(scores, positive, weights), wanted, rtol=1e-12)


def test_rows_that_earlier_code_gave_are_marked_in_the_table_of_architectures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_zoo, "TABLE", tmp_path / "zoo.md")
    rows = {
        "timm:resnet18": {"input": 64, "code": bench_zoo.code()},
        "timm:resnet50": {"input": 64, "code": "earlier"},
        "torchvision:vgg11": {"input": 64, "failed": "load: of no code that was noted"},
    }
    bench_zoo.write_table(rows)
    text = (tmp_path / "zoo.md").read_text(encoding="utf-8")
    assert "2 of the 3 rows, marked †" in text and "2 of 2 of timm, 0 of 1 of torchvision" in text
    assert [
        line.split(" | ")[0] for line in text.splitlines() if line.startswith(("| timm", "| torchv"))
    ] == [
        "| timm:resnet18",
        "| timm:resnet50 †",
        "| torchvision:vgg11 †",
    ]
    rows["timm:resnet50"]["code"] = rows["torchvision:vgg11"]["code"] = bench_zoo.code()
    bench_zoo.write_table(rows)
    assert "†" not in (tmp_path / "zoo.md").read_text(encoding="utf-8")
