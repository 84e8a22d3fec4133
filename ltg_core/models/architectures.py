"""Networks by name, always without weights: our own small ones, and those of timm, torchvision and transformers."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import MissingExtra, ModelError
from ltg_core.models.naming import canonical, resolve, timm_library
from ltg_core.models.own import OWN, OwnArchitecture, SmallResNet
from ltg_core.models.preprocess import Preprocess

__all__ = [
    "CANDIDATES",
    "OWN",
    "OwnArchitecture",
    "build",
    "canonical",
    "default_preprocess",
    "differences",
    "infer_num_classes",
    "infer_options",
    "shapes_of",
    "suggest",
]

Shapes = Mapping[str, tuple[int, ...]]
Options = Mapping[str, Any]
"""What a name leaves open: ``in_chans`` and ``img_size`` (timm), ``image_size`` (torchvision), a config
(transformers)."""

_MARK = (
    1013  # a number of classes that no layer width equals: it marks the tensors of the classification layer
)
_MAX_SIDE = 4096
_MAX_RELATIVES = 40
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
    *(f"transformers:{n}" for n in ("vit", "resnet", "convnext", "swin", "deit", "beit", "dinov2")),
)
"""What ``suggest`` tries. timm's and torchvision's ResNets have the same tensors: one is enough. Those of transformers
are tried where the names of the tensors begin as theirs do."""


def build(arch: str, num_classes: int, options: Options | None = None) -> nn.Module:
    """A network with random weights.

    Args:
        arch: ``"timm:resnet18"``, ``"torchvision:resnet18"``, ``"transformers:vit"``, or a bare name, looked up here,
            then in timm, then in torchvision, then in transformers.
        num_classes: Outputs of its last layer.
        options: What the name leaves open; only what cannot reach a file, a repository or the network is taken.

    Raises:
        ModelError: The name is unknown, points outside (``hf-hub:``, ``local-dir:``), or does not take a
            number of classes or one of the options.
        MissingExtra: The library of this prefix is not installed.
    """
    origin, name = resolve(arch)
    given = dict(options or {})
    if num_classes < 1:
        raise ModelError(f"{arch} with {num_classes} classes cannot be built; the smallest number is 1")
    if origin == "transformers":
        from ltg_core.models.huggingface import build_transformers

        return build_transformers(name, num_classes, given)
    _check_options(
        arch, given, {"timm": ("in_chans", "img_size"), "torchvision": ("image_size",)}.get(origin, ())
    )
    if origin == "own":
        own = next(o for o in OWN if o.name == name)
        return SmallResNet(own.depth, num_classes, own.stem_stride)
    try:
        if origin == "timm":
            net: nn.Module = timm_library().create_model(
                name, pretrained=False, num_classes=num_classes, **given
            )
        else:
            ensure_torchvision()
            import torchvision

            # these two warn unless they are told how to draw weights that are overwritten anyway
            quiet = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            net = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **quiet, **given)
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:
        extra = f" and {given}" if given else ""
        raise ModelError(
            f"{origin} cannot build {name!r} with {num_classes} classes{extra}: {error}"
        ) from error
    return net


def default_preprocess(arch: str, options: Options | None = None) -> Preprocess:
    """The preprocessing that networks of this name are usually trained with."""
    origin, name = resolve(arch)
    options = options or {}
    if origin == "own":
        size = next(o for o in OWN if o.name == name).size
        return Preprocess(height=size, width=size, resize="squash")
    if origin == "transformers":
        from ltg_core.models.huggingface import usual_preprocess

        return usual_preprocess(name, options)
    if origin == "timm":
        cfg = timm_library().get_pretrained_cfg(name)
        given: dict[str, Any] = {} if cfg is None else cfg.to_dict()
        if "img_size" in options:
            given = {**given, "input_size": (3, *_pair(options["img_size"]))}
        usual = timm_preprocess(given)
        return usual if options.get("in_chans", 3) == 3 else grey(usual)
    ensure_torchvision()
    import torchvision

    known = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    crop, resize = known.crop_size[0], known.resize_size[0]
    side = int(options.get("image_size", crop))
    return Preprocess(
        height=side,
        width=side,
        interpolation=known.interpolation.value,
        crop_pct=min(crop / resize, 1.0),
        mean=tuple(known.mean),
        std=tuple(known.std),
    )


def timm_preprocess(cfg: Mapping[str, Any]) -> Preprocess:
    """From the ``pretrained_cfg`` of timm, as in the package or in a folder's ``config.json``.

    Raises:
        ModelError: A value has another form.
    """
    try:
        channels, height, width = cfg.get("input_size", (3, 224, 224))
        kind = str(cfg.get("interpolation", "bilinear"))
        usual = Preprocess(
            height=height,
            width=width,
            resize="squash" if cfg.get("crop_mode") == "squash" else "crop",
            interpolation=kind if kind in ("bilinear", "bicubic", "nearest") else "bilinear",
            crop_pct=min(float(cfg.get("crop_pct") or 0.875), 1.0),
            mean=_three(cfg.get("mean", (0.485, 0.456, 0.406))),
            std=_three(cfg.get("std", (0.229, 0.224, 0.225))),
        )
        return usual if channels == 3 else grey(usual)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the preprocessing in the configuration cannot be used: {error}") from error


def grey(usual: Preprocess) -> Preprocess:
    """The same for a network that takes brightness only; the channels' mean values are averaged."""
    mean, std = (sum(values) / len(values) for values in (usual.mean, usual.std))
    return Preprocess.from_dict({**usual.to_dict(), "channels": 1, "mean": (mean,), "std": (std,)})


def shapes_of(arch: str, num_classes: int, options: Options | None = None) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of an architecture, without allocating any."""
    return _shapes_of(arch, num_classes, json.dumps(dict(options or {}), sort_keys=True))


@functools.lru_cache(maxsize=256)
def _shapes_of(arch: str, num_classes: int, options: str) -> dict[str, tuple[int, ...]]:
    given = json.loads(options)
    try:
        with torch.device("meta"):
            net = build(arch, num_classes, given)
    except ModelError as error:
        if "meta tensor" not in str(error):
            raise
        with torch.random.fork_rng(devices=[]):  # RegNets of torchvision compute their widths with tensors
            net = build(arch, num_classes, given)
    return {name: tuple(t.shape) for name, t in net.state_dict().items()}


def infer_num_classes(arch: str, shapes: Shapes, options: Options | None = None) -> int | None:
    """How many classes a file has under this architecture, or None where its last layer is absent."""
    for name, shape in shapes_of(arch, _MARK, options).items():
        if _MARK in shape and name in shapes and len(shapes[name]) == len(shape):
            return shapes[name][shape.index(_MARK)]
    return None


def infer_options(arch: str, shapes: Shapes, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """What the name leaves open, told by the shapes of a file: greyscale input, another image size.

    Args:
        arch: The architecture.
        shapes: Names and shapes of a file's tensors.
        size: (height, width) of the input where it is known.

    Returns:
        The options under which most tensors agree; {} where the plain name does as well.
    """
    origin, _ = resolve(arch)
    options = list(_variants(origin, shapes, size))
    if not options or _disagreeing(arch, shapes, {}) == 0:
        return {}
    counted: list[tuple[int, int, dict[str, Any]]] = []
    plain: dict[str, Any] = {}
    for given in (plain, *options):
        try:
            counted.append((_disagreeing(arch, shapes, given), len(counted), given))
        except (ModelError, KeyError, RuntimeError, TypeError, ValueError):
            continue  # this architecture does not take that option
    return min(counted)[2] if counted else {}


def _variants(origin: str, shapes: Shapes, size: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
    stems = {shape[1] for shape in shapes.values() if len(shape) == 4}
    greys = [{}, {"in_chans": 1}] if origin == "timm" and 1 in stems else [{}]
    sizes: list[dict[str, Any]] = [{}]
    if origin == "timm":
        sides = {size} if size else {(n, n) for n in (32, 64, 96, 128, 160, 192, 256, 384)}
        sizes += [{"img_size": list(side)} for side in sorted(sides)]
    elif origin == "torchvision" and size and size[0] == size[1]:
        sizes.append({"image_size": size[0]})
    yield from ({**a, **b} for a in greys for b in sizes if {**a, **b})


def _disagreeing(arch: str, shapes: Shapes, options: Options) -> int:
    wanted = shapes_of(arch, _MARK, options)
    return sum(n in shapes and not _alike(shape, shapes[n]) for n, shape in wanted.items())


def differences(expected: Shapes, found: Shapes) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, too many, and of another shape. Batch counters do not matter."""
    missing = [n for n in expected if n not in found and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in found if n not in expected]
    reshaped = [n for n in expected if n in found and tuple(found[n]) != tuple(expected[n])]
    return missing, unexpected, reshaped


def suggest(shapes: Shapes) -> list[tuple[str, float]]:
    """Architectures whose tensors look like these, the best first.

    Where none of ``CANDIDATES`` fits completely, the relatives of the best one in timm are tried as well.

    Args:
        shapes: Names and shapes of a file's tensors.

    Returns:
        (architecture, score): the share of tensors, by name and shape, that both have; 1 is a perfect fit.
        Candidates with a score of 0 are left out.
    """
    found = {n: tuple(s) for n, s in shapes.items() if not n.endswith("num_batches_tracked")}
    starts = {name.partition(".")[0] for name in found}
    tried = [
        arch
        for arch in CANDIDATES
        if not arch.startswith("transformers:") or arch.partition(":")[2] in starts
    ]
    scored = _scored(tried, found)
    if scored and 0.05 < scored[0][1] < 1 and found:
        scored = _sorted([*scored, *_scored(_relatives(scored[0][0], tried), found)])
    return scored


def _scored(tried: list[str], found: Shapes) -> list[tuple[str, float]]:
    scored = []
    for arch in tried:
        try:
            wanted = shapes_of(arch, _MARK)
        except (ModelError, MissingExtra):
            continue  # the library or the name is absent here; the other candidates still help
        wanted = {n: s for n, s in wanted.items() if not n.endswith("num_batches_tracked")}
        same = sum(n in found and _alike(shape, found[n]) for n, shape in wanted.items())
        score = same / max(1, len(wanted.keys() | found.keys()))
        if score > 0:
            scored.append((arch, score))
    return _sorted(scored)


def _sorted(scored: list[tuple[str, float]]) -> list[tuple[str, float]]:
    order = {arch: place for place, arch in enumerate(CANDIDATES)}
    return sorted(scored, key=lambda pair: (-pair[1], order.get(pair[0], len(order)), len(pair[0]), pair[0]))


def _relatives(arch: str, tried: list[str]) -> list[str]:
    """Networks that timm keeps in the same module, the shortest names first; the large ones are many."""
    library = timm_library()
    name = arch.partition(":")[2]
    if library is None or not arch.startswith("timm:"):
        return []
    module = inspect.getmodule(library.model_entrypoint(name))
    kin = library.list_models(module=module.__name__.rpartition(".")[2]) if module else []
    start = name[:4]
    kin = sorted(kin, key=lambda n: (not n.startswith(start), len(n), n))
    return [f"timm:{n}" for n in kin if f"timm:{n}" not in tried][:_MAX_RELATIVES]


def _alike(wanted: tuple[int, ...], found: tuple[int, ...]) -> bool:
    return len(wanted) == len(found) and all(w in (f, _MARK) for w, f in zip(wanted, found, strict=True))


def _check_options(arch: str, options: Options, allowed: tuple[str, ...]) -> None:
    """A card comes from anywhere; what timm passes on could name a file to read."""
    for name, value in options.items():
        if name not in allowed:
            raise ModelError(f"{arch} takes no option {name!r} here; known: {', '.join(allowed) or 'none'}")
        numbers = value if isinstance(value, (list, tuple)) else [value]
        good = all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= _MAX_SIDE for n in numbers)
        if not good or len(numbers) > 2 or (name == "in_chans" and value not in (1, 3)):
            raise ModelError(f"the option {name}={value!r} of {arch} cannot be used")


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _three(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values)
    return numbers * 3 if len(numbers) == 1 else numbers
