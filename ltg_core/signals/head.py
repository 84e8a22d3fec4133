"""The epistemic head: small heads on the frozen features, which agree where there was data and nowhere else.

Each member k is g_k(x) + prior_k(x): a trained network and a fixed random function (randomised priors, Osband
et al. 2018), trained with its own Poisson(1) bootstrap weights on cached features. No gradient reaches the
backbone, and the classifier's own prediction is not touched. Even members form the "guide" group, odd members
the "audit" group.

By default a member is anchored: it is added to the classifier's logits. The disagreement is then weighed by how
undecided the classifier is, and rises besides where the features are unlike the data: the training takes the random
functions back where there was data. Few, slow passes are best (docs/design.md): a long training takes them back
everywhere.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from ltg_core.errors import InputError, ModelError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.params import Params, param
from ltg_core.signals.base import GROUPS
from ltg_core.signals.projection import CHUNK, moments
from ltg_core.types import Features, Labels, Logits


@dataclasses.dataclass(frozen=True)
class HeadSettings(Params):
    """How the epistemic head is built and trained."""

    members: int = param(24, "Number of small heads; half guide, half audit.", low=4, high=64)
    hidden: int = param(64, "Hidden units of each head.", low=4, high=1024)
    epochs: int = param(
        8, "Most passes over the data; training stops earlier when it no longer helps.", low=1, high=1000
    )
    batch_size: int = param(1024, "Samples a step; small data sets use less.", low=8, high=65536)
    lr: float = param(1e-3, "Learning rate of Adam.", low=1e-6, high=1.0)
    weight_decay: float = param(1e-4, "Decoupled weight decay of the trained part.", low=0.0, high=1.0)
    prior_scale: float = param(2.0, "Size of the fixed random functions, in logits.", low=0.0, high=100.0)
    prior_gain: float = param(
        0.5,
        "How fast the random functions vary: at 1 a third is shared between two unrelated samples.",
        low=0.1,
        high=20.0,
    )
    bootstrap: bool = param(True, "Give every head its own random weighting of the samples.")
    label_smoothing: float = param(0.0, "Share of the target spread over all classes.", low=0.0, high=0.5)
    anchor: bool = param(
        True, "Add each head to the classifier's own logits instead of starting from nothing."
    )
    consistency: float = param(
        0.0,
        "With anchor: how strongly heads must repeat the classifier on the data, so that they differ elsewhere.",
        low=0.0,
        high=1000.0,
    )
    temperature: float = param(1.5, "Divides the heads' logits when they are read.", low=0.05, high=100.0)
    holdout: float = param(0.1, "Share of the samples that decides when to stop.", low=0.0, high=0.5)
    patience: int = param(5, "Passes without progress after which training stops.", low=1, high=1000)


class EpistemicHead(nn.Module):
    """K small heads evaluated together (final class).

    Args:
        mean: (D,) mean of the stacked features that it will be trained on.
        std: (D,) their standard deviation.
        num_classes: C.
        settings: Size, priors and temperature.
        generator: Draws the initial weights and the priors.
    """

    mean: torch.Tensor
    std: torch.Tensor
    prior_in: torch.Tensor
    prior_phase: torch.Tensor
    prior_out: torch.Tensor

    def __init__(
        self,
        mean: torch.Tensor,
        std: torch.Tensor,
        num_classes: int,
        settings: HeadSettings,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = num_classes
        width, members, hidden = len(mean), settings.members, settings.hidden
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

        def normal(*shape: int, scale: float) -> torch.Tensor:
            draw = torch.randn(*shape, generator=generator, device=generator.device) * scale
            return draw.to(mean.device)

        # (D, K, H): the first layer of all members is one matrix product
        self.weight_in = nn.Parameter(normal(width, members, hidden, scale=width**-0.5))
        self.bias_in = nn.Parameter(normal(members, hidden, scale=0.1))
        self.weight_out = nn.Parameter(normal(members, hidden, num_classes, scale=hidden**-0.5))
        self.bias_out = nn.Parameter(torch.zeros(members, 1, num_classes, device=mean.device))
        # the priors are random Fourier features (Rahimi & Recht 2007): draws from a Gaussian process, bounded
        # far from the data and too crooked for the trained part to copy where there is none
        self.register_buffer(
            "prior_in", normal(width, members, hidden, scale=settings.prior_gain * width**-0.5)
        )
        phase = torch.rand(members, hidden, generator=generator, device=generator.device) * (2 * math.pi)
        self.register_buffer("prior_phase", phase.to(mean.device))
        scale = settings.prior_scale * (2 / hidden) ** 0.5
        self.register_buffer("prior_out", normal(members, hidden, num_classes, scale=scale))

    @property
    def in_features(self) -> int:
        """Width D of the stacked features."""
        return self.mean.shape[0]

    def members(self, group: str = "all") -> list[int]:
        """Indices of a group's members.

        Raises:
            InputError: No such group.
        """
        if group not in GROUPS:
            raise InputError(
                f"there is no group {group!r} of the head's members; choose one of {list(GROUPS)}"
            )
        return list(range(self.settings.members))[_slice(group)]

    def forward(self, features: Features, group: str = "all", base: Logits | None = None) -> torch.Tensor:
        """Member logits (K', B, C) at temperature 1; see ``logits``."""
        if features.dim() != 2 or features.shape[1] != self.in_features:
            raise ModelError(
                f"the epistemic head was fitted on {self.in_features} stacked features a sample and got an "
                f"array of shape {tuple(features.shape)}; fit it again for this classifier"
            )
        if self.settings.anchor and base is None:
            raise InputError("an anchored head needs the classifier's own logits; give base")
        self.members(group)
        part = _slice(group)
        x = (features.to(self.mean.dtype) - self.mean) / self.std
        z = self._layer(x, self.weight_in[:, part], self.bias_in[part])
        z = torch.baddbmm(self.bias_out[part], nn.functional.silu(z), self.weight_out[part])
        prior = self._layer(x, self.prior_in[:, part], self.prior_phase[part]).cos()
        z = torch.baddbmm(z, prior, self.prior_out[part])
        if self.settings.anchor and base is not None:
            z = z + base.to(z.dtype)
        return z

    def logits(self, features: Features, group: str = "all", base: Logits | None = None) -> torch.Tensor:
        """Logits of each member, differentiable with respect to the features.

        Args:
            features: (B, D) stacked features, as ``Outputs.stacked()`` gives them.
            group: "all", "guide" (even members) or "audit" (odd members).
            base: (B, C) the classifier's own logits; read by an anchored head only.

        Returns:
            (K', B, C), divided by the temperature of the settings.

        Raises:
            ModelError: The features have another width than those of the training.
            InputError: An unknown group, or no ``base`` for an anchored head.
        """
        return self.forward(features, group, base) / self.settings.temperature

    @staticmethod
    def _layer(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(B, D) through (D, K, H) to (K, B, H)."""
        width, members, hidden = weight.shape
        flat = x @ weight.reshape(width, members * hidden)
        return flat.view(len(x), members, hidden).transpose(0, 1) + bias[:, None]


def _slice(group: str) -> slice:
    return {"all": slice(None), "guide": slice(0, None, 2), "audit": slice(1, None, 2)}[group]


@dataclasses.dataclass(frozen=True)
class _Data:
    """Training arrays; bootstrap ``weights`` (N, K), ``base``: the classifier's logits or None."""

    features: Features
    labels: Labels
    weights: torch.Tensor
    base: Logits | None

    def rows(self, index: torch.Tensor) -> _Data:
        base = None if self.base is None else self.base[index]
        return _Data(self.features[index], self.labels[index], self.weights[index], base)


def fit_head(
    features: Features,
    labels: Labels,
    num_classes: int,
    settings: HeadSettings,
    *,
    generator: torch.Generator,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
    base_logits: Logits | None = None,
) -> EpistemicHead:
    """Train the head on cached features of a frozen classifier.

    Args:
        features: (N, D) stacked features without a graph; the head is trained on their device.
        labels: (N,) true classes.
        num_classes: C.
        settings: Size and training.
        generator: Source of every random draw; the same state gives the same head.
        on_progress: Told after every pass over the data.
        cancel: Checked before every step.
        base_logits: (N, C) the classifier's logits; needed with ``settings.anchor``.

    Returns:
        The head at the pass with the lowest held-out loss, frozen, in evaluation mode.

    Raises:
        InputError: Fewer than two samples, arrays that do not fit, or no ``base_logits`` for an anchor.
        ModelError: The training diverged.
        Cancelled: The user stopped it.
    """
    cancel = cancel or CancelToken()
    _check(features, labels, num_classes, settings, base_logits)
    features, labels = features.detach().float(), labels.to(device=features.device, dtype=torch.long)
    order = torch.randperm(len(features), generator=generator, device=generator.device).to(features.device)
    held = int(settings.holdout * len(features)) if len(features) >= 50 else 0
    mean, std = moments(features)
    head = EpistemicHead(mean, std, num_classes, settings, generator=generator)
    weights = torch.ones(len(features), settings.members, device=generator.device)
    if settings.bootstrap:
        weights = torch.poisson(weights, generator=generator)
    base = base_logits.detach().float() if settings.anchor and base_logits is not None else None
    data = _Data(features, labels, weights.to(features.device), base)
    _train(head, data, order[held:], order[:held], generator, on_progress, cancel)
    return head.requires_grad_(False).eval()


def _check(
    features: Features, labels: Labels, num_classes: int, settings: HeadSettings, base_logits: Logits | None
) -> None:
    if features.dim() != 2 or len(features) < 2 or tuple(labels.shape) != (len(features),):
        raise InputError(
            f"the head needs features (N, D) and labels (N,) of at least two samples; got "
            f"{tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise InputError(
            f"labels must be 0 to {num_classes - 1}; got {int(labels.min())} to {int(labels.max())}. "
            "Leave unlabelled samples out of the training"
        )
    if not bool(features.isfinite().all()):
        raise InputError("some features are infinite or missing; look for broken images or weights")
    if settings.anchor and (base_logits is None or tuple(base_logits.shape) != (len(features), num_classes)):
        raise InputError(
            f"an anchored head needs base_logits: the classifier's, ({len(features)}, {num_classes})"
        )


def _train(
    head: EpistemicHead,
    data: _Data,
    train: torch.Tensor,
    held: torch.Tensor,
    generator: torch.Generator,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> None:
    """Adam with a cosine schedule; stops when the held-out loss no longer falls and keeps the best pass."""
    s = head.settings
    batch = max(8, min(s.batch_size, len(train) // 16))  # at least 16 steps a pass, also on small data
    steps = math.ceil(len(train) / batch)
    optimiser = torch.optim.AdamW(head.parameters(), lr=s.lr, weight_decay=s.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, s.epochs * steps)
    best, best_state, waited = math.inf, None, 0
    for epoch in range(s.epochs):
        order = torch.randperm(len(train), generator=generator, device=generator.device).to(train.device)
        total = 0.0
        for rows in torch.split(train[order], batch):
            cancel.check()
            loss = _loss(head, data.rows(rows))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        if not math.isfinite(total):
            raise ModelError(
                f"training the head diverged in pass {epoch + 1}; use a smaller learning rate than {s.lr}"
            )
        now = _held_loss(head, data, held) if len(held) else total / len(train)
        on_progress(Progress(epoch + 1, s.epochs, f"pass {epoch + 1} of at most {s.epochs}, loss {now:.4f}"))
        if not len(held):
            continue
        if now < best:
            best, best_state, waited = now, {n: t.clone() for n, t in head.state_dict().items()}, 0
        else:
            waited += 1
            if waited >= s.patience:
                break
    if best_state is not None:
        head.load_state_dict(best_state)
    on_progress(Progress(s.epochs, s.epochs, "the head is fitted"))


def _loss(head: EpistemicHead, data: _Data) -> torch.Tensor:
    """Weighted cross-entropy over samples and members; anchored heads also repeat the classifier."""
    z = head(data.features, base=data.base)  # (K, B, C)
    members, rows, classes = z.shape
    each = nn.functional.cross_entropy(
        z.reshape(members * rows, classes),
        data.labels.repeat(members),
        reduction="none",
        label_smoothing=head.settings.label_smoothing,
    ).view(members, rows)
    if data.base is not None and head.settings.consistency > 0:
        away = (z - data.base).square().mean(dim=2)
        each = each + head.settings.consistency * away
    return (each * data.weights.T).mean()


@torch.no_grad()
def _held_loss(head: EpistemicHead, data: _Data, held: torch.Tensor) -> float:
    total = 0.0
    for rows in torch.split(held, CHUNK):
        part = data.rows(rows)
        part = dataclasses.replace(part, weights=torch.ones_like(part.weights))
        total += float(_loss(head, part)) * len(rows)
    return total / len(held)
