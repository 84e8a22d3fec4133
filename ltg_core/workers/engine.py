"""Where units of work are done: in this process, or in others. Units and their results are all that travels."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken

U = TypeVar("U")
R = TypeVar("R")

ENGINES = ("local", "ray")


@dataclasses.dataclass(frozen=True)
class There(Generic[U]):
    """How another process does the same as this one; nothing here is called where the work stays.

    Attributes:
        make: ``module:function``; called once in each process with the options, it returns the function of a unit.
        options: Gives the options: plain values, paths as text. The engine adds ``device``.
        pack: What of a unit travels; called in this process, so that only this one reads the database.
    """

    make: str
    options: Callable[[], Mapping[str, Any]]
    pack: Callable[[U], Any]


class Engine(abc.ABC):
    """Does units of work, one result each, in the order of the units whoever is ready first."""

    @property
    def words(self) -> str:
        """Who does the work, for people; "" for this process alone."""
        return ""

    @abc.abstractmethod
    def map(
        self, units: Iterable[U], here: Callable[[U], R], there: There[U], cancel: CancelToken
    ) -> Iterator[tuple[U, R]]:
        """Do every unit.

        Args:
            units: What there is to do; read a bounded part at a time.
            here: Does one unit in this process.
            there: Does the same in another one.
            cancel: Ends the work.

        Yields:
            Each unit with its result, as soon as all before it are there.

        Raises:
            Cancelled: On request.
            WorkerLost: A unit ended its process again and again.
            LtgError: As ``here`` raises it.
        """

    def close(self) -> None:  # noqa: B027  (nothing to let go of is the usual case)
        """Let go of everything; the next ``map`` begins anew."""


class Local(Engine):
    """One unit after another in this process."""

    def map(
        self, units: Iterable[U], here: Callable[[U], R], there: There[U], cancel: CancelToken
    ) -> Iterator[tuple[U, R]]:
        """As ``Engine.map`` says; ``there`` is not used."""
        for unit in units:
            cancel.check()
            yield unit, here(unit)


LOCAL = Local()


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
