"""Reading weight files of several kinds without ever executing what is in them."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, final

import safetensors.torch
import torch

from ltg_core.errors import ModelError, UnsafeFile
from ltg_core.models.sandbox import extract_weights, program_kind, refuse_program
from ltg_core.registry import Registry

State = dict[str, torch.Tensor]

_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "student",
    "ema_state_dict", "state_dict_ema", "model_ema", "ema", "teacher",
)  # fmt: skip
_PREFIXES = (
    "module.",
    "model.",
    "backbone.",
    "net.",
    "network.",
    "classifier_net.",
    "encoder_q.",
    "_orig_mod.",
)
_BESIDE_NETWORK = re.compile(
    r"(n_averaged|criterion|loss|loss_fn|loss_function|metrics?|accuracy|class_weights?"
    r"|(train|val|valid|test)_[a-z_]*(metrics?|acc|accuracy|loss|f1|auroc)[a-z0-9_]*)(\.|$)"
)
"""What training loops (Lightning's modules, averaged models) keep among the weights and is none of the network."""
_ARCH_KEYS = ("arch", "model_name", "architecture")
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
    SUFFIXES = (".pt", ".pth", ".th", ".bin", ".ckpt", ".pt2")

    def read(self, path: Path) -> Mapping[Any, Any]:
        """See ``WeightReader.read``."""
        _refuse_programs_and_bombs(path)
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(_placeholders()):
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


class Weights(NamedTuple):
    """What a weight file holds.

    Attributes:
        state: Names and tensors without wrapper keys and common prefixes.
        notes: What was recognised and done, for people.
        arch: The architecture that the file itself names, "" where it names none.
    """

    state: State
    notes: list[str]
    arch: str


def read_state(path: str | Path) -> tuple[State, list[str]]:
    """The tensors of a weight file, unwrapped, and notes on what was done; see ``read_weights``."""
    found = read_weights(path)
    return found.state, found.notes


def read_weights(path: str | Path, key: str | None = None, *, programs: bool = False) -> Weights:
    """The tensors of a weight file, unwrapped.

    Args:
        path: A file of one of the kinds in ``LOADERS``.
        key: Which entry of a checkpoint to take, "model_ema" for one; None for the usual one.
        programs: Whether the operator allows weights to be taken out of torch.export and TorchScript programs, which
            happens in a locked process.

    Raises:
        ModelError: Missing, empty, damaged, of an unknown kind, without tensors, or without this entry.
        UnsafeFile: Reading it would run code.
    """
    path = Path(path)
    reader = _reader(path)
    if programs and (program := program_kind(path)):
        content: Mapping[Any, Any] = extract_weights(path)
        notes = [f"the weights were taken out of a {program}; the program itself is not used"]
    else:
        content = reader.read(path)
        notes = [f"{path.name} is {kind}"] if (kind := _kind(content)) else []
    arch = _named_arch(content)
    if key is not None and not isinstance(content.get(key), Mapping):
        known = ", ".join(repr(str(k)[:40]) for k, v in content.items() if isinstance(v, Mapping))
        raise ModelError(f"{path.name} has no entry {key!r} with weights; it has {known or 'none'}")
    wanted = [key] if key else []
    while wanted or not any(isinstance(v, torch.Tensor) for v in content.values()):
        inner = wanted or [k for k in _WRAPPERS if isinstance(content.get(k), Mapping)]
        if not inner:
            keys = ", ".join(repr(str(k)[:40]) for k in list(content)[:5])
            raise ModelError(f"{path.name} holds no tensors; its entries are {keys or 'none'}")
        wanted = []
        beside = (
            f" (beside it: {', '.join(str(k)[:40] for k in list(content)[:12] if k != inner[0])})"
            if len(content) > 1
            else ""
        )
        notes.append(f"the tensors are under {inner[0]!r}{beside}")
        content = content[inner[0]]
    state = {str(k): v.detach() for k, v in content.items() if isinstance(v, torch.Tensor)}
    if len(state) < len(content):
        left = [str(k) for k, v in content.items() if not isinstance(v, torch.Tensor)]
        notes.append(f"{len(left)} entries are not tensors and were left out: {', '.join(left[:5])}")
    state = _without_prefixes(state, notes)
    for name, tensor in state.items():
        _check_tensor(path, name, tensor)
    return Weights(state, notes, arch)


def _without_prefixes(state: State, notes: list[str]) -> State:
    """Names as the network has them."""
    beside = [name for name in state if _BESIDE_NETWORK.match(name)]
    if beside and len(beside) < len(state):
        notes.append(f"{len(beside)} tensors of the training were left out: {', '.join(beside[:5])}")
        state = {name: tensor for name, tensor in state.items() if name not in set(beside)}
    while state and (prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in state)), "")):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        notes.append(f"the prefix {prefix!r} was taken off all names")
    return state


def _kind(content: Mapping[Any, Any]) -> str:
    """The training loop that wrote a checkpoint, "" where it cannot be told."""
    keys = {str(key) for key in content}
    if any(key.startswith("pytorch-lightning") for key in keys):
        return "a Lightning checkpoint"
    if {"state_dict", "arch"} <= keys and keys & {"args", "metric", "version"}:
        return "a checkpoint of timm's training"
    if {"model", "optimizer", "lr_scheduler"} <= keys:
        return "a checkpoint of torchvision's reference training"
    return ""


def _named_arch(content: Mapping[Any, Any]) -> str:
    """The architecture in a checkpoint: timm's ``arch``, torchvision's ``args.model``."""
    named = next((content[key] for key in _ARCH_KEYS if isinstance(content.get(key), str)), None)
    args = content.get("args")
    if named is None and args is not None:
        fields = args if isinstance(args, Mapping) else args.fields if isinstance(args, _Inert) else {}
        named = next((fields[k] for k in ("model", *_ARCH_KEYS) if isinstance(fields.get(k), str)), None)
    return named if named is not None and re.fullmatch(r"[A-Za-z0-9_.\-:]{1,80}", named) else ""


class _Inert:
    """Stands for a harmless object of another package that a checkpoint holds beside its tensors; does nothing."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.fields: dict[str, Any] = {}

    def __new__(cls, *given: Any, **named: Any) -> _Inert:
        made = super().__new__(cls)
        made.fields = {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.fields = {str(k): v for k, v in state.items()} if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.fields[str(key)] = value


_PLACEHOLDERS = (
    "argparse.Namespace",  # timm's and torchvision's options
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),  # a best accuracy
    "numpy.dtype",
    *(f"numpy.dtypes.{name}DType" for name in ("Float64", "Float32", "Float16", "Int64", "Int32", "Bool")),
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    *(f"{name}.fabric.utilities.data.AttributeDict" for name in ("lightning",)),
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""What training scripts put into checkpoints and what the reader meets by a placeholder: none of it is imported."""


def _placeholders() -> list[Any]:
    return [(_Inert, name) for name in _PLACEHOLDERS]


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
    except (zipfile.BadZipFile, struct.error, *BROKEN) as error:
        raise ModelError(f"{path.name} is damaged; fetch it again ({first_line(error)})") from error
    if kind := program_kind(path):
        raise refuse_program(path, kind)
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
    except (zipfile.BadZipFile, struct.error, zlib.error, *BROKEN):
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
