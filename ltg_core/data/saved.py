"""Filters as JSON, with classes by name: a filter that was saved survives another classifier's order of classes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ltg_core.data.records import Filter, Range

NOBODY = -9
"""A class index that no sample has: what a filter on a class of another data set finds."""


def to_record(chosen: Filter, labels: Sequence[str]) -> dict[str, Any]:
    """JSON values; fields that say nothing are left out, and so is the classifier."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(Filter):
        value = getattr(chosen, field.name)
        if value in (None, "", {}) and not (field.name in ("split", "ids") and value is not None):
            continue
        if field.name in ("label", "prediction"):
            value = labels[value] if 0 <= value < len(labels) else ""
        if field.name == "meta":
            value = {column: _plain(wanted) for column, wanted in value.items()}
        if field.name != "model_hash":
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def from_record(record: Mapping[str, Any], labels: Sequence[str], model_hash: str | None) -> Filter:
    """The filter again, with predictions of this classifier; fields of another version are left out."""
    given = {
        key: value for key, value in record.items() if key in {f.name for f in dataclasses.fields(Filter)}
    }
    for name in ("label", "prediction"):
        if name in given:
            given[name] = labels.index(given[name]) if given[name] in labels else NOBODY
    for name in ("ids", "split"):
        if isinstance(given.get(name), list):
            given[name] = tuple(given[name])
    given["meta"] = {column: _wanted(value) for column, value in dict(given.get("meta", {})).items()}
    return Filter(**{**given, "model_hash": model_hash})


def _plain(wanted: Any) -> Any:
    if not isinstance(wanted, Range):
        return list(wanted) if isinstance(wanted, (tuple, set, frozenset)) else wanted
    ends = {"low": wanted.low, "high": wanted.high}
    return {"range": {name: value for name, value in ends.items() if math.isfinite(value)}}


def _wanted(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ends = value.get("range", {})
    return Range(ends.get("low", -math.inf), ends.get("high", math.inf))
