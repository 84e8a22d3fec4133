"""How a generator is loaded, beside its directory: adapters, decoder, precision, where its parts live."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ltg_core.errors import InputError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
OFFLOADS = ("none", "text", "layers")
BEST = -1
"""A chunk that is found by measuring."""


@dataclasses.dataclass(frozen=True)
class Weighted:
    """A weight file and how strongly it counts; written ``file.safetensors@0.7``."""

    path: Path
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Weighted:
        """From ``file`` or ``file@strength``.

        Raises:
            InputError: A strength that is no number.
        """
        path, at, strength = text.rpartition("@")
        if not at or "/" in strength or strength.endswith(".safetensors"):
            return cls(Path(text).expanduser())
        try:
            return cls(Path(path).expanduser(), float(strength))
        except ValueError:
            raise InputError(f"the strength in {text!r} is no number; write file.safetensors@0.7") from None


@dataclasses.dataclass(frozen=True)
class GeneratorOptions:
    """What is loaded onto a generator, and how it is run. Everything here is part of a run's record.

    Attributes:
        lora: LoRA weights (safetensors), each with its strength behind an @.
        inversion: Textual inversions (safetensors); the file's name is the word where the file names none.
        image_adapter: IP-Adapter: a folder with its weights and ``image_encoder``, its strength behind an @.
        tiny: Tiny decoder for the guidance path: an AutoencoderTiny folder, or plain weights of the TAESD family.
        dtype: Precision of the networks: float32, float16 or bfloat16; empty for the device's usual one.
        offload: What waits in main memory: nothing ("none"), the text encoders, which also run there ("text"), or
            the denoiser too, which comes layer by layer ("layers").
        slicing: Whether the autoencoder takes one image after another.
        chunk: Rows of every network call; 0 for the family's own, ``BEST`` for what is quickest here, measured when
            the generator is loaded. Part of what decides an image's last bits.
        compile: Whether denoiser and guidance decoder are compiled, which makes loading slow and generating quicker.
    """

    lora: tuple[str, ...] = ()
    inversion: tuple[str, ...] = ()
    image_adapter: str = ""
    tiny: str = ""
    dtype: str = ""
    offload: str = "none"
    slicing: bool = False
    chunk: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        if self.dtype and self.dtype not in DTYPES:
            raise InputError(f"there is no precision {self.dtype!r}; known: {', '.join(DTYPES)}")
        if self.offload not in OFFLOADS:
            raise InputError(f"offload is {self.offload!r}; choose one of {', '.join(OFFLOADS)}")
        if self.chunk != BEST and not 0 <= self.chunk <= 64:
            raise InputError(
                f"chunk is {self.chunk}; give 1 to 64, 0 for the family's own, or {BEST} for the quickest"
            )
        for text in (*self.lora, self.image_adapter):
            Weighted.parse(text)

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as plain values; ``from_dict`` reads it back."""
        fields = dataclasses.fields(self)
        given = {f.name: getattr(self, f.name) for f in fields if getattr(self, f.name) != f.default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> GeneratorOptions:
        """From plain values.

        Raises:
            InputError: An unknown name or value.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values or {}) - known)
        if unknown:
            raise InputError(f"a generator has no option {unknown}; it has {sorted(known)}")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in (values or {}).items()
        }
        return cls(**plain)

    def resolved(self) -> GeneratorOptions:
        """With whole paths, for a record."""
        return dataclasses.replace(
            self,
            lora=tuple(_whole(text) for text in self.lora),
            inversion=tuple(_whole(text) for text in self.inversion),
            image_adapter=_whole(self.image_adapter),
            tiny=_whole(self.tiny),
        )

    def placeless(self) -> dict[str, Any]:
        """As ``to_dict``, the same on every machine: files by their names, the tiny decoder by its content too.

        The other files are part of the generator's hash.

        Raises:
            OSError: The tiny decoder cannot be read.
        """
        plain = self.to_dict()
        for name in ("lora", "inversion"):
            if name in plain:
                plain[name] = [_named(text) for text in plain[name]]
        for name in ("image_adapter", "tiny"):
            if name in plain:
                plain[name] = _named(plain[name])
        if self.tiny:
            plain["tiny"] += f" {_content(Path(self.tiny).expanduser())}"
        return plain

    def torch_dtype(self, device: str) -> torch.dtype:
        """The precision on a device."""
        if self.dtype:
            return DTYPES[self.dtype]
        return torch.float32 if torch.device(device).type == "cpu" else torch.float16


def _named(text: str) -> str:
    given = Weighted.parse(text)
    return f"{given.path.name}@{given.strength:g}"


def _content(path: Path) -> str:
    """Of a file, or of all files of a folder with their names: 16 hex digits."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _whole(text: str) -> str:
    if not text:
        return ""
    given = Weighted.parse(text)
    return f"{given.path.resolve()}@{given.strength:g}" if given.strength != 1 else str(given.path.resolve())
