"""Parameters of plug-ins: declared once as dataclass fields, used by the page, the command line and the records."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from ltg_core.errors import ParamError

_T = TypeVar("_T", bound="Params")


def param(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with bounds and a help text.

    Args:
        default: The value when nothing is given; its type is the parameter's type.
        help: One sentence for a tooltip and for ``--help``.
        low: Smallest allowed value, inclusive.
        high: Largest allowed value, inclusive.
        choices: Allowed strings, empty for any.
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices}
    )


@dataclasses.dataclass(frozen=True)
class Spec:
    """One parameter as a control or a flag shows it."""

    name: str
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]

    @property
    def kind(self) -> type:
        """bool, int, float or str."""
        return type(self.default)


@dataclasses.dataclass(frozen=True)
class Params:
    """Base of all plug-ins and settings: a frozen dataclass that validates itself."""

    def __post_init__(self) -> None:
        for spec in specs(type(self)):
            _check(type(self).__name__, spec, getattr(self, spec.name))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record; ``from_dict`` reads them back."""
        return {spec.name: getattr(self, spec.name) for spec in specs(type(self))}

    @classmethod
    def from_dict(cls: type[_T], values: dict[str, Any]) -> _T:
        """Build from plain values.

        Raises:
            ParamError: An unknown name, a wrong type or a value out of bounds.
        """
        known = {spec.name: spec for spec in specs(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ParamError(f"{cls.__name__} has no setting {unknown}; it has {sorted(known)}")
        return cls(**{name: _cast(cls.__name__, known[name], value) for name, value in values.items()})


def specs(cls: type[Params]) -> tuple[Spec, ...]:
    """The declared parameters of a plug-in class, in order."""
    return tuple(
        Spec(
            f.name,
            f.default,
            f.metadata["help"],
            f.metadata["low"],
            f.metadata["high"],
            f.metadata["choices"],
        )
        for f in dataclasses.fields(cls)
        if "help" in f.metadata
    )


def _cast(owner: str, spec: Spec, value: Any) -> Any:
    if spec.kind is bool and isinstance(value, str):
        if value.lower() in ("1", "true", "yes", "on"):
            return True
        if value.lower() in ("0", "false", "no", "off"):
            return False
        raise ParamError(f"{owner}.{spec.name} is {value!r}; give true or false")
    try:
        cast = spec.kind(value)
    except (TypeError, ValueError):
        raise ParamError(f"{owner}.{spec.name} is {value!r}; expected {spec.kind.__name__}") from None
    if spec.kind is int and float(value) != cast:
        raise ParamError(f"{owner}.{spec.name} is {value!r}; expected a whole number")
    return cast


def _check(owner: str, spec: Spec, value: Any) -> None:
    if spec.choices and value not in spec.choices:
        raise ParamError(f"{owner}.{spec.name} is {value!r}; choose one of {list(spec.choices)}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value != value:
            raise ParamError(f"{owner}.{spec.name} is not a number")
        if spec.low is not None and value < spec.low:
            raise ParamError(f"{owner}.{spec.name} is {value}; the smallest value is {spec.low}")
        if spec.high is not None and value > spec.high:
            raise ParamError(f"{owner}.{spec.name} is {value}; the largest value is {spec.high}")
