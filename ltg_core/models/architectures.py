"""Networks by name, always without weights: our own small ones, and those of timm and torchvision."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import MissingExtra, ModelError
from ltg_core.models.preprocess import Preprocess

Shapes = Mapping[str, tuple[int, ...]]

_MARK = (
    1013  # a number of classes that no layer width equals: it marks the tensors of the classification layer
)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters (option A of He et al. 2015, section 4.2)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride = stride
        self.extra = (outside - inside) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1 or self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(x + y)


class SmallResNet(nn.Module):
    """Residual network for small images (He et al. 2015, section 4.2).

    A 3×3 stem, three stages of 16, 32 and 64 channels with (n − 2) / 6 blocks each, averaging, one linear
    layer.

    Args:
        depth: 6 k + 2.
        num_classes: Outputs.
        stem_stride: 1 for 32×32 images; 2 halves larger ones at once.
    """

    def __init__(self, depth: int, num_classes: int, stem_stride: int = 1) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, 1, blocks)
        self.layer2 = _stage(16, 32, 2, blocks)
        self.layer3 = _stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(inside: int, outside: int, stride: int, blocks: int) -> nn.Sequential:
    rest = [BasicBlock(outside, outside, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inside, outside, stride), *rest)


@dataclasses.dataclass(frozen=True)
class OwnArchitecture:
    """A network of this package: its name, its depth and the images that it is meant for."""

    name: str
    depth: int
    size: int
    stem_stride: int = 1


OWN = (
    OwnArchitecture("resnet14_small", 14, 64, stem_stride=2),
    OwnArchitecture("resnet20_cifar", 20, 32),
    OwnArchitecture("resnet32_cifar", 32, 32),
    OwnArchitecture("resnet56_cifar", 56, 32),
)

CANDIDATES = (
    *(own.name for own in OWN),
    *(
        f"timm:{n}"
        for n in ("resnet18", "resnet34", "resnet50", "resnet101", "convnext_tiny", "efficientnet_b0")
    ),
    *(
        f"timm:{n}"
        for n in ("mobilenetv3_large_100", "densenet121", "vit_tiny_patch16_224", "vit_small_patch16_224")
    ),
    *(f"timm:{n}" for n in ("vit_base_patch16_224", "swin_tiny_patch4_window7_224", "regnety_016")),
    *(f"torchvision:{n}" for n in ("convnext_tiny", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_large")),
    *(f"torchvision:{n}" for n in ("vgg16", "vgg16_bn", "vit_b_16", "swin_t", "alexnet")),
)
"""What ``suggest`` tries. timm's and torchvision's ResNets have the same tensors: one is enough."""


def build(arch: str, num_classes: int) -> nn.Module:
    """A network with random weights.

    Args:
        arch: ``"timm:resnet18"``, ``"torchvision:resnet18"``, or a bare name, looked up here, then in timm,
            then in torchvision.
        num_classes: Outputs of its last layer.

    Raises:
        ModelError: The name is unknown, points outside (``hf-hub:``, ``local-dir:``), or does not take a
            number of classes.
        MissingExtra: The library of this prefix is not installed.
    """
    origin, name = _resolve(arch)
    if num_classes < 1:
        raise ModelError(f"{arch} with {num_classes} classes cannot be built; the smallest number is 1")
    if origin == "own":
        own = next(o for o in OWN if o.name == name)
        return SmallResNet(own.depth, num_classes, own.stem_stride)
    try:
        if origin == "timm":
            import timm

            net: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
        else:
            import torchvision

            # these two warn unless they are told how to draw weights that are overwritten anyway
            quiet = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            net = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **quiet)
    except (TypeError, RuntimeError, ValueError) as error:
        raise ModelError(f"{origin} cannot build {name!r} with {num_classes} classes: {error}") from error
    return net


def canonical(arch: str) -> str:
    """The full name of an architecture: own names bare, others with their library in front.

    Raises:
        ModelError: As ``build``.
    """
    origin, name = _resolve(arch)
    return name if origin == "own" else f"{origin}:{name}"


def default_preprocess(arch: str) -> Preprocess:
    """The preprocessing that networks of this name are usually trained with."""
    origin, name = _resolve(arch)
    if origin == "own":
        size = next(o for o in OWN if o.name == name).size
        return Preprocess(height=size, width=size, resize="squash")
    if origin == "timm":
        import timm

        cfg = timm.get_pretrained_cfg(name)
        if cfg is None:
            return Preprocess()
        _, height, width = cfg.input_size
        return Preprocess(
            height=height,
            width=width,
            resize="squash" if cfg.crop_mode == "squash" else "crop",
            interpolation=cfg.interpolation if cfg.interpolation in ("bilinear", "bicubic") else "bilinear",
            crop_pct=min(cfg.crop_pct, 1.0),
            mean=tuple(cfg.mean),
            std=tuple(cfg.std),
        )
    import torchvision

    known = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    crop, resize = known.crop_size[0], known.resize_size[0]
    return Preprocess(
        height=crop,
        width=crop,
        interpolation=known.interpolation.value,
        crop_pct=min(crop / resize, 1.0),
        mean=tuple(known.mean),
        std=tuple(known.std),
    )


@functools.lru_cache(maxsize=64)
def shapes_of(arch: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of an architecture, without allocating any."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in build(arch, num_classes).state_dict().items()}


def infer_num_classes(arch: str, shapes: Shapes) -> int | None:
    """How many classes a file has under this architecture, or None where its last layer is absent."""
    for name, shape in shapes_of(arch, _MARK).items():
        if _MARK in shape and name in shapes and len(shapes[name]) == len(shape):
            return shapes[name][shape.index(_MARK)]
    return None


def differences(expected: Shapes, found: Shapes) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, too many, and of another shape. Batch counters do not matter."""
    missing = [n for n in expected if n not in found and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in found if n not in expected]
    reshaped = [n for n in expected if n in found and tuple(found[n]) != tuple(expected[n])]
    return missing, unexpected, reshaped


def suggest(shapes: Shapes) -> list[tuple[str, float]]:
    """Architectures whose tensors look like these, the best first.

    Args:
        shapes: Names and shapes of a file's tensors.

    Returns:
        (architecture, score): the share of tensors, by name and shape, that both have; 1 is a perfect fit.
        Candidates with a score of 0 are left out.
    """
    found = {n: tuple(s) for n, s in shapes.items() if not n.endswith("num_batches_tracked")}
    scored = []
    for arch in CANDIDATES:
        try:
            wanted = shapes_of(arch, _MARK)
        except (ModelError, MissingExtra):
            continue  # the library or the name is absent here; the other candidates still help
        wanted = {n: s for n, s in wanted.items() if not n.endswith("num_batches_tracked")}
        same = sum(n in found and _alike(shape, found[n]) for n, shape in wanted.items())
        score = same / len(wanted.keys() | found.keys())
        if score > 0:
            scored.append((arch, score))
    return sorted(scored, key=lambda pair: (-pair[1], CANDIDATES.index(pair[0])))


def _alike(wanted: tuple[int, ...], found: tuple[int, ...]) -> bool:
    return len(wanted) == len(found) and all(w in (f, _MARK) for w, f in zip(wanted, found, strict=True))


def _resolve(arch: str) -> tuple[str, str]:
    """Where a network comes from and its name there."""
    prefix, _, name = str(arch).rpartition(":")
    if prefix not in ("", "timm", "torchvision") or not re.fullmatch(r"[A-Za-z0-9_.\-]+", name):
        raise ModelError(
            f"the architecture {arch!r} is refused: only names known to this package, timm and torchvision "
            "are built ('resnet20_cifar', 'timm:resnet18', 'torchvision:resnet18'), no files, no repositories"
        )
    if not prefix and name in {own.name for own in OWN}:
        return "own", name
    if prefix in ("", "timm") and _in_timm(name, required=prefix == "timm"):
        return "timm", name
    if prefix in ("", "torchvision") and name in _torchvision_names(required=prefix == "torchvision"):
        return "torchvision", name
    near = _near(prefix, name)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"own networks are {', '.join(o.name for o in OWN)}"
    )
    raise ModelError(f"there is no architecture {arch!r}; {hint}")


def _near(prefix: str, name: str) -> list[str]:
    known = {own.name: own.name for own in OWN} if not prefix else {}
    if prefix in ("", "torchvision"):
        known |= {n: f"torchvision:{n}" for n in _torchvision_names(required=False)}
    if prefix in ("", "timm") and _timm() is not None:
        known |= {n: f"timm:{n}" for n in _timm().list_models()}
    return [known[n] for n in difflib.get_close_matches(name, known, n=3, cutoff=0.7)]


def _in_timm(name: str, *, required: bool) -> bool:
    library = _timm()
    if library is None and required:
        raise MissingExtra("timm is not installed; install it with: pip install timm")
    return library is not None and bool(library.is_model(name.split(".")[0]))


def _timm() -> Any:
    ensure_torchvision()
    try:
        import timm
    except ModuleNotFoundError:
        return None
    return timm


def _torchvision_names(*, required: bool) -> list[str]:
    if not ensure_torchvision():
        if required:
            raise MissingExtra("torchvision is not installed; install it with: pip install torchvision")
        return []
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))
