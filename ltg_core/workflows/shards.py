"""``--shard I/N``: work in parts by processes that share nothing but files, and the last one that puts them together.

Units of the work are numbered; a shard makes every N-th and leaves their results in the folder ``shards`` of its
workspace, one file a unit. Nothing else is written until every unit is there: the process that sees all of them takes
them in, in order, as if it had made them itself. So whatever decides by order is the same as with one process, and two
shards at once have nothing to wait for.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ltg_core.data import runs
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, ShardMade
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.workers.engine import Engine, R, Shard, There, U

FOLDER = "shards"
_DIGEST = hashlib.sha256().digest_size
_NAMED = 20


class Sharded(Engine):
    """An engine that makes one shard and keeps the results for all.

    Args:
        ws: Where results wait, in its folder ``shards``.
        inner: Makes the units of this shard.
        shard: Which units are made here.
        on_progress: Told after every unit.
    """

    def __init__(
        self, ws: Workspace, inner: Engine, shard: Shard, on_progress: ProgressFn = no_progress
    ) -> None:
        self.ws, self.inner, self.shard, self.on_progress = ws, inner, shard, on_progress
        self._taken: list[Path] = []

    @property
    def words(self) -> str:
        """Such as "shard 2/4"."""
        return f"shard {self.shard}" + (f" ({self.inner.words})" if self.inner.words else "")

    def run_id(self, kind: str, order: Mapping[str, Any]) -> str:
        """The same for the same order, so that all shards speak of one run, on copies of a workspace too."""
        return f"{kind}-shards-{hashlib.sha256(runs.dump(order).encode()).hexdigest()[:12]}"

    def map(
        self,
        units: Iterable[U],
        here: Callable[[U], R],
        there: There[U],
        cancel: CancelToken,
        soon: Callable[[U], None] | None = None,
    ) -> Iterator[tuple[U, R]]:
        """Make this shard's units; where those of the others are there too, give them all.

        Work that comes after units were given is done whole: the rest of a command belongs to who finishes it.

        Raises:
            ShardMade: Units of other shards are left, or another process has put all together meanwhile.
            InputError: A result cannot be read (it is removed), or this work has no shards.
        """
        every = list(units)
        if not every or self._taken:
            yield from self.inner.map(every, here, there, cancel, soon)
            return
        if there.key is None:
            raise InputError("this work cannot be done in shards")
        parts = [
            _Part(
                unit,
                self._path(there.key(unit)),
                (there.number(unit) if there.number else k) % self.shard.of + 1,
            )
            for k, unit in enumerate(every)
        ]
        todo = [part for part in parts if part.shard == self.shard.number and not part.path.exists()]
        made = self.inner.map([part.unit for part in todo], here, there, cancel, soon)
        for done, (part, (_, result)) in enumerate(zip(todo, made, strict=True), start=1):
            self._write(part.path, result)
            self.on_progress(Progress(done, len(todo), f"units of {self.words}"))
        self._check(parts)
        for part in parts:
            cancel.check()
            result = self._read(part, there.results)
            self._taken.append(part.path)
            yield part.unit, result

    def clear(self) -> None:
        """Remove the results that were given: they are in the workspace by now."""
        for path in self._taken:
            path.unlink(missing_ok=True)
        self._taken.clear()
        with contextlib.suppress(OSError):  # others wait in it, or it was never made
            (self.ws.path / FOLDER).rmdir()

    def close(self) -> None:
        """Close the engine that makes the units; results stay."""
        self.inner.close()

    def _check(self, parts: list[_Part]) -> None:
        """Raise ``ShardMade`` unless all are there."""
        of = self.shard.of
        left = Counter(part.shard for part in parts if not part.path.exists())
        if not left:
            return
        own, there = sum(part.shard == self.shard.number for part in parts), len(parts) - left.total()
        missing = {f"{number}/{of}": count for number, count in sorted(left.items())}
        told = ", ".join(f"{name} ({count})" for name, count in list(missing.items())[:_NAMED])
        raise ShardMade(
            f"shard {self.shard} is made ({own} of {len(parts)} units); {there} are there. Left to other shards: "
            f"{told}{', …' if len(missing) > _NAMED else ''}; the last one finishes the work",
            {"shard": str(self.shard), "made": own, "there": there, "units": len(parts), "left": missing},
        )

    def _path(self, key: str) -> Path:
        return self.ws.path / FOLDER / f"{key}.pt"

    def _write(self, path: Path, result: Any) -> None:
        content = io.BytesIO()
        torch.save(result, content)
        self.ws.blobs.write(path, hashlib.sha256(content.getvalue()).digest() + content.getvalue())

    def _read(self, part: _Part, classes: tuple[type, ...]) -> Any:
        """A result; nothing but data of the given classes is ever made of a file."""
        try:
            content = part.path.read_bytes()
        except FileNotFoundError:
            said = "the units were all there and are gone: another process has put them together (see 'runs')"
            raise ShardMade(said, {"shard": str(self.shard), "left": {}}) from None
        digest, content = content[:_DIGEST], content[_DIGEST:]
        try:
            if hashlib.sha256(content).digest() != digest:
                raise ValueError("it is damaged")
            with torch.serialization.safe_globals([*_ARRAYS, *classes]):
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (ValueError, pickle.UnpicklingError) as error:
            part.path.unlink(missing_ok=True)
            raise InputError(
                f"'{part.path.name}' cannot be read and was removed ({str(error).splitlines()[0][:100]}); give shard "
                f"{part.shard}/{self.shard.of} again"
            ) from error


class _Part(NamedTuple):
    """A unit, where its result waits, and the shard that makes it."""

    unit: Any
    path: Path
    shard: int


def _rebuilding() -> list[Any]:
    """What an array in a file is rebuilt by."""
    makers = [np.zeros(1).__reduce__()[0], np.float32(0).__reduce__()[0], np.ndarray, np.dtype]
    kinds = [type(np.dtype(kind)) for kind in ("u1", "i4", "i8", "f2", "f4", "f8", "?")]
    return [*makers, *kinds, b"\x80".__reduce_ex__(2)[0]]


_ARRAYS = _rebuilding()
