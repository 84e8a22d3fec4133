"""Memory: what a generator needs, told before the start, and what to do when it was not enough."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ltg_core.errors import ModelError
from ltg_core.generators.base import Generator
from ltg_core.models.weights import first_line

_T = TypeVar("_T")
_GIB = 2**30
_SMALL = 512 * 2**20  # bytes of weights below which no estimate is made


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes. Activations are those of one image at its peak, counted from the shapes of every operation.

    Attributes:
        weights: Of each part of the generator.
        denoise: One call of the denoiser without a gradient; both predictions where guidance scales make two.
        decode: The full decoder, without a gradient.
        climb: Decoder of the guidance path with its gradient.
        through: The same, and through every prediction of the denoiser.
        feedback: The same, and through its conditional prediction alone.
    """

    weights: dict[str, int]
    denoise: int
    decode: int
    climb: int
    through: int
    feedback: int

    def of(self, rows: int, *, climb: str = "denoiser-free") -> int:
        """All that is needed for calls of so many images."""
        with_gradient = {"none": 0, "full": self.through, "feedback": self.feedback}.get(climb, self.climb)
        return sum(self.weights.values()) + rows * max(self.denoise, self.decode, with_gradient)

    def text(self, rows: int, *, climb: str = "denoiser-free") -> str:
        """For people."""
        return (
            f"about {self.of(rows, climb=climb) / _GIB:.1f} GiB: weights {sum(self.weights.values()) / _GIB:.1f}, "
            f"and for each of {rows} images at a time {self.denoise / _GIB:.2f} to denoise, "
            f"{self.decode / _GIB:.2f} to decode, {self.climb / _GIB:.2f} to climb"
        )


def needs(generator: Generator, prompt: str = "") -> Needs:
    """What a generator needs; nothing is computed, its networks are imitated on the meta device.

    Args:
        generator: A loaded one.
        prompt: Something that it can be asked for; a class generator's first class if not given.
    """
    twin: Any = copy.copy(generator)
    twin.calls = copy.copy(generator.calls)
    network = getattr(generator, generator.denoiser_part)
    setattr(twin, generator.denoiser_part, _imitated(network))
    twin.codec = generator.codec.imitated(_imitated)
    twin.device = torch.device("meta")
    prompt = prompt or ("0" if generator.language == "classes" else "a photo")
    condition = generator.condition([prompt])
    asked = {name: value.to("meta") for name, value in condition.asked.items()}
    asked.pop("image", None)
    z = torch.empty(1, *generator.latent_shape, device="meta")

    def predict(start: torch.Tensor, predictions: int) -> torch.Tensor:
        inputs = {name: torch.cat([value] * predictions) for name, value in asked.items()}
        output: torch.Tensor = twin.predict(torch.cat([start] * predictions), 500.0, inputs)
        return output

    def climb(predictions: int) -> None:
        start = clean = z.clone().requires_grad_(True)
        if predictions:
            output = predict(start, predictions)
            clean = sum((output[row : row + 1] for row in range(predictions)), start)
        _go_back(twin.decode(clean, tiny=True).sum(), start)

    every = 1 if condition.other is None else 2
    with torch.no_grad():
        denoise = peak(lambda: predict(z, every))
        decode = peak(lambda: twin.decode(z))
    return Needs(
        weights=weights_of(generator.folder, generator.dtype),
        denoise=denoise,
        decode=decode,
        climb=peak(lambda: climb(0)),
        through=peak(lambda: climb(every)),
        feedback=peak(lambda: climb(1)),
    )


def fit_before(generator: Generator, climb: str, *, available: int | None = None) -> tuple[int, str]:
    """How many rows a call should have where the estimate says that the generator's own number would not fit.

    Args:
        generator: A loaded one; it stays as it is.
        climb: As in `Guidance`.
        available: Bytes; nine tenths of the device's memory if not given.

    Returns:
        The rows, and what is otherwise than asked, in words: nothing where everything fits, and for small models,
        which are not looked at.
    """
    own = rows = generator.chunk
    if available is None and sum(weights_of(generator.folder, generator.dtype).values()) < _SMALL:
        return own, ""
    found = needs(generator)
    room = available if available is not None else int(0.9 * _memory_of(generator.device))
    while rows > 1 and found.of(rows, climb=climb) > room:
        rows //= 2
    if found.of(rows, climb=climb) > room:
        text = found.text(1, climb=climb)
        return rows, f"{text}, more than the {room / _GIB:.1f} GiB that there are; it may not run"
    if rows == own:
        return own, ""
    return (
        rows,
        f"{own} images at a time would need {found.text(own, climb=climb)}; {rows} are made at a time",
    )


def _memory_of(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not told here: assume that it is enough
        return 2**60


def weights_of(folder: Path, dtype: torch.dtype) -> dict[str, int]:
    """Bytes of each part's weights once loaded, from the headers of its files; ``clip``, the judge, is one of them."""
    size = torch.finfo(dtype).bits // 8
    found: dict[str, int] = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        parameters = sum(_parameters(path).values())
        found[path.parent.name] = found.get(path.parent.name, 0) + parameters * size
    return found


def peak(work: Callable[[], Any]) -> int:
    """The most bytes of tensors that are made within ``work`` and alive at the same time."""
    with _Alive() as alive, _LeanAttention():
        work()
    return int(alive.most)


def _go_back(result: torch.Tensor, start: torch.Tensor) -> None:
    """The gradient by the engine itself: `torch.autograd.grad` would switch the attention's mode off meanwhile."""
    torch.autograd.Variable._execution_engine.run_backward(
        (result,), (torch.ones_like(result),), False, False, (start,), True, accumulate_grad=False
    )


def shrinking(generator: Generator, work: Callable[[], _T], say: Callable[[str], None]) -> _T:
    """Do ``work``; when memory runs out do it again from the beginning with half as many rows in every call.

    The generator keeps the smaller number: whoever begins a piece of work gives it back (`Generator.at_rows`).

    From the beginning, because the number of rows is part of what decides an image's last bits: all images of one
    piece of work are made with the same.

    Raises:
        ModelError: There is not enough for one row.
    """
    while True:
        try:
            return work()
        except (
            RuntimeError
        ) as error:  # torch.OutOfMemoryError is one, and allocators on CPUs raise it plainly
            if not _out_of_memory(error):
                raise
            reason = first_line(error)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if generator.chunk == 1:
            raise ModelError(
                f"the memory of {generator.device} is not enough for one image of {generator.name!r} ({reason}); use "
                "another device, a tiny decoder, offloading or half precision"
            )
        generator.chunk //= 2
        say(f"memory ran out; beginning again with {generator.chunk} images at a time")


def _out_of_memory(error: RuntimeError) -> bool:
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        phrase in words for phrase in ("out of memory", "not enough memory", "can't allocate memory")
    )


def _parameters(path: Path) -> dict[str, int]:
    """Numbers of a safetensors file by its type, without reading them."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100 * 2**20:
            raise ModelError(f"{path.name} is damaged: its header claims {length:,} bytes")
        header = json.loads(file.read(length))
    found: dict[str, int] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            count = 1
            for side in entry["shape"]:
                count *= side
            found[entry["dtype"]] = found.get(entry["dtype"], 0) + count
    return found


def _imitated(network: Any) -> Any:
    """The same network without any numbers."""
    config = network.config
    if getattr(config, "encoder_hid_dim_type", None) == "ip_image_proj":
        config = {**config, "encoder_hid_dim_type": None}  # an image adapter was put in later
    with torch.device("meta"):
        twin = type(network).from_config(config)
    twin = twin.to(network.dtype).eval().requires_grad_(False)
    if getattr(network, "is_gradient_checkpointing", False):
        twin.enable_gradient_checkpointing()
    return twin


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages from the operation that makes them until nothing refers to them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._sum = 0
        self._known: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor)
        if self._sum > self.most:
            self._forget()
            self.most = max(self.most, self._sum)
        return result

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        old = self._known.get(reference.cdata)
        if old is not None and not old[0].expired():  # type: ignore[no-untyped-call]
            return
        self._sum += storage.nbytes() - (0 if old is None else old[1])
        self._known[reference.cdata] = (reference, storage.nbytes())

    def _forget(self) -> None:
        dead = [
            key
            for key, (reference, _) in self._known.items()
            if reference.expired()  # type: ignore[no-untyped-call]
        ]
        for key in dead:
            self._sum -= self._known.pop(key)[1]


class _Attention(torch.autograd.Function):
    """What fused attention keeps: its inputs and its result, never the matrix of weights."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class _LeanAttention(TorchFunctionMode):
    """Attention as fused kernels do it; on the meta device it would be written out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            names = ("query", "key", "value")
            inputs = [args[i] if i < len(args) else kwargs[name] for i, name in enumerate(names)]
            return _Attention.apply(*inputs)  # type: ignore[no-untyped-call]
        return func(*args, **kwargs)
