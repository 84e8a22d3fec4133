"""Names of architectures: where each is built, which are refused, what was probably meant."""

from __future__ import annotations

import difflib
import functools
import re
from typing import Any

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import MissingExtra, ModelError
from ltg_core.models.own import OWN

LIBRARIES = ("timm", "torchvision", "transformers")
_NOT_BUILT = frozenset({"timm_wrapper", "shieldgemma2", "perceiver", "imagegpt"})
"""Of transformers: a wrapper that loads by any name, a chat model, and two that do not take plain images."""


def resolve(arch: str) -> tuple[str, str]:
    """Where a network is built ("own", "timm", "torchvision", "transformers") and its name there.

    Raises:
        ModelError: The name is unknown, or points at a file or a repository.
        MissingExtra: The library in front of the name is not installed.
    """
    prefix, _, name = str(arch).rpartition(":")
    if prefix not in ("", *LIBRARIES) or not re.fullmatch(r"[A-Za-z0-9_.\-]+", name):
        raise ModelError(
            f"the architecture {arch!r} is refused: only names known to this package, timm, torchvision and "
            "transformers are built ('resnet20_cifar', 'timm:resnet18', 'torchvision:resnet18', 'transformers:vit'), "
            "no files, no repositories"
        )
    if not prefix and name in {own.name for own in OWN}:
        return "own", name
    if prefix in ("", "timm") and _in_timm(name, required=prefix == "timm"):
        return "timm", name
    if prefix in ("", "torchvision") and name in torchvision_names(required=prefix == "torchvision"):
        return "torchvision", name
    if prefix in ("", "transformers") and name in transformers_names(required=prefix == "transformers"):
        return "transformers", name
    near = _near(prefix, name)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"own networks are {', '.join(o.name for o in OWN)}"
    )
    raise ModelError(f"there is no architecture {arch!r}; {hint}")


def canonical(arch: str) -> str:
    """The full name of an architecture: own names bare, others with their library in front.

    Raises:
        ModelError: As ``resolve``.
    """
    origin, name = resolve(arch)
    return name if origin == "own" else f"{origin}:{name}"


def timm_library() -> Any:
    """timm, or None where it is not installed."""
    ensure_torchvision()
    try:
        import timm
    except ModuleNotFoundError:
        return None
    return timm


def torchvision_names(*, required: bool) -> list[str]:
    """Classifiers of torchvision.

    Raises:
        MissingExtra: It is required and not installed.
    """
    if not ensure_torchvision():
        if required:
            raise MissingExtra("torchvision is not installed; install it with: pip install torchvision")
        return []
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def transformers_names(*, required: bool) -> list[str]:
    """Model types of transformers that classify images.

    Raises:
        MissingExtra: It is required and not installed.
    """
    names = _transformers_names()
    if names is None and required:
        raise MissingExtra("transformers is not installed; install it with: pip install transformers")
    return list(names or ())


@functools.lru_cache(maxsize=1)
def _transformers_names() -> tuple[str, ...] | None:
    ensure_torchvision()
    try:
        from transformers.models.auto import modeling_auto
    except ModuleNotFoundError:
        return None
    known = modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    return tuple(sorted(set(known) - _NOT_BUILT))


def _near(prefix: str, name: str) -> list[str]:
    known = {own.name: own.name for own in OWN} if not prefix else {}
    if prefix in ("", "transformers"):
        known |= {n: f"transformers:{n}" for n in transformers_names(required=False)}
    if prefix in ("", "torchvision"):
        known |= {n: f"torchvision:{n}" for n in torchvision_names(required=False)}
    if prefix in ("", "timm") and timm_library() is not None:
        known |= {n: f"timm:{n}" for n in timm_library().list_models()}
    return [known[n] for n in difflib.get_close_matches(name, known, n=3, cutoff=0.7)]


def _in_timm(name: str, *, required: bool) -> bool:
    library = timm_library()
    if library is None and required:
        raise MissingExtra("timm is not installed; install it with: pip install timm")
    return library is not None and bool(library.is_model(name.split(".")[0]))
