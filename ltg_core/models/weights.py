"""Reading weight files of several kinds without ever executing what is in them."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import safetensors.torch
import torch

from ltg_core.errors import ModelError, UnsafeFile
from ltg_core.registry import Registry

State = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "ema_state_dict", "ema")
_PREFIXES = ("module.", "model.", "backbone.", "net.", "_orig_mod.")
_HARMLESS = ("torch._utils._rebuild", "collections.OrderedDict")
BROKEN = (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError, OSError)


class WeightReader(ABC):
    """Reads one kind of weight file without running anything that is in it.

    Attributes:
        NAME: Its name in the registry.
        SUFFIXES: The file names it is responsible for.
    """

    NAME: ClassVar[str]
    SUFFIXES: ClassVar[tuple[str, ...]]

    @abstractmethod
    def read(self, path: Path) -> Mapping[Any, Any]:
        """What the file holds, tensors on the CPU.

        Raises:
            ModelError: Damaged.
            UnsafeFile: Reading it would run code.
        """


@final
class SafetensorsReader(WeightReader):
    """safetensors: names, shapes and numbers, nothing else."""

    NAME = "safetensors"
    SUFFIXES = (".safetensors",)

    def read(self, path: Path) -> Mapping[Any, Any]:
        """See ``WeightReader.read``."""
        try:
            tensors: Mapping[Any, Any] = safetensors.torch.load_file(path, device="cpu")
        except (safetensors.SafetensorError, *BROKEN) as error:
            raise ModelError(
                f"{path.name} is not a readable safetensors file: {first_line(error)}"
            ) from error
        return tensors


@final
class StateDictReader(WeightReader):
    """PyTorch checkpoints, only by the unpickler that accepts nothing but tensors and plain values."""

    NAME = "state_dict"
    SUFFIXES = (".pt", ".pth", ".th", ".bin", ".ckpt")

    def read(self, path: Path) -> Mapping[Any, Any]:
        """See ``WeightReader.read``."""
        _refuse_programs_and_bombs(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about pickle protocols; a refusal follows where it matters
                content = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, struct.error, *BROKEN):
            foreign = _foreign_globals(path)
            if foreign:
                raise UnsafeFile(
                    f"{path.name} was refused unread: it asks for {', '.join(foreign[:3])}, which could "
                    "run code. Only tensors and plain values are accepted; where you trust its maker, save "
                    "the weights again with safetensors or torch.save(model.state_dict(), ...)"
                ) from None
            # torch's own words would advise to switch the protection off
            raise ModelError(f"{path.name} is damaged or is no PyTorch checkpoint; fetch it again") from None
        if not isinstance(content, Mapping):
            raise ModelError(
                f"{path.name} holds a {type(content).__name__}; expected named tensors (a state dict)"
            )
        return content


LOADERS: Registry[WeightReader] = Registry("weight file", (SafetensorsReader, StateDictReader))


def read_state(path: str | Path) -> tuple[State, list[str]]:
    """The tensors of a weight file, unwrapped.

    Args:
        path: A file of one of the kinds in ``LOADERS``.

    Returns:
        Names and tensors without wrapper keys and common prefixes, and notes on what was done.

    Raises:
        ModelError: Missing, empty, damaged, of an unknown kind, or without tensors.
        UnsafeFile: Reading it would run code.
    """
    path = Path(path)
    content = _reader(path).read(path)
    notes: list[str] = []
    while not any(isinstance(v, torch.Tensor) for v in content.values()):
        inner = [k for k in _WRAPPERS if isinstance(content.get(k), Mapping)]
        if not inner:
            keys = ", ".join(repr(str(k)[:40]) for k in list(content)[:5])
            raise ModelError(f"{path.name} holds no tensors; its entries are {keys or 'none'}")
        beside = (
            f" (beside it: {', '.join(str(k) for k in content if k != inner[0])})" if len(content) > 1 else ""
        )
        notes.append(f"the tensors are under {inner[0]!r}{beside}")
        content = content[inner[0]]
    state = {str(k): v.detach() for k, v in content.items() if isinstance(v, torch.Tensor)}
    if len(state) < len(content):
        left = [str(k) for k, v in content.items() if not isinstance(v, torch.Tensor)]
        notes.append(f"{len(left)} entries are not tensors and were left out: {', '.join(left[:5])}")
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        notes.append(f"the prefix {prefix!r} was taken off all names")
    for name, tensor in state.items():
        _check_tensor(path, name, tensor)
    return state, notes


def _reader(path: Path) -> WeightReader:
    if not path.is_file():
        raise ModelError(f"there is no file {path}")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ModelError(f"{path.name} is empty; fetch it again")
    if start.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path.name} is a git-lfs pointer, not the weights; run git lfs pull")
    for _, reader in LOADERS.items():
        if path.suffix.lower() in reader.SUFFIXES:
            return reader()
    known = ", ".join(suffix for _, reader in LOADERS.items() for suffix in reader.SUFFIXES)
    raise ModelError(f"{path.name} is no kind of weight file that can be read here; known: {known}")


def _check_tensor(path: Path, name: str, tensor: torch.Tensor) -> None:
    """Refuse what is no plain array, and views that claim more numbers than the file holds."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise ModelError(f"{name} in {path.name} is sparse, quantized or complex; expected plain numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UnsafeFile(f"{path.name} was refused: {name} claims more numbers than the file holds")


def _refuse_programs_and_bombs(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{path.name} is damaged; fetch it again ({first_line(error)})") from error
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise UnsafeFile(f"{path.name} was refused unread: it is a TorchScript program, not weights")
    if sum(entry.file_size for entry in entries) > 2 * path.stat().st_size + 2**20:
        raise UnsafeFile(f"{path.name} was refused unread: it unpacks to far more than its own size")


def _foreign_globals(path: Path) -> list[str]:
    """What a refused pickle wanted to import, found by reading its instructions without following them."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if n.endswith("data.pkl")]
                streams = [archive.read(n) for n in names]
        else:
            streams = [path.read_bytes()]
    except (zipfile.BadZipFile, OSError):
        return []
    found: list[str] = []
    for stream in streams:
        found += _globals_of(io.BytesIO(stream))
    return [n for n in dict.fromkeys(found) if not n.startswith(_HARMLESS) and not n.endswith("Storage")]


def _globals_of(stream: io.BytesIO) -> list[str]:
    found: list[str] = []
    strings: list[str] = []
    try:
        for _ in range(5):  # files of the old format are several pickles in a row
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    found.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    found.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    except (struct.error, *BROKEN):
        pass  # no pickle beyond this point; what was found before it counts
    return found


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
