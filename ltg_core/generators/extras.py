"""What is loaded onto a generator: LoRA weights, textual inversions, image adapters. Safetensors only, hashed."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch

from ltg_core.errors import MissingExtra, ModelError, UnsupportedError
from ltg_core.generators.base import Generator
from ltg_core.generators.likeness import load_image_adapter
from ltg_core.generators.options import GeneratorOptions, Weighted
from ltg_core.models.weights import State, first_line, read_state

log = logging.getLogger(__name__)
_BROKEN = (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError)


def apply_options(generator: Generator, options: GeneratorOptions) -> None:
    """Load what the options name onto a generator, and make it part of the hash.

    Raises:
        ModelError: A file cannot be read or does not fit.
        UnsupportedError: The family has no place for it.
        MissingExtra: LoRA weights without peft.
    """
    digest = hashlib.sha256(generator.hash.encode())
    plain = generator.hash
    if options.inversion:
        generator.tokens = tuple(
            token
            for text in options.inversion
            for token in _add_inversion(generator, Path(text).expanduser(), digest)
        )
    if options.lora:
        _add_loras(generator, [Weighted.parse(text) for text in options.lora], digest)
    if options.image_adapter:
        given = Weighted.parse(options.image_adapter)
        generator.likeness = load_image_adapter(generator, given.path, given.strength)
        _note(digest, "image adapter", given.strength, generator.likeness.file)
    if options.inversion or options.lora or options.image_adapter:
        generator.hash = digest.hexdigest()[:16]
        log.info("%s with its adapters: %s instead of %s", generator.name, generator.hash, plain)
    _refreeze(generator)


def _pipeline(generator: Generator, ability: str, what: str) -> Any:
    words = getattr(generator, "words", None)
    if words is None or not hasattr(words, ability):
        raise UnsupportedError(f"{what} cannot be loaded onto {generator.name!r}: its family has none")
    return words


def _add_loras(generator: Generator, given: list[Weighted], digest: Any) -> None:
    """Put them in and add them into the weights: they cost nothing afterwards."""
    pipeline = _pipeline(generator, "load_lora_weights", "LoRA weights")
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise MissingExtra("LoRA weights need peft: pip install peft") from error
    names = [f"lora{number}" for number in range(len(given))]
    for name, one in zip(names, given, strict=True):
        try:
            pipeline.load_lora_weights(_safetensors(one.path), adapter_name=name)
        except _BROKEN as error:
            raise ModelError(
                f"the LoRA weights {one.path.name!r} do not fit {generator.name!r}: {first_line(error)}"
            ) from error
        if not any(name in adapters for adapters in pipeline.get_list_adapters().values()):
            raise ModelError(
                f"the LoRA weights {one.path.name!r} name no layer of {generator.name!r}; they are of another family"
            )
        _note(digest, "lora", one.strength, one.path)
    pipeline.set_adapters(names, [one.strength for one in given])
    pipeline.fuse_lora(components=sorted(pipeline.get_list_adapters()), adapter_names=names)
    pipeline.unload_lora_weights()


def _add_inversion(generator: Generator, path: Path, digest: Any) -> list[str]:
    """Learned words: one a file, for each text encoder that the file has vectors for."""
    pipeline = _pipeline(generator, "load_textual_inversion", "textual inversions")
    state = _safetensors(path)
    encoders = {
        "clip_l": ("tokenizer", "text_encoder"),
        "clip_g": ("tokenizer_2", "text_encoder_2"),
    }
    halves = {name: state[name] for name in encoders if name in state}
    token = f"<{path.stem}>"
    try:
        if halves:
            for name, vectors in halves.items():
                tokenizer, encoder = (getattr(pipeline, part) for part in encoders[name])
                pipeline.load_textual_inversion(
                    {token: vectors}, token=token, tokenizer=tokenizer, text_encoder=encoder
                )
        else:
            names = [name for name in state if name != "emb_params"]
            token = names[0] if names else token
            pipeline.load_textual_inversion({token: next(iter(state.values()))}, token=token)
    except _BROKEN as error:
        raise ModelError(
            f"the textual inversion {path.name!r} does not fit {generator.name!r}: {first_line(error)}"
        ) from error
    _note(digest, "inversion", 1.0, path)
    return [token]


def _safetensors(path: Path) -> State:
    if path.suffix.lower() != ".safetensors":
        raise ModelError(f"{path.name} is no safetensors file; only those are read here")
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    return read_state(path)[0]


def _note(digest: Any, kind: str, strength: float, path: Path) -> None:
    digest.update(f"{kind}@{strength:g}".encode())
    digest.update(path.read_bytes())


def _refreeze(generator: Generator) -> None:
    """Nothing that was put in is trained either."""
    words = getattr(generator, "words", None)
    for part in [] if words is None else words.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
