"""One resumable training loop for all the networks that are trained here."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltg_core.errors import ModelError
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.params import Params, param

Step = Callable[[int, torch.Generator], torch.Tensor]
"""(step, random generator on the CPU) -> scalar loss."""


# What torch raises for a file that is none or is cut off, depending on where.
_DAMAGED = (RuntimeError, EOFError, pickle.UnpicklingError, LookupError, ValueError, AttributeError)


@dataclasses.dataclass(frozen=True)
class FitSettings(Params):
    """Optimisation of one network: AdamW, linear warm-up, cosine to a tenth, weights averaged (EMA)."""

    steps: int = param(1000, "Optimiser steps", low=1)
    batch_size: int = param(32, "Images a step", low=1)
    lr: float = param(1e-3, "Peak learning rate", low=0.0)
    weight_decay: float = param(0.01, "AdamW weight decay", low=0.0)
    warmup: int = param(100, "Steps of linear warm-up", low=0)
    ema: float = param(0.999, "Decay of the averaged weights; 0 for none", low=0.0, high=0.99999)
    checkpoint_every: int = param(250, "Steps between checkpoints", low=1)
    seed: int = param(0, "Seed of initialisation and batches", low=0)


class Trainer:
    """Trains a module and writes checkpoints that a killed run continues from.

    Args:
        net: The module; trained in place, on its own device.
        settings: See `FitSettings`.
        checkpoint: File of the checkpoint; written atomically.

    The batches of step n depend on the seed and on n alone, so a resumed run sees the same data as an unbroken one.
    """

    def __init__(self, net: nn.Module, settings: FitSettings, checkpoint: Path) -> None:
        self.net = net
        self.settings = settings
        self.checkpoint = checkpoint
        self.averaged = copy.deepcopy(net).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            [p for p in net.parameters() if p.requires_grad],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.99),
        )
        self.step = 0
        self.history: list[tuple[int, float]] = []
        if checkpoint.exists():
            self._resume()

    def run(
        self,
        step_fn: Step,
        *,
        what: str,
        on_progress: ProgressFn,
        cancel: CancelToken,
        until: int | None = None,
    ) -> nn.Module:
        """Train to the end, or to step ``until``; returns the averaged network in eval mode.

        Raises:
            Cancelled: On request; a checkpoint is written first.
            ModelError: The loss is not finite.
        """
        last = self.settings.steps if until is None else min(until, self.settings.steps)
        running, started, first = math.nan, time.monotonic(), self.step
        self.net.train()
        while self.step < last:
            if cancel.cancelled:
                self.save()
                cancel.check()
            rng = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
            loss = step_fn(self.step, rng)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ModelError(
                    f"the loss of {what} is {value} at step {self.step}; use a lower learning rate"
                )
            self._update(loss)
            running = value if math.isnan(running) else 0.98 * running + 0.02 * value
            self.step += 1
            if self.step % 50 == 0 or self.step == last:
                self.history.append((self.step, running))
                rate = (self.step - first) / max(time.monotonic() - started, 1e-6)
                left = (last - self.step) / max(rate, 1e-6)
                on_progress(
                    Progress(
                        self.step,
                        self.settings.steps,
                        f"{what}: loss {running:.4f}, {left / 60:.1f} min left",
                    )
                )
            if self.step % self.settings.checkpoint_every == 0 or self.step == last:
                self.save()
        self.net.eval()
        return self.averaged if self.settings.ema > 0 else self.net

    def _update(self, loss: torch.Tensor) -> None:
        settings = self.settings
        warm = min(1.0, (self.step + 1) / max(1, settings.warmup))
        cosine = 0.55 + 0.45 * math.cos(math.pi * self.step / settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * warm * cosine
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        decay = min(settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, new in zip(self.averaged.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(new, 1 - decay)
            for average, buffer in zip(self.averaged.buffers(), self.net.buffers(), strict=True):
                average.copy_(buffer)

    def save(self) -> None:
        """Write the checkpoint: a temporary file, then a rename."""
        state: dict[str, Any] = {
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "history": self.history,
            "settings": self.settings.to_dict(),
        }
        write_checkpoint(self.checkpoint, state)

    def _resume(self) -> None:
        state = read_checkpoint(self.checkpoint)
        fixed = {k: v for k, v in self.settings.to_dict().items() if k not in ("steps", "checkpoint_every")}
        stored = {k: v for k, v in state["settings"].items() if k in fixed}
        if stored != fixed:
            raise ModelError(
                f"the checkpoint {self.checkpoint.name} was made with {stored}, now asked for {fixed}; "
                "use the same settings or another output folder"
            )
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.history = [(int(s), float(v)) for s, v in state["history"]]


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training's state: a temporary file, then a rename, so a kill leaves the earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    except BaseException:  # a full disk: what is half-written would keep it full
        temporary.unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What ``write_checkpoint`` wrote, on the CPU; tensors and plain values only.

    Raises:
        ModelError: The file is cut off or is none.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        if not isinstance(state, dict):
            raise ValueError("no dictionary")
    except _DAMAGED as error:
        raise ModelError(
            f"the checkpoint '{path}' is damaged; delete it, and this training begins anew"
        ) from error
    return state


def pick(count: int, batch: int, rng: torch.Generator) -> torch.Tensor:
    """Random indices of one batch, (batch,) int64."""
    return torch.randint(count, (batch,), generator=rng)
