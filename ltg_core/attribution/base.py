"""The contract of attribution methods: heat per pixel, in bounded memory, the classifier left as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ltg_core.attribution.targets import Target
from ltg_core.compat import ensure_torchvision
from ltg_core.errors import InputError, UnsupportedError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.preprocess import Preprocess
from ltg_core.params import Params, param
from ltg_core.types import Images

BASELINES = ("mean", "black", "white", "grey", "blur")

# The global generators belong to the whole process, so only one thread at a time may borrow them.
_borrowing = threading.RLock()


@dataclasses.dataclass(frozen=True, eq=False)
class Heatmap:
    """The map of one sample as it is stored and shown.

    Attributes:
        sample_id: The sample explained.
        method: The attribution's name.
        target: What was explained, in words.
        values: (H, W) float32; positive raises the target, negative lowers it.
        signed: Whether the sign has a meaning; unsigned maps are magnitudes.
        notes: What the reader should know, for example that memory ran short.
    """

    sample_id: str
    method: str
    target: str
    values: NDArray[np.float32]
    signed: bool = True
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
    """The part of a batch that a method works on at once.

    Attributes:
        images: (n, 3, H, W), a private copy that requires a gradient.
        per_sample: The target's tensors for these images; they are repeated wherever the images are.
        forward: Images and per-sample tensors to (n,); checks the cancel token first.
        rows: At most so many images may pass the network at once.
        target: For methods that look inside the classifier.
        background: (N, 3, H, W) typical images for methods that average over baselines, or None.
    """

    images: Images
    per_sample: tuple[Tensor, ...]
    forward: Callable[..., Tensor]
    rows: int
    target: Target
    background: Images | None = None


@dataclasses.dataclass(frozen=True)
class Attribution(Params, ABC):
    """Base of all methods.

    Attributes:
        NAME: The registry name.
        HELP: One sentence for a tooltip.
        GRADIENT: Whether the target must be differentiable.
    """

    NAME: ClassVar[str]
    HELP: ClassVar[str]
    GRADIENT: ClassVar[bool] = True

    internal_batch_size: int = param(
        32, "Images that pass the network at once; halved by itself when memory runs out.", low=1, high=4096
    )

    @property
    def signed(self) -> bool:
        """Whether negative heat has a meaning."""
        return True

    def attribute(
        self,
        target: Target,
        images: Images,
        *,
        background: Images | None = None,
        notes: list[str] | None = None,
        on_progress: ProgressFn = no_progress,
        cancel: CancelToken | None = None,
    ) -> Tensor:
        """Heat of every pixel, summed over colour channels.

        Args:
            target: The number per image that is explained.
            images: (B, 3, H, W).
            background: Typical images of the same size, for methods that average over baselines.
            notes: Filled with what the reader should know, for example that memory ran short.
            on_progress: Called after every part of the batch.
            cancel: Checked before every pass through the network.

        Returns:
            (B, H, W) float32 on the images' device; positive heat raises the target.

        Raises:
            InputError: Wrong shapes, or one image alone does not fit into memory.
            UnsupportedError: The method cannot explain this target or network; the message offers another.
            Cancelled: Asked for through ``cancel``.
        """
        _check_images(images)
        if self.GRADIENT and not target.differentiable:
            raise UnsupportedError(
                f"{self.NAME} follows gradients and {target.describe()} has none; use occlusion instead"
            )
        ensure_torchvision()  # captum imports it where it is installed
        where = target.classifier.device
        heat = self._in_parts(
            target,
            images.detach().to(where),
            background if background is None else background.detach().to(where),
            notes if notes is not None else [],
            on_progress,
            cancel or CancelToken(),
        )
        return heat.to(images.device)

    def _in_parts(
        self,
        target: Target,
        images: Images,
        background: Images | None,
        notes: list[str],
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> Tensor:
        """Work through the batch; on a lack of memory go on with half as many rows at once."""

        def forward(images: Images, *per_sample: Tensor) -> Tensor:
            cancel.check()
            return target.forward(images, *per_sample)

        per_sample = target.prepare(images)
        rows, start, heats = self.internal_batch_size, 0, list[Tensor]()
        while start < len(images):
            cancel.check()
            part = slice(start, start + self._samples_at_once(rows))
            private = images[part].clone().requires_grad_()
            chunk = Chunk(private, tuple(t[part] for t in per_sample), forward, rows, target, background)
            try:
                heats.append(self._heat(chunk).detach().float())
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if rows == 1:
                    raise InputError(
                        f"{self.NAME} on one image of {images.shape[2]} x {images.shape[3]} pixels does not "
                        "fit into memory; use smaller images or grad_cam"
                    ) from error
            else:
                start += len(private)
                on_progress(Progress(start, len(images), f"{self.NAME}: {start} of {len(images)} images"))
                continue
            # Only here, after the handler, are the failed attempt's tensors free.
            rows = rows // 2
            if images.is_cuda:
                torch.cuda.empty_cache()
        if rows < self.internal_batch_size:
            notes.append(
                f"memory ran out with {self.internal_batch_size} images at once; finished with {rows} at once"
            )
        return _finite(torch.cat(heats), notes)

    def _samples_at_once(self, rows: int) -> int:
        """How many samples one call of ``_heat`` gets when ``rows`` images fit into memory."""
        return rows

    @abstractmethod
    def _heat(self, chunk: Chunk) -> Tensor:
        """Heat of the chunk's images, (n, H, W)."""


def heatmaps(
    method: Attribution,
    target: Target,
    images: Images,
    ids: Sequence[str],
    *,
    background: Images | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> list[Heatmap]:
    """Explain a batch and label the maps with their samples.

    Raises:
        InputError: Not one id per image.
        UnsupportedError: As ``Attribution.attribute``.
    """
    if len(ids) != len(images):
        raise InputError(f"{len(ids)} sample ids were given for {len(images)} images")
    notes: list[str] = []
    heat = method.attribute(
        target, images, background=background, notes=notes, on_progress=on_progress, cancel=cancel
    )
    values = heat.cpu().numpy().astype(np.float32)
    words = target.describe()
    return [
        Heatmap(sample, method.NAME, words, value, method.signed, tuple(notes))
        for sample, value in zip(ids, values, strict=True)
    ]


def baseline_images(kind: str, images: Images, preprocess: Preprocess) -> Images:
    """The uninformative image that stands for "nothing there", same shape as the images.

    Args:
        kind: "mean" (the colour that the network sees as zero), "black", "white", "grey" or "blur" (the image
            itself, without detail finer than a quarter of it).
        images: (B, 3, H, W).
        preprocess: Knows the network's mean colour.
    """
    if kind == "blur":
        height, width = images.shape[2:]
        longer = max(height, width)
        small = (max(1, round(4 * height / longer)), max(1, round(4 * width / longer)))
        coarse = F.interpolate(images.detach(), size=small, mode="bilinear", antialias=True)
        return F.interpolate(coarse, size=(height, width), mode="bilinear")
    level = {"black": (0.0,), "white": (1.0,), "grey": (0.5,), "mean": tuple(preprocess.mean)}[kind]
    colour = torch.tensor(level, dtype=images.dtype, device=images.device).clamp(0, 1)
    return colour.view(1, -1, 1, 1).expand_as(images).clone()


@contextlib.contextmanager
def borrowed_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators for a library that draws from them, and give them back as they were.

    One thread at a time. Draws of other threads would mingle; nothing else in this package makes any.
    """
    cuda = device.type == "cuda"
    index = (device.index if device.index is not None else torch.cuda.current_device()) if cuda else 0
    with _borrowing, torch.random.fork_rng(devices=[index] if cuda else []):
        before = np.random.get_state()
        try:
            # Not torch.manual_seed: it would seed every device, and only those named above are given back.
            torch.default_generator.manual_seed(seed)
            if cuda:
                torch.cuda.default_generators[index].manual_seed(seed)
            np.random.seed(seed % 2**32)
            yield
        finally:
            np.random.set_state(before)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    words = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        sign in words for sign in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _check_images(images: Images) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0 or not images.is_floating_point():
        raise InputError(
            f"images have shape {tuple(images.shape)} and type {images.dtype}; "
            "expected (B, 3, H, W) floats in [0, 1]"
        )


def _finite(heat: Tensor, notes: list[str]) -> Tensor:
    broken = int((~torch.isfinite(heat)).flatten(1).any(dim=1).sum())
    if broken:
        notes.append(
            f"{broken} of {len(heat)} maps have undefined values, shown as zero; the target saturates there"
        )
    return torch.nan_to_num(heat, nan=0.0, posinf=0.0, neginf=0.0)
