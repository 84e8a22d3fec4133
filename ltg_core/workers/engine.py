"""Where units of work are done: in this process, or in others. Units and their results are all that travels."""

from __future__ import annotations

import abc
import dataclasses
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken

U = TypeVar("U")
R = TypeVar("R")

ENGINES = ("local", "ray")
_AHEAD = 3
_MOST_SHARDS = 10_000


@dataclasses.dataclass(frozen=True)
class There(Generic[U]):
    """How another process does the same as this one; nothing here is called where the work stays.

    Attributes:
        make: ``module:function``; called once in each process with the options, it returns the function of a unit.
        options: Gives the options: plain values, paths as text. The engine adds ``device``.
        pack: What of a unit travels; called in this process, so that only this one reads the database.
        key: A file name that tells the result of a unit from that of any other, on every machine; None where results
            cannot wait in files.
        results: The classes of which results are made, besides numbers, texts, arrays and tensors.
        number: Of a unit in the whole of the work, from 0, where some of it may be done already; None for its place
            among the units that are asked for.
    """

    make: str
    options: Callable[[], Mapping[str, Any]]
    pack: Callable[[U], Any]
    key: Callable[[U], str] | None = None
    results: tuple[type, ...] = ()
    number: Callable[[U], int] | None = None


class Engine(abc.ABC):
    """Does units of work, one result each, in the order of the units whoever is ready first."""

    @property
    def words(self) -> str:
        """Who does the work, for people; "" for this process alone."""
        return ""

    def run_id(self, kind: str, order: Mapping[str, Any]) -> str:
        """The id of the run that carries out an order, where several processes share it; "" for a new one."""
        return ""

    @abc.abstractmethod
    def map(
        self,
        units: Iterable[U],
        here: Callable[[U], R],
        there: There[U],
        cancel: CancelToken,
        soon: Callable[[U], None] | None = None,
    ) -> Iterator[tuple[U, R]]:
        """Do every unit.

        Args:
            units: What there is to do; read a bounded part at a time.
            here: Does one unit in this process.
            there: Does the same in another one.
            cancel: Ends the work.
            soon: Told of a unit some units before ``here`` does it, so that what it needs can be read meanwhile.

        Yields:
            Each unit with its result, as soon as all before it are there.

        Raises:
            Cancelled: On request.
            WorkerLost: A unit ended its process again and again.
            ShardMade: The rest belongs to others.
            LtgError: As ``here`` raises it.
        """

    def close(self) -> None:  # noqa: B027  (nothing to let go of is the usual case)
        """Let go of everything; the next ``map`` begins anew."""


class Local(Engine):
    """One unit after another in this process."""

    def map(
        self,
        units: Iterable[U],
        here: Callable[[U], R],
        there: There[U],
        cancel: CancelToken,
        soon: Callable[[U], None] | None = None,
    ) -> Iterator[tuple[U, R]]:
        """As ``Engine.map`` says; ``there`` is not used."""
        for unit in units if soon is None else _announced(units, soon):
            cancel.check()
            yield unit, here(unit)


LOCAL = Local()


def _announced(units: Iterable[U], soon: Callable[[U], None]) -> Iterator[U]:
    waiting: deque[U] = deque()
    for unit in units:
        soon(unit)
        waiting.append(unit)
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


@dataclasses.dataclass(frozen=True)
class Shard:
    """A part of some work: the units ``number``, ``number + of``, ``number + 2 of`` … of all, counted from 1."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= _MOST_SHARDS:
            raise InputError(
                f"there is no shard {self}; give I/N, such as 2/4, with I from 1 to N and N up to {_MOST_SHARDS:,}"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def read(cls, text: str) -> Shard:
        """Of ``I/N``.

        Raises:
            InputError: It is none.
        """
        if not (found := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())):
            raise InputError(f"{text!r} is no shard; give I/N, such as 2/4: the second of four")
        return cls(int(found[1]), int(found[2]))


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """The operator's choice, from a command line and never from a page.

    Attributes:
        name: One of ``ENGINES``.
        workers: Of Ray; 0 for one a GPU, or as many as the cores allow.
        address: ``host:port`` of a running Ray cluster; "" starts one on this machine alone.
        device: "auto" for GPUs where the cluster has any, else "cpu" or "cuda".
    """

    name: str = "local"
    workers: int = 0
    address: str = ""
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise InputError(f"there is no engine {self.name!r}; known: {', '.join(ENGINES)}")
        if self.workers < 0:
            raise InputError(f"{self.workers} workers; give 1 or more, or 0 for as many as fit")
        if self.name == "local" and (self.workers or self.address):
            raise InputError("workers and an address belong to Ray: choose the engine 'ray'")

    def open(self) -> Engine:
        """The engine; nothing is started before it has work.

        Raises:
            MissingExtra: Ray is not installed.
        """
        if self.name == "local":
            return LOCAL
        from ltg_core.workers.on_ray import Ray

        return Ray(self)
