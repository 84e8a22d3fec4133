"""Tensors that belong together, and the standardised view of features that all of them are fitted in."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch

from ltg_core.errors import ModelError
from ltg_core.types import Features

_P = TypeVar("_P", bound="Pack")

CHUNK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Pack:
    """A frozen group of named tensors that is saved, loaded and moved as one."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by field name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def to(self: _P, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> _P:
        """A copy on another device; ``dtype`` changes the floating-point tensors only."""
        return type(self)(
            **{
                name: t.to(device=device, dtype=dtype if t.is_floating_point() else None)
                for name, t in self.tensors().items()
            }
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Projection(Pack):
    """Standardises features and, where they are many, keeps their main directions.

    Attributes:
        mean: (D,).
        std: (D,), floored so that a feature that is dead on real data does not rule every distance.
        basis: (D, k) orthonormal main directions of the standardised features; (0, 0): not needed.
    """

    mean: torch.Tensor
    std: torch.Tensor
    basis: torch.Tensor

    def __call__(self, features: Features) -> Features:
        """(B, D) to (B, k), differentiable.

        Raises:
            ModelError: The features have another width than those that this was fitted on.
        """
        if features.dim() != 2 or features.shape[1] != self.mean.shape[0]:
            raise ModelError(
                f"the reference was fitted on {self.mean.shape[0]} features a sample and got an array of "
                f"shape {tuple(features.shape)}; fit the head again for this classifier and feature layer"
            )
        x = (features.to(self.mean.dtype) - self.mean) / self.std
        return x @ self.basis if self.basis.numel() else x

    @property
    def log_volume(self) -> torch.Tensor:
        """What a log density gains by being stated in the features' own units; 0 after a projection."""
        return (
            self.std.double().log().sum()
            if not self.basis.numel()
            else self.std.new_zeros((), dtype=torch.double)
        )


def moments(features: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and floored standard deviation per feature, (D,) each, in float64.

    The floor is a twentieth of the typical deviation: a unit that is dead on real data would otherwise turn
    any activation into an astronomic distance.
    """
    total = torch.zeros(features.shape[1], dtype=torch.double, device=features.device)
    square = torch.zeros_like(total)
    for rows in torch.split(features, CHUNK):
        total += rows.double().sum(dim=0)
    mean = total / len(features)
    for rows in torch.split(features, CHUNK):
        square += (rows.double() - mean).square().sum(dim=0)
    std = (square / len(features)).sqrt()
    floor = 0.05 * std.square().mean().sqrt()
    return mean, std.clamp_min(float(floor) if floor > 0 else 1.0)


def fit_projection(features: Features, max_dims: int, generator: torch.Generator) -> Projection:
    """Fit on real features, (N, D); more than ``max_dims`` dimensions are reduced to the main ones.

    The directions come from a randomised range finder, power iterations (Halko et al. 2011, algorithm 4.4):
    an exact decomposition of several thousand dimensions takes minutes.
    """
    mean, std = moments(features)
    count, width = features.shape
    basis = torch.zeros(0, 0, dtype=torch.double, device=features.device)
    if width > max_dims:
        keep = min(max_dims, max(1, count - 1))
        probe = min(keep + 16, width)
        q = torch.randn(width, probe, generator=generator, dtype=torch.double, device=generator.device)
        q = q.to(features.device)
        for _ in range(3):
            q = torch.linalg.qr(_gram_times(features, mean, std, q)).Q
        small = q.T @ _gram_times(features, mean, std, q)
        order = torch.linalg.eigh(small).eigenvectors.flip(1)[:, :keep]
        basis = q @ order
    return Projection(mean.float(), std.float(), basis.float())


def _gram_times(features: Features, mean: torch.Tensor, std: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    result = torch.zeros_like(q)
    for rows in torch.split(features, CHUNK):
        x = (rows.double() - mean) / std
        result += x.T @ (x @ q)
    return result / len(features)
