"""Grad-CAM: which places of the last convolutional stage the target looks at."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ltg_core.attribution.base import Attribution, Chunk
from ltg_core.attribution.targets import twin
from ltg_core.errors import UnsupportedError
from ltg_core.models import layers
from ltg_core.models.preprocess import Preprocess
from ltg_core.params import param


@dataclasses.dataclass(frozen=True)
class GradCam(Attribution):
    """Selvaraju et al. 2017: channels of a spatial layer weighted by their mean gradient, enlarged."""

    NAME: ClassVar[str] = "grad_cam"
    HELP: ClassVar[str] = "Coarse but steady: which region the last spatial layer relies on."

    positive_only: bool = param(False, "Drop what speaks against the target, as in the original method.")
    layer: str = param("", "Module name of the spatial layer; empty for the classifier's last one.")

    @property
    def signed(self) -> bool:
        """Unless negative heat is dropped."""
        return not self.positive_only

    def _heat(self, chunk: Chunk) -> Tensor:
        # On a twin with the same tensors: the hook then sees this call only, whatever other threads compute.
        mirror = twin(chunk.target.classifier, share=True)
        target = chunk.target.on(mirror)
        name = self.layer or mirror.gradcam_layer
        modules = dict(mirror.net.named_modules())
        if not name or name not in modules:
            raise UnsupportedError(
                _offer(f"{mirror.name} has no spatial layer" + (f" {name!r}" if name else ""))
            )
        seen: list[Tensor] = []

        def keep(_: object, __: object, output: object) -> None:
            found = layers.first_tensor(output)
            if found is not None:
                seen.append(found)

        handle = modules[name].register_forward_hook(keep)
        try:
            value = target.forward(chunk.images, *chunk.per_sample).sum()
        finally:
            handle.remove()
        if not seen or not seen[-1].requires_grad:
            raise UnsupportedError(_offer(f"the layer {name} of {mirror.name} does not depend on the image"))
        (gradient,) = torch.autograd.grad(value, seen[-1])
        size = (mirror.preprocess.height, mirror.preprocess.width)
        maps = [layers.as_map(x.detach(), *size, mirror.grids) for x in (seen[-1], gradient)]
        if maps[0] is None or maps[1] is None or maps[0].shape[2] * maps[0].shape[3] < 2:
            shape = tuple(seen[-1].shape)
            raise UnsupportedError(
                _offer(f"the layer {name} of {mirror.name} has no spatial axes (map {shape})")
            )
        coarse = (maps[1].mean(dim=(2, 3), keepdim=True) * maps[0]).sum(dim=1, keepdim=True)
        if self.positive_only:
            coarse = coarse.relu()
        height, width = chunk.images.shape[2:]
        return _onto_image(coarse, mirror.preprocess, height, width)[:, 0]


def _offer(problem: str) -> str:
    return f"{problem}; Grad-CAM cannot be used here, use integrated_gradients or occlusion instead"


def _onto_image(coarse: Tensor, preprocess: Preprocess, height: int, width: int) -> Tensor:
    """Enlarge (B, 1, h, w) to the part of the image that the network sees; zero where it was cropped away."""
    top, bottom, left, right = visible_part(preprocess, height, width)
    heat = F.interpolate(coarse, size=(bottom - top, right - left), mode="bilinear", align_corners=False)
    return F.pad(heat, (left, width - right, top, height - bottom))


def visible_part(preprocess: Preprocess, height: int, width: int) -> tuple[int, int, int, int]:
    """The pixels (top, bottom, left, right) of an image that reach the network.

    Found by sending coordinates through the preprocessing, so that it holds for every kind of resizing and
    cropping.
    """
    rows = (torch.arange(height) + 0.5).div(height).view(1, 1, height, 1).expand(1, 3, height, width)
    columns = (torch.arange(width) + 0.5).div(width).view(1, 1, 1, width).expand(1, 3, height, width)
    mean, std = preprocess.mean[0], preprocess.std[0]
    seen_rows = preprocess(rows)[0, 0] * std + mean
    seen_columns = preprocess(columns)[0, 0] * std + mean
    top, bottom = _edges(seen_rows.mean(dim=1), height)
    left, right = _edges(seen_columns.mean(dim=0), width)
    return top, bottom, left, right


def _edges(centres: Tensor, size: int) -> tuple[int, int]:
    """First and last-but-one pixel of an axis, from the source positions (0 to 1) of the network's pixels."""
    count = len(centres)
    first, last = float(centres[0]), float(centres[-1])
    # From the inner pixels where there are enough: those at the border are blurred towards the middle.
    inner = count // 4
    pitch = float(centres[-1 - inner] - centres[inner]) / max(1, count - 1 - 2 * inner) if count > 1 else 1.0
    start = round((first - pitch / 2) * size)
    stop = round((last + pitch / 2) * size)
    start = max(0, min(size - 1, start))
    return start, max(start + 1, min(size, stop))
