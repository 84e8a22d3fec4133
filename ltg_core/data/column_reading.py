"""The columns of all samples, read from the database part by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltg_core.data.database import Database
from ltg_core.data.filters import number
from ltg_core.data.records import VERDICTS, Range

Array = np.ndarray[Any, Any]
_MODEL = "(SELECT key FROM models WHERE hash = ?)"
_TRUTH = {"true": True, "false": False}


@dataclasses.dataclass(frozen=True, eq=False)
class Coded:
    """A column of few values.

    Attributes:
        codes: (N,) int32, the place of each sample's value in ``values``; -1 where it has none.
        values: The different values.
    """

    codes: Array
    values: tuple[Any, ...]

    def of(self, wanted: Any) -> Array:
        """Which samples have a value that is wanted, (N,) bool: one value, a list of them, or a ``Range``."""
        options = list(wanted) if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
        found = np.zeros(len(self.values) + 1, dtype=bool)  # the last place is that of -1: no value
        for place, value in enumerate(self.values):
            found[place] = any(_same(value, option) for option in options)
        result: Array = found[self.codes]
        return result


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions of one classifier: (N,) class index, -1 where there is none, and confidence, NaN there."""

    pred: Array
    confidence: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """One signal: (N,) values, percentiles (NaN where there are none), and the order of places, highest first."""

    values: Array
    percentiles: Array
    order: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """What every sample has.

    Attributes:
        seq: (N,) int64, rising: the samples' numbers inside the database.
        ids: (N,) bytes.
        label: (N,) int32, -1 for none.
        split: Name of the split.
        origin: As in ``Sample``.
        believed: "believed" or "quarantined".
        created: (N,) seconds.
        added, changed: What the counters of new and of changed samples said.
        exact: Whether nothing changed while this was read, so that the counters tell these samples from all others.
    """

    seq: Array
    ids: Array
    label: Array
    split: Coded
    origin: Coded
    believed: Coded
    created: Array
    added: int = -1
    changed: int = -1
    exact: bool = False

    def __len__(self) -> int:
        return len(self.seq)

    def is_like(self, other: Base) -> bool:
        """Whether it is the same samples, for sure."""
        counted = (self.added, self.changed) == (other.added, other.changed)
        return self is other or (self.exact and other.exact and counted)

    def begins(self, other: Base) -> bool:
        """Whether the other one is these samples and newer ones, for sure."""
        return self.exact and other.exact and self.changed == other.changed and self.added <= other.added


class Since(NamedTuple):
    """What is known of the first samples.

    Attributes:
        value: Their column.
        seq: The number of the last of them.
    """

    value: Any
    seq: int


class ColumnReader:
    """Reads columns; whoever keeps them decides when.

    Args:
        database: Where they come from.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def base(self, old: Base | None) -> Base:
        last = int(old.seq[-1]) if old is not None and len(old) else -1
        what = "seq, id, coalesce(label, -1), split, origin, belief, created"
        question = f"SELECT {what} FROM samples WHERE seq > ? ORDER BY seq"
        known = old or _NOBODY
        seq, ids, label, created = [known.seq], [known.ids], [known.label], [known.created]
        coded = [_Coding(known.split), _Coding(known.origin), _Coding(known.believed)]
        for rows in self._database.parts(question, (last,)):
            columns = list(zip(*rows, strict=True))
            seq.append(np.array(columns[0], dtype=np.int64))
            ids.append(np.array("\n".join(columns[1]).encode().split(b"\n"), dtype="S20"))
            label.append(np.array(columns[2], dtype=np.int64))
            created.append(np.array(columns[6], dtype=np.float64))
            for coding, column in zip(coded, columns[3:6], strict=True):
                coding.add(column)
        split, origin, believed = (coding.done() for coding in coded)
        join = np.concatenate
        return Base(join(seq), join(ids), join(label), split, origin, believed, join(created))

    def meta(self, base: Base, column: str, since: Since | None) -> Coded:
        question = (
            "SELECT s.seq, m.value, m.type FROM samples s, json_each(s.meta) m WHERE s.seq > ? AND m.key = ?"
            " AND m.type NOT IN ('null', 'array', 'object')"
        )
        codes, coding = np.full(len(base), -1, dtype=np.int32), _Coding(_NOTHING)
        if since is not None:
            codes[: len(since.value.codes)] = since.value.codes
            coding = _Coding(Coded(_empty(np.int32), since.value.values))
        for rows in self._database.parts(question, (_after(since), column)):
            seq, given, kinds = zip(*rows, strict=True)
            if not _TRUTH.keys().isdisjoint(kinds):  # 1 and 0 where JSON says true and false
                given = tuple(_TRUTH.get(kind, one) for one, kind in zip(given, kinds, strict=True))
            places, known = located(base, np.array(seq, dtype=np.int64))
            if not known.all():
                given = tuple(one for one, there in zip(given, known.tolist(), strict=True) if there)
            codes[places] = coding.add(given)
        return Coded(codes, coding.done().values)

    def predictions(self, base: Base, model_hash: str | None, since: Since | None) -> Predicted:
        question = f"SELECT sample, pred, confidence FROM predictions WHERE model = {_MODEL} AND sample > ?"
        pred = np.full(len(base), -1, dtype=np.int32)
        confidence = np.full(len(base), np.nan)
        if since is not None:
            pred[: len(since.value.pred)] = since.value.pred
            confidence[: len(since.value.pred)] = since.value.confidence
        for rows in self._database.parts(question, (model_hash or "", _after(since))):
            places, known = located(base, _numbers(rows))
            pred[places] = np.array([row[1] for row in rows], dtype=np.int32)[known]
            confidence[places] = np.array([row[2] for row in rows], dtype=np.float64)[known]
        return Predicted(pred, confidence)

    def scores(self, base: Base, model_hash: str | None, signal: str, since: Since | None) -> Scored:
        question = (
            "SELECT sample, value, percentile FROM scores WHERE signal ="
            f" (SELECT key FROM signals WHERE model = {_MODEL} AND name = ?) AND sample > ?"
        )
        values, percentiles = np.full(len(base), np.nan), np.full(len(base), np.nan)
        if since is not None:
            values[: len(since.value.values)] = since.value.values
            percentiles[: len(since.value.values)] = since.value.percentiles
        for rows in self._database.parts(question, (model_hash or "", signal, _after(since))):
            places, known = located(base, _numbers(rows))
            values[places] = np.array([row[1] for row in rows], dtype=np.float64)[known]
            percentiles[places] = np.array([row[2] for row in rows], dtype=np.float64)[known]
        return Scored(values, percentiles, falling(values))

    def verdicts(self, base: Base) -> Coded:
        rows = self._database.rows("SELECT sample, verdict FROM verdicts WHERE verdict <> 'undecided'")
        codes = np.full(len(base), VERDICTS.index("undecided"), dtype=np.int32)
        places, known = located(base, _numbers(rows))
        codes[places] = np.array([VERDICTS.index(row[1]) for row in rows], dtype=np.int32)[known]
        return Coded(codes, VERDICTS)

    def tags(self, base: Base) -> tuple[Array, Coded]:
        rows = self._database.rows("SELECT sample, tag FROM tags")
        places, known = located(base, _numbers(rows))
        kept = [row[1] for row, there in zip(rows, known.tolist(), strict=True) if there]
        return places, _coded(kept, _NOTHING)


def falling(values: Array) -> Array:
    """Places by value, the highest first; equal ones and NaN, which come last, in their own order."""
    order: Array = np.argsort(-values, kind="stable")
    return order


def rising(values: Array) -> Array:
    """Places by value, the lowest first; equal ones and NaN, which come last, in their own order."""
    order: Array = np.argsort(values, kind="stable")
    return order


def _same(value: Any, option: Any) -> bool:
    """As the SQL of ``filters``: as numbers, or as text."""
    if isinstance(option, Range):
        return (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and option.low <= value < option.high
        )
    if value == option or _text(value) == _text(option):
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == number(option)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Coding:
    """A column of few values that comes in parts. True and 1 are two values, 1 and 1.0 are one."""

    def __init__(self, known: Coded) -> None:
        self._codes = [known.codes]
        self._place = {
            _Truth(value) if isinstance(value, bool) else value: i for i, value in enumerate(known.values)
        }

    def add(self, values: Sequence[Any]) -> Array:
        """One part; returns its codes."""
        if bool in set(map(type, values)):
            values = [_Truth(value) if isinstance(value, bool) else value for value in values]
        place = self._place
        for value in dict.fromkeys(values):
            if value is not None:
                place.setdefault(value, len(place))
        none = {**place, None: -1}
        codes = np.fromiter(map(none.__getitem__, values), dtype=np.int32, count=len(values))
        self._codes.append(codes)
        return codes

    def done(self) -> Coded:
        """All of it."""
        values = tuple(one.value if isinstance(one, _Truth) else one for one in self._place)
        return Coded(np.concatenate(self._codes), values)


class _Truth(NamedTuple):
    """True or False, which as such would be the same key as 1 or 0."""

    value: bool


def _coded(values: Sequence[Any], known: Coded) -> Coded:
    """The column with these values appended."""
    coding = _Coding(known)
    coding.add(values)
    return coding.done()


def _after(since: Since | None) -> int:
    """All samples with larger numbers are to be read."""
    return -1 if since is None else since.seq


def _empty(kind: Any) -> Array:
    return np.empty(0, dtype=kind)


def _numbers(rows: Sequence[Any]) -> Array:
    return np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))


def located(base: Base, seq: Array) -> tuple[Array, Array]:
    """Places of the samples with these numbers, and which of the numbers are known."""
    if not len(base):
        return _empty(np.int64), np.zeros(len(seq), dtype=bool)
    places = np.searchsorted(base.seq, seq).clip(max=len(base) - 1)
    known: Array = base.seq[places] == seq
    return places[known], known


_NOTHING = Coded(_empty(np.int32), ())
_NOBODY = Base(
    _empty(np.int64), _empty("S20"), _empty(np.int64), _NOTHING, _NOTHING, _NOTHING, _empty(np.float64)
)
