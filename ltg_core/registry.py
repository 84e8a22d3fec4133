"""Explicit registries of plug-ins: a tuple of classes, no scanning, no import side effects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from ltg_core.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Plug-in classes by the name each declares in ``NAME``.

    Args:
        kind: What the entries are, in the singular, for messages.
        entries: The classes, in the order in which they are shown.

    Raises:
        ValueError: Two entries have the same name.
    """

    def __init__(self, kind: str, entries: tuple[type[T], ...]) -> None:
        self.kind = kind
        self._entries: dict[str, type[T]] = {}
        for entry in entries:
            name: str = entry.NAME  # type: ignore[attr-defined]  # every plug-in base declares it
            if name in self._entries:
                raise ValueError(f"two {kind}s are named {name!r}")
            self._entries[name] = entry

    def __getitem__(self, name: str) -> type[T]:
        try:
            return self._entries[name]
        except KeyError:
            raise InputError(f"there is no {self.kind} {name!r}; known: {', '.join(self._entries)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterator[tuple[str, type[T]]]:
        """Names and classes, in order."""
        yield from self._entries.items()
