"""The training loop of a student: accelerate for device and precision, checkpoints that give the same weights again."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError
from ltg_core.fitting import read_checkpoint, write_checkpoint
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.training.changing import augment, mix, number_of, stream
from ltg_core.training.losses.base import About, Batch, Loss
from ltg_core.training.samplers.base import Sampler
from ltg_core.training.settings import TrainSettings
from ltg_core.training.student import Student
from ltg_core.training.watching import better, watched

Fetch = Callable[[torch.Tensor], torch.Tensor]
"""Row numbers (B,) to images (B, 3, H, W) in [0, 1] or features (B, D), on the CPU."""
_BLOCK = 256


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """What is learned from, and the real images that say when to stop.

    Attributes:
        fetch: Training images, or features.
        targets: (N, C) labels, each row sums to 1.
        weights: (N,) weight of each image.
        groups: (N,) group of each image, -1 for none.
        about: What losses may know.
        held: Validation images, or features: real ones only.
        held_labels: (M,) their classes; M may be 0.
        classes: How many of the C classes are kept.
        fingerprint: Of all this; a checkpoint of other data is refused.
    """

    fetch: Fetch
    targets: torch.Tensor
    weights: torch.Tensor
    groups: torch.Tensor
    about: About
    held: Fetch
    held_labels: torch.Tensor
    classes: int
    fingerprint: str

    @property
    def labels(self) -> torch.Tensor:
        """(N,) the likeliest class of each image."""
        return self.targets.argmax(dim=1)


class Trained(NamedTuple):
    """What came out.

    Attributes:
        state: Weights of the student, averaged where asked for.
        epochs: How many were run.
        best_epoch: The one whose weights these are.
        history: One record an epoch: ``epoch``, ``train_loss`` and what was watched.
        stopped_early: Whether there was no improvement for so long.
    """

    state: dict[str, torch.Tensor]
    epochs: int
    best_epoch: int
    history: list[dict[str, float]]
    stopped_early: bool


class Fit:
    """One training with one seed.

    Args:
        student: Trained in place.
        data: What is learned from.
        loss: What is minimised.
        sampler: In which order images come.
        settings: The rest.
        seed: Of order, changes and dropout; images of a step depend on it and on the step alone.
        checkpoint: File from which a stopped training goes on; written atomically.
        device: "cpu" or "cuda".

    Raises:
        UnsupportedError: The data lacks what the loss or the sampler needs.
        ModelError: The checkpoint is damaged or of another training.
    """

    def __init__(
        self,
        student: Student,
        data: TrainingSet,
        loss: Loss,
        sampler: Sampler,
        settings: TrainSettings,
        *,
        seed: int,
        checkpoint: Path,
        device: str = "cpu",
    ) -> None:
        loss.check(data.about)
        sampler.check(data.groups)
        self.data, self.loss, self.sampler, self.settings, self.seed = data, loss, sampler, settings, seed
        self.checkpoint = checkpoint
        self.accelerator = _accelerator(settings.precision, device)
        self.device = self.accelerator.device
        self.averaged = copy.deepcopy(student).eval().requires_grad_(False).to(self.device)
        self.student, self.optimizer = self.accelerator.prepare(student, _optimizer(student, settings))
        self.about = data.about.to(self.device)
        self.loss_state = loss.state(self.about)
        self.epoch_steps = max(1, len(data.targets) // settings.batch_size)
        self.steps = settings.epochs * self.epoch_steps
        self.step, self.running, self.ended = 0, math.nan, False
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {}
        if checkpoint.exists():
            self._resume()

    def run(self, *, what: str, on_progress: ProgressFn, cancel: CancelToken) -> Trained:
        """Train to the end, or until real validation images say so.

        Raises:
            Cancelled: On request; a checkpoint is written first.
            ModelError: The loss is not finite.
        """
        order, epoch = torch.empty(0), -1
        began, first = time.monotonic(), self.step
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # dropout draws from torch's own stream
            while self.step < self.steps and not self.ended:
                if cancel.cancelled:
                    self.save()
                    cancel.check()
                if self.step // self.epoch_steps != epoch:
                    epoch = self.step // self.epoch_steps
                    rng = stream(self.seed, "order", epoch)
                    order = self.sampler.epoch(self.data.labels, self.data.groups, rng)
                place = (self.step % self.epoch_steps) * self.settings.batch_size
                self._one(order[place : place + self.settings.batch_size], what)
                if self.step % self.epoch_steps == 0:
                    self._validate()
                if self.step % self.epoch_steps == 0 or self.step % 20 == 0:
                    left = (time.monotonic() - began) / (self.step - first) * (self.steps - self.step)
                    on_progress(Progress(self.step, self.steps, self._said(what, left)))
                if self.step % self.settings.checkpoint_every == 0 or self.step == self.steps or self.ended:
                    self.save()
        state = self.best["state"] if self.best else _on_cpu(self._result())
        epochs = self.step // self.epoch_steps
        return Trained(state, epochs, self.best.get("epoch", epochs), self.history, self.ended)

    def _one(self, rows: torch.Tensor, what: str) -> None:
        """One step of the optimiser."""
        data, rng = self.data, stream(self.seed, "step", self.step)
        torch.manual_seed(number_of(self.seed, "dropout", self.step))
        x = data.fetch(rows)
        if self.settings.augments and x.ndim == 4:
            x = augment(x, self.settings, rng)
        x, targets, weights = mix(x, data.targets[rows], data.weights[rows], self.settings.mixup, rng)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr_at(self.step, self.steps, self.epoch_steps)
        self.student.train()
        with self.accelerator.autocast():
            logits = self.student(x.to(self.device))
        batch = Batch(
            logits,
            targets.to(self.device),
            weights.to(self.device),
            data.groups[rows].to(self.device),
            self.step / self.steps,
        )
        loss = self.loss(batch, self.about, self.loss_state)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(f"the loss of {what} is {value} at step {self.step}; use a lower learning rate")
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        if self.settings.clip:
            self.accelerator.clip_grad_norm_(self.student.parameters(), self.settings.clip)
        self.optimizer.step()
        self._average()
        self.running = value if math.isnan(self.running) else 0.95 * self.running + 0.05 * value
        self.step += 1

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step)) if self.settings.ema else 0.0
        new = self._plain()
        for mean, value in zip(self.averaged.parameters(), new.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for average, buffer in zip(self.averaged.buffers(), new.buffers(), strict=True):
            average.copy_(buffer)

    def _validate(self) -> None:
        """Look at real validation images; remember the best weights; decide whether to go on."""
        epoch = self.step // self.epoch_steps
        record: dict[str, float] = {"epoch": epoch, "train_loss": round(self.running, 6)}
        if len(self.data.held_labels):
            found = watched(self._answers(), self.data.held_labels, self.data.classes)
            record |= {name: round(value, 6) for name, value in found.items()}
            value = found[self.settings.monitor]
            if self.settings.patience:
                if better(self.settings.monitor, value, self.best.get("value")):
                    self.best = {"value": value, "epoch": epoch, "state": _on_cpu(self._result())}
                self.ended = epoch - int(self.best["epoch"]) >= self.settings.patience
        self.history.append(record)

    @torch.no_grad()
    def _answers(self) -> torch.Tensor:
        """Logits of the averaged student on the validation images, on the CPU."""
        self.averaged.eval()
        rows = torch.arange(len(self.data.held_labels))
        parts = [
            self.averaged(self.data.held(part).to(self.device)).cpu() for part in torch.split(rows, _BLOCK)
        ]
        return torch.cat(parts)

    def _plain(self) -> nn.Module:
        found: nn.Module = self.accelerator.unwrap_model(self.student, keep_fp32_wrapper=True)
        return found

    def _result(self) -> dict[str, torch.Tensor]:
        return self.averaged.state_dict()

    def _said(self, what: str, left: float) -> str:
        epochs = self.settings.epochs
        epoch = min(self.step // self.epoch_steps + 1, epochs)
        text = f"{what}: epoch {epoch} of {epochs}, loss {self.running:.3f}"
        name = self.settings.monitor
        if self.history and name in self.history[-1]:
            text += f", {name.replace('_', ' ')} {self.history[-1][name]:.3f} on real validation images"
        return f"{text}, at most {left / 60:.1f} min left"

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to fit."""
        settings = {k: v for k, v in self.settings.to_dict().items() if k != "checkpoint_every"}
        return {
            "settings": settings,
            "loss": {self.loss.NAME: self.loss.to_dict()},
            "sampler": {self.sampler.NAME: self.sampler.to_dict()},
            "seed": self.seed,
            "data": self.data.fingerprint,
        }

    def save(self) -> None:
        """Write the checkpoint: a temporary file, then a rename."""
        scaler = self.accelerator.scaler
        state = {
            "identity": self._identity(),
            "student": self._plain().state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "loss": self.loss_state,
            "best": self.best,
            "history": self.history,
            "step": self.step,
            "running": self.running,
            "ended": self.ended,
        }
        write_checkpoint(self.checkpoint, state)

    def _resume(self) -> None:
        state = read_checkpoint(self.checkpoint)
        if state["identity"] != self._identity():
            raise ModelError(
                f"the checkpoint {self.checkpoint.name} belongs to other settings or to other data than are there now; "
                "start a new training"
            )
        self._plain().load_state_dict(state["student"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.loss_state = {name: value.to(self.device) for name, value in state["loss"].items()}
        self.best, self.history = state["best"], state["history"]
        self.step, self.running, self.ended = (
            int(state["step"]),
            float(state["running"]),
            bool(state["ended"]),
        )


def _optimizer(student: Student, settings: TrainSettings) -> torch.optim.Optimizer:
    weights = [p for p in student.parameters() if p.requires_grad]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            weights, settings.peak_lr, settings.momentum, weight_decay=settings.weight_decay
        )
    return torch.optim.AdamW(weights, settings.peak_lr, weight_decay=settings.weight_decay)


def _accelerator(precision: str, device: str) -> Any:
    """accelerate's object for this device. It keeps a state for the process, which is begun anew each time."""
    ensure_torchvision()
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    gpu = device.startswith("cuda")
    if precision == "auto":
        precision = "no" if not gpu else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=not gpu, mixed_precision=precision)


def _on_cpu(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}
