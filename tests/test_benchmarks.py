"""What the measurements compute, against independent libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
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


def test_what_an_architecture_begins_as_zeros_is_drawn_and_the_rest_is_left() -> None:
    from ltg_core.models.architectures import build

    torch.manual_seed(0)
    net = build("timm:resmlp_12_224", 6, {"img_size": [32, 32]})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert not net.head.weight.any()
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert not torch.autograd.grad(net.eval()(x).square().sum(), x)[0].any()
    bench_zoo.fill(net)
    assert torch.autograd.grad(net(x).square().sum(), x)[0].any()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight"} and 0.01 < float(net.head.weight.detach().std()) < 0.04


def test_the_arms_of_category_extrapolation_have_equal_auxiliaries_and_finished_ones_are_read(
    tmp_path: Path,
) -> None:
    from benchmarks import bench_extrapolation as bench

    rng = torch.Generator().manual_seed(0)

    def images(**counts: int) -> bench.Images:
        names = tuple(name for name, count in counts.items() for _ in range(count))
        return bench.Images(
            torch.randint(256, (len(names), 3, 16, 16), generator=rng, dtype=torch.uint8), names
        )

    world = bench.World(
        train=images(cat=25, dog=21, fox=5),
        val=images(cat=2, dog=2, fox=2),
        test=images(cat=12, dog=12, fox=12),
        pool=images(wolf=4, lynx=4, car=5, bus=4),
        targets=("cat", "dog", "fox"),
        superclass={"cat": "pets", "dog": "pets", "fox": "wild", "wolf": "wild", "lynx": "wild",
                    "car": "road", "bus": "road"},
    )  # fmt: skip
    near, far = (
        bench.training_set(world, bench.Arm("", bench.ARMS[1].loss, kind), 0)
        for kind in ("neighbour", "random")
    )
    assert len(near.targets) == len(far.targets) == 51 + 2 * 4 and near.fingerprint != far.fingerprint
    assert near.about.parents.reshape(-1).tolist() == [-1, -1, -1, 2, 2]  # both are beside the fox
    assert far.about.parents.reshape(-1).tolist() == [-1] * 5
    assert near.about.counts.tolist() == [25, 21, 5, 4, 4]
    settings = bench.TrainSettings(scope="scratch", epochs=1, batch_size=30, lr=0.01, patience=0)
    arms = (bench.ARMS[1], bench.ARMS[4], bench.ARMS[5])
    waited: list[int] = []
    found = {
        arm.name: [bench.one(world, arm, 0, settings, tmp_path, (8, 2), lambda: waited.append(1))]
        for arm in arms
    }
    assert len({bench.slug(arm) for arm in bench.ARMS}) == len(bench.ARMS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{bench.slug(arm)}-0.json" for arm in arms
    )
    assert waited and all(set(runs[0]["pred"]) <= {0, 1, 2} for runs in found.values())
    first = bench.one(world, arms[0], 0, settings, tmp_path, (8, 2), lambda: pytest.fail("it is done"))
    assert first == found[arms[0].name][0]
    text = "\n".join(bench.report(world, found, ["head"]))
    assert "| + neighbour silencing, lambda 0 | balanced softmax |" in text
