"""Columns of all samples as arrays in memory: counting and ranking a million samples without a query for each.

A column is read at its first use and again when the database says that it has changed (counters that triggers keep, so
no writer can forget them). Of new samples alone is read what came with them. About 60 bytes a sample and 4 for each
metadata column in use. Of a large workspace ``shelve`` keeps the columns in files for the next start.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltg_core.data.database import Database
from ltg_core.data.filters import number, where
from ltg_core.data.records import BELIEFS, REAL, VERDICTS, Filter, Range
from ltg_core.data.shelf import Shelf
from ltg_core.errors import InputError

Array = np.ndarray[Any, Any]
_KEPT = 64  # columns at most
_WARM = 16  # metadata columns that are read before somebody asks
_LARGE = 100_000  # samples from which on columns are kept in files
# Fields of a filter that are answered here, as they are when they say nothing.
_HERE: dict[str, Any] = {
    **dict.fromkeys(
        ("split", "label", "origin", "prediction", "correct", "verdict", "tag", "believed", "model_hash")
    ),
    "text": "",
    "meta": {},
}
# Whose changes, besides those of the samples, change what a search finds.
_TEXT = ("verdicts", "tags")
_MODEL = "(SELECT key FROM models WHERE hash = ?)"
_NEWER = {  # rows of samples after one, of all models and signals, as the counters count them
    "predictions": "SELECT coalesce(sum((SELECT count(*) FROM predictions WHERE model = m.key AND sample > ?)), 0)"
    " FROM models m",
    "scores": "SELECT coalesce(sum((SELECT count(*) FROM scores WHERE signal = s.key AND sample > ?)), 0)"
    " FROM signals s",
}
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


@dataclasses.dataclass(frozen=True, eq=False)
class _Kept:
    """A column that was read.

    Attributes:
        value: It.
        base: The samples that it is of.
        counters: What its counters said, by name.
        exact: Whether nothing changed while it was read.
        shelved: Whether a file has it.
    """

    value: Any
    base: Base
    counters: dict[str, int]
    exact: bool = False
    shelved: bool = False


class _Since(NamedTuple):
    """What is known of the first samples.

    Attributes:
        value: Their column.
        seq: The number of the last of them.
    """

    value: Any
    seq: int


class Columns:
    """The columns of one workspace; safe to use from several threads.

    Args:
        database: Where they come from.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.RLock()
        self._kept: dict[Any, _Kept] = {}
        self._shelf = Shelf(database)

    # --- columns ----------------------------------------------------------------------------------

    def base(self) -> Base:
        """Samples and their plain columns, in the order in which they came."""
        with self._lock:
            changes = self._changes()
            kept = self._kept.get("base") or self._shelved("base", None)
            old: Base | None = kept.value if kept is not None else None
            if (
                kept is None
                or old is None
                or (old.added, old.changed) != (changes["added"], changes["samples"])
            ):
                known = old if old is not None and old.changed == changes["samples"] else None
                found = dataclasses.replace(
                    self._read_base(known),
                    added=changes["added"],
                    changed=changes["samples"],
                    exact=self._changes() == changes,
                )
                kept = _Kept(found, found, {}, found.exact)
            self._kept["base"] = kept
            base: Base = kept.value
            return base

    def warm(self, model_hash: str, signals: Sequence[str]) -> None:
        """Read what the first views need, and keep it for the next start."""
        base = self.base()
        self.predictions(model_hash, base)
        for signal in signals:
            self.scores(model_hash, signal, base)
        for row in self._database.rows("SELECT name FROM meta_columns ORDER BY name LIMIT ?", (_WARM,)):
            self.meta(row[0], base)
        self.shelve()

    def shelve(self) -> None:
        """Keep what was read of a large workspace in files, where they differ from it."""
        with self._lock:
            kept = list(self._kept.items())
        for key, one in kept:
            if one.exact and not one.shelved and len(one.base) >= _LARGE and _lasts(key):
                about = {"added": one.base.added, "changed": one.base.changed, "counters": one.counters}
                self._shelf.write(key, about, one.value)
                with self._lock:
                    if self._kept.get(key) is one:
                        self._kept[key] = dataclasses.replace(one, shelved=True)

    def _shelved(self, key: Any, base: Base | None) -> _Kept | None:
        """What a file has of a column, of samples that ``base`` begins with; None where there is none."""
        found = self._shelf.read(key) if _lasts(key) else None
        if found is None:
            return None
        about, fields = found
        try:
            if base is None:
                value = _built(Base, fields)
                return _Kept(value, value, {}, exact=True, shelved=True)
            value = _built(_KINDS[key[0]], fields)
        except (KeyError, TypeError):  # of another version
            return None
        size = len(value.codes if isinstance(value, Coded) else next(iter(fields.values())))
        first = dataclasses.replace(base, seq=base.seq[:size], added=about["added"], changed=about["changed"])
        if not first.begins(base):
            return None
        return _Kept(value, first, about["counters"], exact=True, shelved=True)

    def meta(self, column: str, base: Base | None = None) -> Coded:
        """A metadata column: text, numbers, true and false; lists have no value here."""
        found: Coded = self._column(("meta", column), (), base, self._read_meta, column)
        return found

    def predictions(self, model_hash: str | None, base: Base | None = None) -> Predicted:
        """What a classifier says; nothing where it has said nothing yet."""
        key, what = ("said", model_hash), ("predictions",)
        found: Predicted = self._column(key, what, base, self._read_predictions, model_hash)
        return found

    def scores(self, model_hash: str | None, signal: str, base: Base | None = None) -> Scored:
        """A signal of a classifier."""
        key, what = ("scores", model_hash, signal), ("scores",)
        found: Scored = self._column(key, what, base, self._read_scores, model_hash, signal)
        return found

    def verdicts(self, base: Base | None = None) -> Coded:
        """Verdicts; whoever has none is undecided."""
        found: Coded = self._column("verdicts", ("verdicts",), base, self._read_verdicts)
        return found

    def tags(self, base: Base | None = None) -> tuple[Array, Coded]:
        """Places of samples, one for each tag of each, and the tags beside them."""
        found: tuple[Array, Coded] = self._column("tags", ("tags",), base, self._read_tags)
        return found

    # --- questions --------------------------------------------------------------------------------

    def mask(self, chosen: Filter, base: Base | None = None) -> Array:
        """Which samples pass, (N,) bool, in the order of ``base``; the one that was read before, or as it is now.

        Raises:
            InputError: An unknown verdict, or a condition on predictions without a classifier.
        """
        base = self.base() if base is None else base
        keep = np.ones(len(base), dtype=bool)
        if chosen.split is not None:
            keep &= base.split.of(chosen.split)
        if chosen.label is not None:
            keep &= base.label == chosen.label
        if chosen.origin == "generated":
            keep &= ~base.origin.of(REAL)
        elif chosen.origin is not None:
            keep &= base.origin.of(chosen.origin)
        if chosen.believed is not None:
            keep &= base.believed.of(BELIEFS[0] if chosen.believed else BELIEFS[1])
        for column, wanted in chosen.meta.items():
            keep &= self.meta(column, base).of(wanted)
        return self._asked(chosen, base, keep)

    def _asked(self, chosen: Filter, base: Base, keep: Array) -> Array:
        if chosen.verdict is not None:
            if chosen.verdict not in VERDICTS:
                raise InputError(f"there is no verdict {chosen.verdict!r}; known: {', '.join(VERDICTS)}")
            keep &= self.verdicts(base).of(chosen.verdict)
        if chosen.prediction is not None or chosen.correct is not None:
            if chosen.model_hash is None:
                raise InputError("a filter on predictions needs a classifier: give model_hash")
            pred = self.predictions(chosen.model_hash, base).pred
            if chosen.prediction is not None:
                keep &= pred == chosen.prediction
            if chosen.correct is not None:
                keep &= (pred >= 0) & (base.label >= 0) & ((pred == base.label) == chosen.correct)
        if chosen.tag is not None:
            places, tags = self.tags(base)
            keep &= _marked(len(base), places[tags.of(chosen.tag)])
        if chosen.text:
            keep &= _marked(len(base), self._text(chosen.text, base))
        rest = dataclasses.replace(chosen, **_HERE)  # ids, and whatever else a filter may know
        if rest != Filter():
            keep &= _marked(len(base), self._queried(rest, base))
        return keep

    def _queried(self, chosen: Filter, base: Base) -> Array:
        """Places of the samples that the database finds."""
        condition, values = where(chosen)
        # One text of numbers: a million rows as objects of Python would take seconds.
        found = self._database.row(f"SELECT group_concat(s.seq) FROM samples s {condition}", values)
        text = found[0] if found is not None else None
        return _places(base, np.fromstring(text, dtype=np.int64, sep=",") if text else _empty(np.int64))

    def _text(self, text: str, base: Base) -> Array:
        """Places of the samples whose words match; the index of words is SQLite's."""
        found: Array = self._column(("text", text), _TEXT, base, self._read_text, text)
        return found

    def _read_text(self, base: Base, text: str) -> Array:
        return self._queried(Filter(text=text), base)

    @property
    def in_use(self) -> bool:
        """Whether the samples have been read, so that another question costs little."""
        return "base" in self._kept

    def order(self, key: str, turned: bool, model_hash: str | None = None, base: Base | None = None) -> Array:
        """Places of all samples in the order that ``Workspace.query`` gives to a key, turned round or not.

        Args:
            key: "", "id", "created", "confidence", or the name of a signal.
            turned: Whether the key had a "-".
            model_hash: Of the classifier, where the key is about what it says.
            base: The samples.
        """
        base = self.base() if base is None else base
        if not key:
            places = np.arange(len(base))
            return places[::-1] if turned else places
        what = {"id": (), "created": (), "confidence": ("predictions",)}.get(key, ("scores",))
        found: Array = self._column(
            ("order", model_hash, key, turned), what, base, self._order, *(model_hash, key, turned)
        )
        return found

    def _order(self, base: Base, model_hash: str | None, key: str, turned: bool) -> Array:
        if key == "id":
            return self._by_id(base)[::-1] if turned else self._by_id(base)
        if key == "created":  # the newest first, and of samples that came together the last one
            return rising(base.created) if turned else rising(base.created)[::-1]
        if key == "confidence":
            values = self.predictions(model_hash, base).confidence
            return rising(values) if turned else falling(values)
        found = self.scores(model_hash, key, base)
        return rising(found.values) if turned else found.order

    def page(self, chosen: Filter, key: str, turned: bool, limit: int, offset: int) -> list[str]:
        """Ids of one page of the samples that pass, in the order of ``order``."""
        base = self.base()
        keep, order = self.mask(chosen, base), self.order(key, turned, chosen.model_hash, base)
        places = order[keep[order]]
        return [one.decode() for one in base.ids[places[offset : offset + limit]].tolist()]

    def _by_id(self, base: Base) -> Array:
        order: Array = self._column("by id", (), base, lambda one: np.argsort(one.ids))
        return order

    def ids(self, places: Array) -> list[str]:
        """Ids of samples by their places."""
        return [one.decode() for one in self.base().ids[places].tolist()]

    def places_of(self, ids: Array, base: Base, key: str = "") -> Array:
        """Place of each id (bytes), -1 where it is not known; kept under ``key``, which names these ids."""
        if key:
            kept: Array = self._column(("places", key), (), base, lambda one: self._places(ids, one))
            return kept
        return self._places(ids, base)

    def _places(self, ids: Array, base: Base) -> Array:
        order = self._by_id(base)
        if not len(order):
            return np.full(len(ids), -1, dtype=np.int64)
        at = np.searchsorted(base.ids, ids, sorter=order).clip(max=len(order) - 1)
        found: Array = np.where(base.ids[order[at]] == ids, order[at], -1)
        return found

    # --- reading ----------------------------------------------------------------------------------

    def _column(
        self, key: Any, what: Sequence[str], base: Base | None, read: Callable[..., Any], *given: Any
    ) -> Any:
        """A column that depends on the samples, and on ``what`` else the counters count."""
        with self._lock:
            base = self.base() if base is None else base
            changes = self._changes()
            counters = {name: changes[name] for name in what}
            kept = self._kept.get(key)
            if kept is None and base.exact:
                kept = self._shelved(key, base)
            if kept is None or kept.counters != counters or not kept.base.is_like(base):
                if len(self._kept) > _KEPT:  # of many signals and columns those in use are read again
                    self._kept = {"base": self._kept["base"]}
                if _lasts(key):
                    given = (*given, self._since(kept, base, counters))
                value = read(base, *given)
                now = (base.added, base.changed) == (changes["added"], changes["samples"])
                exact = base.exact and now and self._changes() == changes
                kept = _Kept(value, base, counters, exact)
            self._kept[key] = kept
            return kept.value

    def _since(self, kept: _Kept | None, base: Base, counters: dict[str, int]) -> _Since | None:
        """What is known of a column whose first samples are as they were, None where that is not sure.

        A table whose counter has grown by as much as it has rows of newer samples has changed for these alone.
        """
        if kept is None or not kept.exact or not kept.base.begins(base) or not len(kept.base):
            return None
        last = int(kept.base.seq[-1])
        for name, count in counters.items():
            row = self._database.row(_NEWER[name], (last,))
            if row is None or row[0] != count - kept.counters[name] or self._changes()[name] != count:
                return None
        return _Since(kept.value, last)

    def _changes(self) -> dict[str, int]:
        return {row[0]: row[1] for row in self._database.rows("SELECT what, n FROM changes")}

    def _read_base(self, old: Base | None) -> Base:
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

    def _read_meta(self, base: Base, column: str, since: _Since | None) -> Coded:
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
            places, known = _found(base, np.array(seq, dtype=np.int64))
            if not known.all():
                given = tuple(one for one, there in zip(given, known.tolist(), strict=True) if there)
            codes[places] = coding.add(given)
        return Coded(codes, coding.done().values)

    def _read_predictions(self, base: Base, model_hash: str | None, since: _Since | None) -> Predicted:
        question = f"SELECT sample, pred, confidence FROM predictions WHERE model = {_MODEL} AND sample > ?"
        pred = np.full(len(base), -1, dtype=np.int32)
        confidence = np.full(len(base), np.nan)
        if since is not None:
            pred[: len(since.value.pred)] = since.value.pred
            confidence[: len(since.value.pred)] = since.value.confidence
        for rows in self._database.parts(question, (model_hash or "", _after(since))):
            places, known = _found(base, _numbers(rows))
            pred[places] = np.array([row[1] for row in rows], dtype=np.int32)[known]
            confidence[places] = np.array([row[2] for row in rows], dtype=np.float64)[known]
        return Predicted(pred, confidence)

    def _read_scores(self, base: Base, model_hash: str | None, signal: str, since: _Since | None) -> Scored:
        question = (
            "SELECT sample, value, percentile FROM scores WHERE signal ="
            f" (SELECT key FROM signals WHERE model = {_MODEL} AND name = ?) AND sample > ?"
        )
        values, percentiles = np.full(len(base), np.nan), np.full(len(base), np.nan)
        if since is not None:
            values[: len(since.value.values)] = since.value.values
            percentiles[: len(since.value.values)] = since.value.percentiles
        for rows in self._database.parts(question, (model_hash or "", signal, _after(since))):
            places, known = _found(base, _numbers(rows))
            values[places] = np.array([row[1] for row in rows], dtype=np.float64)[known]
            percentiles[places] = np.array([row[2] for row in rows], dtype=np.float64)[known]
        return Scored(values, percentiles, falling(values))

    def _read_verdicts(self, base: Base) -> Coded:
        rows = self._database.rows("SELECT sample, verdict FROM verdicts WHERE verdict <> 'undecided'")
        codes = np.full(len(base), VERDICTS.index("undecided"), dtype=np.int32)
        places, known = _found(base, _numbers(rows))
        codes[places] = np.array([VERDICTS.index(row[1]) for row in rows], dtype=np.int32)[known]
        return Coded(codes, VERDICTS)

    def _read_tags(self, base: Base) -> tuple[Array, Coded]:
        rows = self._database.rows("SELECT sample, tag FROM tags")
        places, known = _found(base, _numbers(rows))
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


def _lasts(key: Any) -> bool:
    """Whether the first samples keep what they have of a column, and it is worth a file."""
    return key == "base" or key[0] in _KINDS


def _after(since: _Since | None) -> int:
    """All samples with larger numbers are to be read."""
    return -1 if since is None else since.seq


def _built(kind: Any, fields: dict[str, Any]) -> Any:
    """A column of what the shelf gave.

    Raises:
        KeyError, TypeError: It gave something else.
    """
    if kind is Coded:
        return Coded(fields["codes"], tuple(fields["values"]))
    plain = {name: _built(Coded, one) if isinstance(one, dict) else one for name, one in fields.items()}
    return kind(**plain)


def _empty(kind: Any) -> Array:
    return np.empty(0, dtype=kind)


def _numbers(rows: Sequence[Any]) -> Array:
    return np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))


def _found(base: Base, seq: Array) -> tuple[Array, Array]:
    """Places of the samples with these numbers, and which of the numbers are known."""
    if not len(base):
        return _empty(np.int64), np.zeros(len(seq), dtype=bool)
    places = np.searchsorted(base.seq, seq).clip(max=len(base) - 1)
    known: Array = base.seq[places] == seq
    return places[known], known


def _places(base: Base, seq: Array) -> Array:
    return _found(base, seq)[0]


def _marked(size: int, places: Array) -> Array:
    found = np.zeros(size, dtype=bool)
    found[places] = True
    return found


_KINDS: dict[str, Any] = {"meta": Coded, "said": Predicted, "scores": Scored}
_NOTHING = Coded(_empty(np.int32), ())
_NOBODY = Base(
    _empty(np.int64), _empty("S20"), _empty(np.int64), _NOTHING, _NOTHING, _NOTHING, _empty(np.float64)
)
