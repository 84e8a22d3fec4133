"""Where networks run: the CPU, or a GPU that was tried before anything relies on it."""

from __future__ import annotations

import functools
import logging
import re
from typing import NamedTuple

from ltg_core.errors import InputError

log = logging.getLogger(__name__)

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
_NAME = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


class Device(NamedTuple):
    """What was chosen.

    Attributes:
        name: As torch calls it: "cpu", "cuda", "cuda:1".
        words: For people: the GPU's own name, or why there is none in use.
    """

    name: str
    words: str


def checked(name: str) -> str:
    """The name of a device, if it is one.

    Raises:
        InputError: It is none.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"there is no device {name!r}; choose auto, cpu, cuda, or cuda:N for the GPU N from 0"
        )
    return name


def needed(name: str) -> None:
    """Look whether torch sees the GPU that was asked for by name; memory of it is not taken.

    Raises:
        InputError: It does not, or the name is none.
    """
    if checked(name) in (AUTO, CPU):
        return
    import torch

    if not torch.cuda.is_available():
        why = "torch was built without CUDA" if torch.version.cuda is None else "torch finds no working GPU"
        raise InputError(
            f"the device {name!r} cannot be used: {why}; choose cpu, or auto to take what is there"
        )
    number, count = int(name.partition(":")[2] or 0), torch.cuda.device_count()
    if number >= count:
        raise InputError(f"there is no GPU {number}: torch sees {count}, counted from 0")


@functools.cache
def chosen(name: str = AUTO) -> Device:
    """The device that a name means here; a GPU is asked to compute something first, once a process.

    With "auto" a GPU that torch sees and that does not work is said in the log, and the CPU is taken.

    Raises:
        InputError: A GPU was asked for by name and is not there, or does not work.
    """
    needed(name)
    if name == CPU:
        return Device(CPU, "chosen with --device cpu")
    import torch

    if name == AUTO and not torch.cuda.is_available():
        return Device(CPU, "torch finds no GPU here")
    place = CUDA if name == AUTO else name
    try:
        torch.ones(2, 2, device=place).matmul(torch.ones(2, 2, device=place)).sum().item()
        return Device(place, str(torch.cuda.get_device_name(place)))
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
    if name != AUTO:
        raise InputError(f"the device {name!r} does not work: {reason}; choose cpu")
    log.warning("the GPU does not work, so the CPU is used: %s", reason)
    return Device(CPU, "the GPU does not work; the log says why")
