"""A model directory in diffusers' layout: index, parts by name, card, hash. Nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError
from ltg_core.models.weights import first_line

ensure_torchvision()
import diffusers  # noqa: E402
import transformers  # noqa: E402

_BROKEN = (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError)


class Folder:
    """A directory with ``model_index.json``.

    Args:
        path: The directory.
        device: Where its networks will live.
        dtype: Precision of the networks.
        waiting: Whether text encoders stay, and run, in main memory.

    Raises:
        ModelError: No such directory, or its index cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        waiting: bool = False,
    ) -> None:
        self.path = Path(path)
        self.device, self.dtype, self.waiting = torch.device(device), dtype, waiting
        self.index = _read_json(self.path, "model_index.json")
        self.pipeline = str(self.index.get("_class_name", ""))

    @property
    def name(self) -> str:
        """For people; ``owner/name@commit`` for what a model hub's cache holds."""
        if self.path.parent.name == "snapshots":
            repository = self.path.parents[1].name.removeprefix("models--").replace("--", "/")
            return f"{repository}@{self.path.name[:8]}"
        return self.path.name

    def has(self, part: str) -> bool:
        """Whether the index names this part and the directory holds it."""
        return bool((self.index.get(part) or [None, None])[1]) and (self.path / part).is_dir()

    def need(self, *parts: str) -> None:
        """Check that parts are there.

        Raises:
            ModelError: One is not.
        """
        missing = [part for part in parts if not self.has(part)]
        if missing:
            raise ModelError(
                f"the generator {self.name!r} lacks the part {missing[0]!r}; a {self.pipeline} directory has it"
            )

    def class_of(self, part: str, allowed: Sequence[str]) -> Any:
        """The class that the index names for a part.

        Raises:
            ModelError: It is none of ``allowed``.
        """
        name = str((self.index.get(part) or [None, None])[1])
        if name not in allowed:
            raise ModelError(
                f"the part {part!r} of {self.name!r} is a {name}; supported: {', '.join(allowed)}"
            )
        return getattr(diffusers, name, None) or getattr(transformers, name)

    def part(self, part: str, *allowed: str, dtype: torch.dtype | None = None) -> Any:
        """A frozen network, from safetensors only.

        Raises:
            ModelError: It is not there, cannot be read, or is of another class.
        """
        self.need(part)
        return self.network(self.path / part, self.class_of(part, allowed), dtype=dtype)

    def network(self, path: Path, cls: Any, *, dtype: torch.dtype | None = None) -> Any:
        """A frozen network of a directory that the index need not name."""
        precision = "dtype" if issubclass(cls, transformers.PreTrainedModel) else "torch_dtype"
        options = {precision: dtype or self.dtype, "local_files_only": True, "use_safetensors": True}
        variant = _variant(path)
        if variant:
            options["variant"] = variant
        try:
            network = cls.from_pretrained(path, **options)
        except _BROKEN as error:
            raise ModelError(
                f"the part {path.name!r} of the generator {self.name!r} cannot be read: {first_line(error)}"
            ) from error
        if self.waiting and path.name.startswith("text_encoder"):
            network = network.to(torch.bfloat16 if self.dtype == torch.float16 else self.dtype)
        else:  # the layout makes convolutions quicker, on a CPU too
            network = network.to(self.device, memory_format=torch.channels_last)
        return network.eval().requires_grad_(False)

    def tokenizer(self, part: str, *allowed: str) -> Any:
        """A tokenizer.

        Raises:
            ModelError: It cannot be read, or is of another class.
        """
        self.need(part)
        try:
            return self.class_of(part, allowed).from_pretrained(self.path / part, local_files_only=True)
        except _BROKEN as error:
            raise ModelError(
                f"the part {part!r} of {self.name!r} cannot be read: {first_line(error)}"
            ) from error

    def scheduler(self) -> Any:
        """The model's own scheduler.

        Raises:
            ModelError: It cannot be read or is of no class of diffusers.
        """
        self.need("scheduler")
        name = str(self.index["scheduler"][1])
        cls = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
        if cls is None:
            raise ModelError(f"the scheduler of {self.name!r} is a {name}, which diffusers does not have")
        return cls.from_pretrained(self.path / "scheduler", local_files_only=True)

    def card(self) -> dict[str, Any]:
        """What ``card.json`` says; empty without one."""
        return _read_json(self.path, "card.json") if (self.path / "card.json").is_file() else {}

    def hash(self, *parts: str) -> str:
        """SHA-256 over the weights of parts, 16 hex digits."""
        digest = hashlib.sha256()
        for path in sorted(self.path.glob("*/*.safetensors")):
            if path.parent.name in parts:
                digest.update(path.parent.name.encode())
                with path.open("rb") as file:
                    while block := file.read(1 << 24):
                        digest.update(block)
        return digest.hexdigest()[:16]


def square(config: Any, default: int) -> int:
    """Side of the latent that a denoiser was trained on."""
    size = getattr(config, "sample_size", None) or default
    return int(size if isinstance(size, int) else size[0])


def per_prompt(
    encode: Callable[[list[str]], tuple[torch.Tensor, ...]], prompts: Sequence[str], size: int
) -> tuple[torch.Tensor, ...]:
    """Encode prompts; equal ones give equal rows whatever the batch: each once, in calls of exactly ``size`` texts."""
    unique = sorted(set(prompts))
    parts = []
    for start in range(0, len(unique), size):
        texts = unique[start : start + size]
        encoded = encode(texts + texts[:1] * (size - len(texts)))
        parts.append(tuple(value[: len(texts)].cpu() for value in encoded))
    rows = torch.tensor([unique.index(prompt) for prompt in prompts])
    return tuple(torch.cat(values)[rows] for values in zip(*parts, strict=True))


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise ModelError(f"{folder.name!r} has no {name}; give a directory in diffusers' layout")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{name} of {folder.name!r} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{name} of {folder.name!r} is a {type(content).__name__}; expected an object")
    return content


def _variant(path: Path) -> str | None:
    """The name between stem and suffix ("fp16"), where the directory has weights of such a variant only."""
    names = [file.name.split(".") for file in path.glob("*.safetensors")]
    if any(len(name) == 2 for name in names):
        return None
    variants = {name[1].split("-")[0] for name in names if len(name) == 3}
    return "fp16" if "fp16" in variants else min(variants, default=None)
