"""Flags: those that all commands share, and those that come from the declared parameters of plug-ins."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ltg_core.devices import chosen
from ltg_core.errors import InputError, LtgError
from ltg_core.jobs import ProgressFn, no_progress
from ltg_core.params import Params, Spec, specs
from ltg_core.workers.engine import ENGINES, LOCAL, EngineSettings, Shard

if TYPE_CHECKING:
    from ltg_core.data.workspace import Workspace

_P = TypeVar("_P", bound=Params)


class Formatter(argparse.HelpFormatter):
    """Help that names the default where there is one worth naming."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        if action.default in (None, False, "", argparse.SUPPRESS) or "%(default)" in text:
            return text
        return f"{text} (default: %(default)s)"


class LazyParser(argparse.ArgumentParser):
    """A parser that gets its flags when it is used: the imports behind them cost seconds."""

    def __init__(self, *, configure: Callable[[argparse.ArgumentParser], None], **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", Formatter)
        super().__init__(**options)
        self._configure: Callable[[argparse.ArgumentParser], None] | None = configure

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual, after the flags were added."""
        if self._configure is not None:
            configure, self._configure = self._configure, None
            configure(self)
        return super().parse_known_args(args, namespace)


def common(
    parser: argparse.ArgumentParser,
    *,
    workspace: bool = True,
    device: bool = False,
    engine: bool = False,
    whole: str = "",
) -> None:
    """Flags that look the same everywhere; ``whole`` says why a command with an engine cannot be done in shards."""
    if workspace:
        parser.add_argument(
            "--workspace",
            metavar="DIR",
            type=Path,
            default=Path("workspace"),
            help="folder that holds everything",
        )
    if device:
        parser.add_argument(
            "--device",
            default="auto",
            help="cpu, cuda, cuda:1 …; auto takes the accelerator where there is one",
        )
    if engine:
        add_engine(parser, whole)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_engine(parser: argparse.ArgumentParser, whole: str = "") -> None:
    """Who does the units of long work."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="local: this process; ray: processes of Ray, one model a GPU, with the same results "
        "(pip install -r requirements-ray.txt)",
    )
    group.add_argument(
        "--ray-workers",
        type=int,
        default=0,
        metavar="N",
        help="of Ray; without it one a GPU, or as many as there are cores for the threads of each (OMP_NUM_THREADS)",
    )
    group.add_argument(
        "--ray-address",
        default="",
        metavar="HOST:PORT",
        help="join a running Ray cluster; without it Ray runs on this machine and can be reached from it alone",
    )
    group.add_argument(
        "--shard",
        type=functools.partial(_shard, whole),
        metavar="I/N",
        help=f"not for this command: {whole}"
        if whole
        else "make only the I-th of N parts of the work, I from 1 to N; give the same command once for every part, "
        "in any order, on one workspace or on copies of it (docs/scale.md); the last one finishes the work",
    )


def _shard(whole: str, text: str) -> Shard:
    try:
        if whole:
            raise InputError(f"this command cannot be done in shards: {whole}")
        return Shard.read(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def engine_of(args: argparse.Namespace) -> EngineSettings:
    """The choice of ``add_engine``.

    Raises:
        InputError: Settings that do not fit each other.
    """
    device = getattr(args, "device", "auto")
    return EngineSettings(args.engine, args.ray_workers, args.ray_address, device)


def add_params(
    parser: argparse.ArgumentParser,
    cls: type[Params],
    base: Params | None = None,
    *,
    prefix: str = "",
    title: str = "",
    skip: Collection[str] = (),
) -> None:
    """One flag for each declared parameter of a plug-in; none has a value unless it is given.

    ``base`` holds the values that the help names as defaults.
    """
    group = parser.add_argument_group(title) if title else parser
    for spec in specs(cls):
        if spec.name not in skip:
            _add(group, spec, prefix, spec.default if base is None else getattr(base, spec.name))


def params_from(args: argparse.Namespace, cls: type[_P], base: _P | None = None, *, prefix: str = "") -> _P:
    """Settings from flags: those that were given, the others from ``base`` or their defaults.

    Raises:
        ParamError: A value out of bounds.
    """
    values = {} if base is None else base.to_dict()
    return cls.from_dict(values | given_params(args, cls, prefix=prefix))


def given_params(args: argparse.Namespace, cls: type[Params], *, prefix: str = "") -> dict[str, Any]:
    """Values of the flags that were given, by parameter."""
    found = {spec.name: getattr(args, _dest(spec, prefix), None) for spec in specs(cls)}
    return {name: value for name, value in found.items() if value is not None}


def device_of(args: argparse.Namespace) -> str:
    """The device that ``--device`` means.

    Raises:
        InputError: It is not there, or does not work.
    """
    return chosen(str(args.device)).name


@contextlib.contextmanager
def opened(
    args: argparse.Namespace, *, create: bool = False, on_progress: ProgressFn = no_progress
) -> Iterator[Workspace]:
    """The workspace of a command, with the engine that was chosen; ``on_progress`` is told of units of a shard.

    Raises:
        LtgError: There is none, and this command does not make one.
    """
    from ltg_core.data.workspace import Workspace

    if not create and not (args.workspace / "longtail.sqlite").is_file():
        raise LtgError(
            f"there is no workspace in '{args.workspace}': make one with 'demo load' or 'import', or say where it is "
            "with --workspace DIR"
        )
    engine = engine_of(args).open() if hasattr(args, "engine") else LOCAL
    with Workspace(args.workspace) as ws:
        ws.engine = engine
        try:
            if getattr(args, "shard", None) is None:
                yield ws
            else:
                from ltg_core.workflows.shards import Sharded

                ws.engine = shards = Sharded(ws, engine, args.shard, on_progress)
                yield ws
                shards.clear()  # everything is in the workspace
        finally:
            ws.engine.close()


def _add(group: Any, spec: Spec, prefix: str, default: Any) -> None:
    flag = "--" + f"{prefix}{spec.name}".replace("_", "-")
    bounds = _bounds(spec)
    options: dict[str, Any] = {
        "dest": _dest(spec, prefix),
        "default": argparse.SUPPRESS,
        "help": f"{spec.help.rstrip('.').replace('%', '%%')} ({bounds}default: {_shown(default)})",
    }
    if spec.kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
    elif spec.kind is tuple:
        group.add_argument(flag, type=_numbers, metavar="A,B,…", **options)
    else:
        metavar = None if spec.choices else {int: "N", float: "X"}.get(spec.kind, "TEXT")
        group.add_argument(flag, type=spec.kind, choices=spec.choices or None, metavar=metavar, **options)


def _dest(spec: Spec, prefix: str) -> str:
    return f"param_{prefix}{spec.name}".replace("-", "_")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0.5,0.5,0.5") from None


def _bounds(spec: Spec) -> str:
    if spec.kind not in (int, float) or (spec.low is None and spec.high is None):
        return ""
    low, high = (("" if edge is None else f"{edge:g}") for edge in (spec.low, spec.high))
    return f"{low} to {high}, " if low and high else f"from {low}, " if low else f"up to {high}, "


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" for part in value)
    return repr(value) if value == "" else str(value)
