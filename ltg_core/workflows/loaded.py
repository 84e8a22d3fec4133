"""Models that a process keeps in memory: one copy of each, however many workspaces work with it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Loaded(Generic[T]):
    """The models that were used last.

    Args:
        size: How many different ones.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[Hashable, tuple[T, set[Hashable]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, what: Hashable, stamp: Hashable, load: Callable[[], T]) -> T:
        """One copy of a model.

        Args:
            what: Says which model it is, its hash among it: where two agree, one copy serves both.
            stamp: Of the file. One that was not seen yet is read, so that damage is found, but not kept twice.
            load: Reads it, and raises where the file does not hold what its name says.
        """
        with self._lock:
            found = self._kept.get(what)
            if found is not None and stamp in found[1]:
                self._kept.move_to_end(what)
                return found[0]
        made = load()
        with self._lock:
            model, stamps = self._kept.setdefault(what, (made, set()))
            stamps.add(stamp)
            self._kept.move_to_end(what)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
            return model
