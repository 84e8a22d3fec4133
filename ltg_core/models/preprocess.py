"""From images in [0, 1] to a classifier's input: one differentiable object for files and tensors."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ltg_core.errors import InputError, ParamError
from ltg_core.params import Params, param
from ltg_core.types import Images

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL's mode "L"
_MODES = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest-exact"}


@dataclasses.dataclass(frozen=True)
class Preprocess(Params):
    """Resize, crop and normalise, differentiably.

    The same call serves files (through ``from_pil``) and generated tensors, so that a score cannot depend
    on the way an image arrived. Resizing is antialiased; images that already have the right size are not
    resampled.
    """

    height: int = param(224, "Height of the classifier's input in pixels.", low=1, high=4096)
    width: int = param(224, "Width of the classifier's input in pixels.", low=1, high=4096)
    resize: str = param(
        "crop",
        "squash: stretch to the input size; crop: keep the shape, cut out the centre; none: must fit.",
        choices=("squash", "crop", "none"),
    )
    interpolation: str = param("bilinear", "How pixels are resampled.", choices=tuple(_MODES))
    crop_pct: float = param(
        0.875, "With crop: the share of the resized image that is kept.", low=0.05, high=1.0
    )
    mean: tuple[float, ...] = param(IMAGENET_MEAN, "Subtracted from each channel, in units of [0, 1].")
    std: tuple[float, ...] = param(IMAGENET_STD, "Divides each channel afterwards.")
    channels: int = param(3, "3 for colour, 1 for brightness only.", low=1, high=3)
    order: str = param(
        "rgb",
        "Order of the colour channels; bgr for networks that were trained on images read by OpenCV or Caffe.",
        choices=("rgb", "bgr"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels not in (1, 3):
            raise ParamError(f"Preprocess.channels is {self.channels}; choose 1 or 3")
        for name in ("mean", "std"):
            object.__setattr__(self, name, _floats(name, getattr(self, name), self.channels))
        if min(self.std) <= 0:
            raise ParamError(f"Preprocess.std is {self.std}; every value must be above 0")

    def __call__(self, images: Images) -> torch.Tensor:
        """Prepare a batch.

        Args:
            images: (B, 3, H, W) float in [0, 1].

        Returns:
            (B, channels, height, width), normalised; gradients flow back to ``images``.

        Raises:
            InputError: Another shape or an integer type; with ``resize="none"`` also another size.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                f"images have the shape {tuple(images.shape)}; expected (batch, 3, height, width)"
            )
        if not images.is_floating_point():
            raise InputError(f"images are {images.dtype}; expected floating point in [0, 1]")
        x = images.float() if images.dtype in (torch.float16, torch.bfloat16) else images
        x = self._fit(x)
        if self.channels == 1:
            x = (x * x.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        elif self.order == "bgr":
            x = x.flip(1)
        return (x - x.new_tensor(self.mean).view(1, -1, 1, 1)) / x.new_tensor(self.std).view(1, -1, 1, 1)

    def from_pil(self, image: Image.Image) -> torch.Tensor:
        """A picture as (3, H, W) float in [0, 1], at its own size."""
        pixels = np.array(image.convert("RGB"), dtype=np.uint8)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)

    def describe(self) -> str:
        """What happens to an image, in plain words."""
        size = f"{self.width}×{self.height} pixels"
        steps = {
            "squash": f"stretched to {size} ({self.interpolation})",
            "crop": f"scaled to cover {self._scaled(self.width)}×{self._scaled(self.height)} pixels "
            f"({self.interpolation}), the centre {self.width}×{self.height} cut out",
            "none": f"taken as it is, must have {size}",
        }[self.resize]
        colour = "turned into brightness" if self.channels == 1 else "colour"
        if self.channels == 3 and self.order == "bgr":
            colour = "colour, blue first"
        mean, std = (", ".join(f"{v:.3g}" for v in values) for values in (self.mean, self.std))
        return f"{steps}; {colour}; minus {mean}, divided by {std}"

    def _fit(self, x: torch.Tensor) -> torch.Tensor:
        have, want = (int(x.shape[2]), int(x.shape[3])), (self.height, self.width)
        if self.resize == "none":
            if have != want:
                raise InputError(
                    f"images are {have[1]}×{have[0]} pixels and the classifier expects {want[1]}×{want[0]}; "
                    "choose resize 'squash' or 'crop'"
                )
            return x
        if self.resize == "squash":
            return self._interpolate(x, want)
        x = self._interpolate(x, self._cover(have))
        top, left = (round((int(x.shape[i + 2]) - want[i]) / 2) for i in range(2))
        return x[:, :, top : top + self.height, left : left + self.width]

    def _scaled(self, side: int) -> int:
        return math.floor(side / self.crop_pct + 1e-6)  # the epsilon: 224 / (224 / 232) must be 232

    def _cover(self, have: tuple[int, int]) -> tuple[int, int]:
        """The size with the same aspect ratio that just covers the scaled input size."""
        goal = (self._scaled(self.height), self._scaled(self.width))
        tight = 0 if goal[0] * have[1] >= goal[1] * have[0] else 1  # the side that decides
        other = max(goal[1 - tight], goal[tight] * have[1 - tight] // have[tight])
        return (goal[0], other) if tight == 0 else (other, goal[1])

    def _interpolate(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        if (int(x.shape[2]), int(x.shape[3])) == size:
            return x
        smooth = self.interpolation != "nearest"
        x = F.interpolate(x, size=size, mode=_MODES[self.interpolation], antialias=smooth)
        return (
            x.clamp(0, 1) if self.interpolation == "bicubic" else x
        )  # bicubic overshoots; 8-bit files cannot


def _floats(name: str, values: object, channels: int) -> tuple[float, ...]:
    try:
        floats = tuple(float(v) for v in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ParamError(f"Preprocess.{name} is {values!r}; expected {channels} numbers") from None
    if len(floats) != channels or not all(math.isfinite(v) for v in floats):
        raise ParamError(f"Preprocess.{name} is {floats}; expected {channels} finite numbers")
    return floats
