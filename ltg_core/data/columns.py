"""Columns of all samples as arrays in memory: counting and ranking a million samples without a query for each.

A column is read at its first use and again when the database says that it has changed (counters that triggers keep, so
no writer can forget them). Of new samples alone is read what came with them. About 60 bytes a sample and 4 for each
metadata column in use. Of a large workspace ``shelve`` keeps the columns in files for the next start.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ltg_core.data.column_reading import (
    Array,
    Base,
    Coded,
    ColumnReader,
    Predicted,
    Scored,
    Since,
    falling,
    located,
    rising,
)
from ltg_core.data.database import Database
from ltg_core.data.filters import where
from ltg_core.data.records import BELIEFS, REAL, VERDICTS, Filter
from ltg_core.data.shelf import Shelf
from ltg_core.errors import InputError

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
_NEWER = {  # rows of samples after one, of all models and signals, as the counters count them
    "predictions": "SELECT coalesce(sum((SELECT count(*) FROM predictions WHERE model = m.key AND sample > ?)), 0)"
    " FROM models m",
    "scores": "SELECT coalesce(sum((SELECT count(*) FROM scores WHERE signal = s.key AND sample > ?)), 0)"
    " FROM signals s",
}


_KINDS: dict[str, Any] = {"meta": Coded, "said": Predicted, "scores": Scored}


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


class Columns:
    """The columns of one workspace; safe to use from several threads.

    Args:
        database: Where they come from.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.RLock()
        self._kept: dict[Any, _Kept] = {}
        self._shelf, self._reader = Shelf(database), ColumnReader(database)

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
                    self._reader.base(known),
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
        found: Coded = self._column(("meta", column), (), base, self._reader.meta, column)
        return found

    def predictions(self, model_hash: str | None, base: Base | None = None) -> Predicted:
        """What a classifier says; nothing where it has said nothing yet."""
        key, what = ("said", model_hash), ("predictions",)
        found: Predicted = self._column(key, what, base, self._reader.predictions, model_hash)
        return found

    def scores(self, model_hash: str | None, signal: str, base: Base | None = None) -> Scored:
        """A signal of a classifier."""
        key, what = ("scores", model_hash, signal), ("scores",)
        found: Scored = self._column(key, what, base, self._reader.scores, model_hash, signal)
        return found

    def verdicts(self, base: Base | None = None) -> Coded:
        """Verdicts; whoever has none is undecided."""
        found: Coded = self._column("verdicts", ("verdicts",), base, self._reader.verdicts)
        return found

    def tags(self, base: Base | None = None) -> tuple[Array, Coded]:
        """Places of samples, one for each tag of each, and the tags beside them."""
        found: tuple[Array, Coded] = self._column("tags", ("tags",), base, self._reader.tags)
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
        seq = np.fromstring(text, dtype=np.int64, sep=",") if text else np.empty(0, dtype=np.int64)
        return located(base, seq)[0]

    def _text(self, text: str, base: Base) -> Array:
        """Places of the samples whose words match; the index of words is SQLite's."""
        found: Array = self._column(("text", text), _TEXT, base, self._read_text, text)
        return found

    def _read_text(self, base: Base, text: str) -> Array:
        return self._queried(Filter(text=text), base)

    @property
    def in_use(self) -> bool:
        """Whether the samples have been read, so that another question costs little.

        Not within a transaction of this thread: what it has written may be taken back.
        """
        return "base" in self._kept and not self._database.in_transaction

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
        name = ("order", model_hash, key, turned)
        found: Array = self._column(name, what, base, self._order, model_hash, key, turned)
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

    def _since(self, kept: _Kept | None, base: Base, counters: dict[str, int]) -> Since | None:
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
        return Since(kept.value, last)

    def _changes(self) -> dict[str, int]:
        return {row[0]: row[1] for row in self._database.rows("SELECT what, n FROM changes")}


def _lasts(key: Any) -> bool:
    """Whether the first samples keep what they have of a column, and it is worth a file."""
    return key == "base" or key[0] in _KINDS


def _built(kind: Any, fields: dict[str, Any]) -> Any:
    """A column of what the shelf gave.

    Raises:
        KeyError, TypeError: It gave something else.
    """
    if kind is Coded:
        return Coded(fields["codes"], tuple(fields["values"]))
    plain = {name: _built(Coded, one) if isinstance(one, dict) else one for name, one in fields.items()}
    return kind(**plain)


def _marked(size: int, places: Array) -> Array:
    found = np.zeros(size, dtype=bool)
    found[places] = True
    return found
