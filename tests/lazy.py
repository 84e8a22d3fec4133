"""A second device on any machine: torch's lazy one computes and refuses tensors of another, as a GPU does."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

LAZY = "lazy"


class _Whole(TorchFunctionMode):
    """What torch 2.13 has no working code for there: ``split`` and ``chunk`` by slicing, distances on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.cdist and args[0].device == args[1].device and args[0].device.type == LAZY:
            return func(args[0].cpu(), args[1].cpu()).to(LAZY)
        if func not in _PARTS or not isinstance(args[0], torch.Tensor) or args[0].device.type != LAZY:
            return func(*args, **kwargs)
        whole = args[0]
        size = args[1] if len(args) > 1 else next(v for k, v in kwargs.items() if k != "dim")
        dim = args[2] if len(args) > 2 else kwargs.get("dim", 0)
        length = whole.shape[dim]
        if func in _CHUNKS:
            size = -(-length // size)
        sizes = [size] * -(-length // size) if isinstance(size, int) else list(size)
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        return tuple(whole.narrow(dim, at, min(n, length - at)) for at, n in zip(starts, sizes, strict=True))


_CHUNKS = (torch.chunk, torch.Tensor.chunk)
_PARTS = (*_CHUNKS, torch.split, torch.Tensor.split)


@functools.cache
def _begun() -> None:
    pytest.importorskip("torch._lazy.ts_backend").init()  # a second time is an error


@contextmanager
def second_device() -> Iterator[str]:
    """Its name; the test is skipped where this build of torch has none."""
    _begun()
    with _Whole():
        yield LAZY
