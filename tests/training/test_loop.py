"""The loop: learns, stops on real images, goes on to the same weights, and never touches the classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltg_core.errors import Cancelled, ModelError, UnsupportedError
from ltg_core.jobs import CancelToken, Progress, no_progress
from ltg_core.models.classifier import Classifier, weights_hash
from ltg_core.training.loop import Fit, Trained, TrainingSet
from ltg_core.training.losses import LOSSES
from ltg_core.training.samplers import SAMPLERS
from ltg_core.training.settings import TrainSettings
from ltg_core.training.student import Teacher

QUICK = TrainSettings(
    scope="whole",
    epochs=6,
    batch_size=16,
    lr=0.02,
    ema=0.5,
    patience=0,
    checkpoint_every=4,
    shift=1,
    flip=True,
)
Sets = Callable[..., TrainingSet]


def fit(
    classifier: Classifier,
    data: TrainingSet,
    settings: TrainSettings,
    checkpoint: Path,
    *,
    loss: str = "cross-entropy",
    sampler: str = "instance",
    seed: int = 0,
    on_progress: Callable[[Progress], None] = no_progress,
    cancel: CancelToken | None = None,
) -> tuple[Trained, Teacher]:
    teacher = Teacher(classifier, settings, seed=seed)
    job = Fit(
        teacher.student(),
        data,
        LOSSES[loss](),
        SAMPLERS[sampler](),
        settings,
        seed=seed,
        checkpoint=checkpoint,
    )
    return job.run(what="tiny", on_progress=on_progress, cancel=cancel or CancelToken()), teacher


def same(one: Trained, other: Trained) -> bool:
    return set(one.state) == set(other.state) and all(
        torch.equal(one.state[k], other.state[k]) for k in one.state
    )


def test_it_learns_and_the_classifier_stays_as_it_was(tiny: Classifier, training_set: Sets, tmp_path: Path):
    before, data = weights_hash(tiny.net.state_dict()), training_set(counts=(24, 24, 24))
    trained, teacher = fit(tiny, data, dataclasses.replace(QUICK, epochs=12), tmp_path / "a.ckpt")
    made = teacher.finished(trained.state, "new")
    held = data.held(torch.arange(24))
    right = [(c.outputs(held).logits.argmax(dim=1) == data.held_labels).float().mean() for c in (tiny, made)]
    assert right[1] > 0.8 and right[1] > right[0] + 0.3
    assert weights_hash(tiny.net.state_dict()) == before and not tiny.net.training
    assert all(not p.requires_grad and p.grad is None for p in tiny.net.parameters())
    assert made.hash != tiny.hash and made.labels == tiny.labels and not made.net.training
    assert [h["epoch"] for h in trained.history] == list(range(1, 13))
    assert trained.history[-1]["balanced_accuracy"] == pytest.approx(right[1].item(), abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "sampler", "mixup"),
    [("cross-entropy", "class-balanced", 0.4), ("group-dro", "group-balanced", 0.0)],
)
@pytest.mark.parametrize("stop_at", [1, 6, 11])
def test_stopped_at_any_step_it_goes_on_to_the_same_weights(
    tiny: Classifier, training_set: Sets, tmp_path: Path, loss: str, sampler: str, mixup: float, stop_at: int
):
    settings = dataclasses.replace(QUICK, mixup=mixup, epochs=5, patience=3)
    whole, _ = fit(tiny, training_set(), settings, tmp_path / "a.ckpt", loss=loss, sampler=sampler)
    token, data = CancelToken(), training_set()
    seen = 0

    def fetch(rows: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += 1
        if seen == stop_at:
            token.cancel()
        return training_set().fetch(rows)

    with pytest.raises(Cancelled):
        fit(
            tiny,
            dataclasses.replace(data, fetch=fetch),
            settings,
            tmp_path / "b.ckpt",
            loss=loss,
            sampler=sampler,
            cancel=token,
        )
    again, _ = fit(tiny, training_set(), settings, tmp_path / "b.ckpt", loss=loss, sampler=sampler)
    assert same(whole, again) and whole.history == again.history


def test_killed_between_checkpoints_it_goes_on_to_the_same_weights(
    tiny: Classifier, training_set: Sets, tmp_path: Path
):
    whole, _ = fit(tiny, training_set(), QUICK, tmp_path / "a.ckpt")
    calls = 0

    def dies(rows: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:  # two steps after the checkpoint of step 4
            raise KeyboardInterrupt
        return training_set().fetch(rows)

    with pytest.raises(KeyboardInterrupt):
        fit(tiny, dataclasses.replace(training_set(), fetch=dies), QUICK, tmp_path / "b.ckpt")
    assert torch.load(tmp_path / "b.ckpt", weights_only=True)["step"] == 4
    assert same(whole, fit(tiny, training_set(), QUICK, tmp_path / "b.ckpt")[0])


def test_another_seed_gives_another_network_and_a_foreign_or_damaged_checkpoint_is_refused(
    tiny: Classifier, training_set: Sets, tmp_path: Path
):
    settings = dataclasses.replace(QUICK, epochs=1)
    one, _ = fit(tiny, training_set(), settings, tmp_path / "a.ckpt")
    other, _ = fit(tiny, training_set(), settings, tmp_path / "b.ckpt", seed=1)
    assert not same(one, other)
    with pytest.raises(ModelError, match="other settings"):
        fit(tiny, training_set(), settings, tmp_path / "a.ckpt", seed=1)
    (tmp_path / "a.ckpt").write_bytes(b"broken")
    with pytest.raises(ModelError, match="damaged"):
        fit(tiny, training_set(), settings, tmp_path / "a.ckpt")


def test_it_stops_without_improvement_and_keeps_the_best_weights(
    tiny: Classifier, training_set: Sets, tmp_path: Path
):
    settings = dataclasses.replace(QUICK, epochs=40, patience=2, lr=0.05)
    trained, teacher = fit(tiny, training_set(), settings, tmp_path / "a.ckpt")
    values = [h["balanced_accuracy"] for h in trained.history]
    assert trained.stopped_early and trained.epochs == trained.best_epoch + 2 < 40
    assert values[trained.best_epoch - 1] == max(values)
    data = training_set()
    made = teacher.finished(trained.state, "best").outputs(data.held(torch.arange(24)))
    recall = [(made.logits.argmax(1) == k)[data.held_labels == k].float().mean().item() for k in range(3)]
    assert sum(recall) / 3 == pytest.approx(max(values), abs=1e-5)


def test_without_validation_images_it_runs_to_the_end(tiny: Classifier, training_set: Sets, tmp_path: Path):
    settings = dataclasses.replace(QUICK, epochs=3, patience=1)
    trained, _ = fit(tiny, training_set(held=(0, 0, 0)), settings, tmp_path / "a.ckpt")
    assert trained.epochs == trained.best_epoch == 3 and "accuracy" not in trained.history[0]


def test_only_the_head_changes_on_features_that_are_computed_once(
    tiny: Classifier, training_set: Sets, tmp_path: Path
):
    settings = dataclasses.replace(QUICK, scope="head", lr=0.05, epochs=10)
    data = training_set(lambda x: tiny.outputs(x).features)
    trained, teacher = fit(tiny, data, settings, tmp_path / "a.ckpt", loss="balanced-softmax")
    made = teacher.finished(trained.state, "head")
    for name, value in tiny.net.state_dict().items():
        assert torch.equal(value, made.net.state_dict()[name]) != name.startswith("fc.")
    images = training_set().held(torch.arange(24))
    by_head = trained.history[-1]["accuracy"]
    assert (made.outputs(images).logits.argmax(1) == data.held_labels).float().mean().item() == pytest.approx(
        by_head, abs=1e-6
    )


def test_a_weight_of_0_is_as_if_an_image_were_not_there(tiny: Classifier, training_set: Sets, tmp_path: Path):
    """Poisoned labels without weight change nothing: the same batches, the same weights."""
    settings = dataclasses.replace(QUICK, scope="head", epochs=2)
    data = training_set(lambda x: tiny.outputs(x).features)
    weights = (torch.arange(62) % 4 != 0).float()
    poisoned = torch.where(weights[:, None] > 0, data.targets, data.targets.roll(1, dims=1))
    found = [
        fit(tiny, dataclasses.replace(data, targets=t, weights=weights), settings, tmp_path / f"{k}.ckpt")[0]
        for k, t in enumerate((data.targets, poisoned))
    ]
    assert same(*found)


def test_mixed_precision_trains_close_to_full_precision(tiny: Classifier, training_set: Sets, tmp_path: Path):
    settings = dataclasses.replace(QUICK, epochs=2)
    full, _ = fit(tiny, training_set(), settings, tmp_path / "a.ckpt")
    half, _ = fit(tiny, training_set(), dataclasses.replace(settings, precision="bf16"), tmp_path / "b.ckpt")
    assert not same(full, half)
    torch.testing.assert_close(half.state["net.fc.weight"], full.state["net.fc.weight"], atol=0.1, rtol=0.1)
    assert half.state["net.fc.weight"].dtype == torch.float32


def test_a_head_that_is_not_the_whole_way_to_the_logits_is_refused(tiny: Classifier):
    class Scaled(type(tiny.net)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 3 * super().forward(x)

    other = Classifier(Scaled(), tiny.labels, tiny.preprocess, name="scaled", arch="tiny")
    with pytest.raises(UnsupportedError, match="scope 'whole'"):
        Teacher(other, TrainSettings(scope="head"))


def test_auxiliary_classes_are_trained_beside_the_others_and_not_answered_with():
    from ltg_core.models.architectures import build
    from ltg_core.models.preprocess import Preprocess

    torch_state = torch.get_rng_state()
    net = build("resnet14_small", 3)
    torch.set_rng_state(torch_state)
    old = Classifier(
        net, ("a", "b", "c"), Preprocess(32, 32, resize="squash"), name="three", arch="resnet14_small"
    )
    teacher = Teacher(old, TrainSettings(scope="whole"), auxiliary=("a1", "b1"))
    student = teacher.student().eval()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert student(x).shape == (2, 5)
    torch.testing.assert_close(student(x)[:, :3], old.logits(x))
    made = teacher.finished(student.state_dict(), "masked")
    assert made.num_classes == 3 and made.units.count == 5
    torch.testing.assert_close(made.logits(x), old.logits(x))
    scratch = Teacher(old, TrainSettings(scope="scratch"), seed=4)
    assert torch.equal(
        scratch.student().state_dict()["net.linear.weight"],
        scratch.student().state_dict()["net.linear.weight"],
    )
    assert not torch.equal(
        scratch.student().state_dict()["net.conv1.weight"], net.state_dict()["conv1.weight"]
    )
