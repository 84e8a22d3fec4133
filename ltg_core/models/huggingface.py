"""Image classifiers of transformers: built from a configuration that was looked at first, never from remote code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError
from ltg_core.models.preprocess import Preprocess

_KINDS = {0: "nearest", 2: "bilinear", 3: "bicubic", 1: "bicubic", 4: "bilinear", 5: "bilinear"}
"""PIL's numbers; Lanczos comes closest to bicubic, box and Hamming to (antialiased) bilinear."""
_LEFT_OUT = (
    "auto_map", "attn_implementation", "quantization_config", "torch_dtype", "dtype", "backbone",
    "use_pretrained_backbone", "use_timm_backbone", "backbone_kwargs", "backbone_config", "timm_kwargs",
    "transformers_version", "id2label", "label2id", "num_labels", "problem_type", "model_type",
    "torchscript", "experts_implementation", "use_kernels", "output_attentions", "output_hidden_states", "return_dict",
    "use_cache",
)  # fmt: skip
"""Of a configuration: what names code, files or repositories, what we set ourselves, and what changes the output."""
_MAX_WIDTH = 2**18
_MAX_DEPTH = 512
_DEEP = ("depth", "layer", "block", "repeat", "stage")


def build_transformers(name: str, num_classes: int, config: Mapping[str, Any]) -> nn.Module:
    """A network of transformers with random weights.

    Args:
        name: Model type, such as "vit".
        num_classes: Outputs.
        config: What differs from the model type's own configuration, as in ``config.json``.

    Raises:
        ModelError: The configuration cannot be used.
    """
    ensure_torchvision()
    from transformers import AutoConfig, AutoModelForImageClassification

    kept = clean_config(config)
    chosen = class_name(name, kept.pop("architectures", None))
    try:
        made = AutoConfig.for_model(name, num_labels=num_classes, **kept)
        made.architectures = [chosen]  # some types have several kinds of classifiers
        net: nn.Module = AutoModelForImageClassification.from_config(made, trust_remote_code=False)
    except (
        TypeError,
        ValueError,
        KeyError,
        RuntimeError,
        AttributeError,
        ArithmeticError,
        LookupError,
    ) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"transformers cannot build {name!r} from this configuration: {first}") from error
    return net


def class_name(name: str, given: Any) -> str:
    """The class that a configuration names where its type has it, else the type's first."""
    ensure_torchvision()
    from transformers.models.auto import modeling_auto

    known = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES[name]
    names = [known] if isinstance(known, str) else list(known)
    wanted = given[0] if isinstance(given, list) and given else None
    return wanted if wanted in names else str(names[0])


def clean_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what names code, files or repositories.

    Raises:
        ModelError: A number in it is beyond any classifier: building the network would take the memory or the time of
            the machine.
    """
    kept = {k: v for k, v in config.items() if not k.startswith("_") and k not in _LEFT_OUT}
    for key, value in kept.items():
        _check_numbers(key, value, 0)
    return kept


def _check_numbers(key: str, value: Any, level: int) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if str(name).startswith("_") or name in _LEFT_OUT[:9]:
                raise ModelError(f"the configuration's {key}.{name} is refused")
            _check_numbers(str(name), inner, level + 1)
    elif isinstance(value, (list, tuple)):
        if len(value) > 4096 or level > 6:
            raise ModelError(f"the configuration's {key} is far too long")
        for inner in value:
            _check_numbers(key, inner, level + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        most = _MAX_DEPTH if any(word in key for word in _DEEP) and "size" not in key else _MAX_WIDTH
        if not math.isfinite(value) or abs(value) > most:
            raise ModelError(f"the configuration's {key} is {value}; the largest value here is {most:,}")


def usual_preprocess(name: str, config: Mapping[str, Any]) -> Preprocess:
    """What the model type's own image processor does, at the size that the configuration names."""
    ensure_torchvision()
    import transformers
    from transformers.models.auto import image_processing_auto

    known = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(name, {})
    maker = (
        getattr(transformers, known.get("torchvision") or "", None) if isinstance(known, Mapping) else None
    )
    values = dict(maker().to_dict()) if maker is not None else {}
    size = config.get("image_size")
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        values |= {"size": {"height": height, "width": width}, "do_center_crop": False}
    channels = int(config.get("num_channels", 3))
    return processor_preprocess(values, channels)


def processor_preprocess(values: Mapping[str, Any], channels: int = 3) -> Preprocess:
    """From ``preprocessor_config.json``: the same steps as one differentiable object.

    Raises:
        ModelError: A value has another form, or a step has no counterpart here.
    """
    try:
        return _processor_preprocess(values, channels)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"the preprocessing in the configuration cannot be used: {error}") from error


def _processor_preprocess(values: Mapping[str, Any], channels: int) -> Preprocess:
    size, crop = values.get("size") or {}, values.get("crop_size") or {}
    size = {"height": size, "width": size} if isinstance(size, int) else dict(size)
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else dict(crop)
    short = size.get("shortest_edge")
    resize, share = "squash", 1.0
    if values.get("do_center_crop") and crop:
        height, width = int(crop["height"]), int(crop["width"])
        resize, share = "crop", min(1.0, min(height, width) / int(short or min(size.values())))
        if not short and (size.get("height"), size.get("width")) != (size.get("width"), size.get("height")):
            raise ModelError("images are stretched and then cropped in a way that has no counterpart here")
        if not short and share == 1.0:
            resize = "squash"
    elif short:
        height = width = int(short)
        resize = "crop"
        # ConvNeXT: below 384 pixels scaled to size / crop_pct and cropped, else squashed
        share = float(values.get("crop_pct") or 1.0)
        if values.get("crop_pct") and height >= 384:
            resize, share = "squash", 1.0
    else:
        height, width = int(size.get("height", 224)), int(size.get("width", 224))
    if values.get("do_resize") is False and resize == "squash":
        resize = "none"
    mean, std = _normalisation(values, channels)
    return Preprocess(
        height=height,
        width=width,
        resize=resize,
        interpolation=_KINDS.get(int(values.get("resample") or 2), "bilinear"),
        crop_pct=min(1.0, share),
        mean=mean,
        std=std,
        channels=channels,
    )


def _normalisation(values: Mapping[str, Any], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation in units of [0, 1], with unusual scaling folded in."""
    factor = float(values.get("rescale_factor", 1 / 255)) * 255 if values.get("do_rescale", True) else 255.0
    offset = 1.0 if values.get("rescale_offset") else 0.0
    mean, std = [0.0] * channels, [1.0] * channels
    if values.get("do_normalize", True):
        mean, std = (_numbers(values.get(key, 0.5), channels) for key in ("image_mean", "image_std"))
    if values.get("include_top"):  # EfficientNet divides by the deviation a second time
        std = [s * s for s in std]
    return (
        tuple((m + offset) / factor for m in mean),
        tuple(s / factor for s in std),
    )


def _numbers(value: Any, channels: int) -> list[float]:
    given = [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)]
    if len(given) == channels:
        return given
    return [sum(given) / len(given)] * channels


def meta_size(name: str, num_classes: int, config: Mapping[str, Any]) -> int:
    """Numbers in the network that a configuration describes, without allocating it."""
    with torch.device("meta"):
        net = build_transformers(name, num_classes, config)
    return sum(tensor.numel() for tensor in net.state_dict().values())
