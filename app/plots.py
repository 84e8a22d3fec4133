"""A map for the browser: typed arrays as text, so that 100,000 points are two megabytes and a colour a tenth of one."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import ANY, origin_choices, signal_choices, words
from app.render import QUIET_META

if TYPE_CHECKING:
    import numpy as np

    from ltg_core.embedding.colouring import Colouring
    from ltg_core.workflows import MapTable

EMPTY = {
    "n": 0,
    "empty": [
        "No map yet",
        "Press Draw the map: similar samples will stand near each other. It takes about half a minute.",
    ],
}
PLAIN = [
    ("Class", "class"),
    ("Prediction", "prediction"),
    ("Right or wrong", "correct"),
    ("Confidence", "confidence"),
    ("Origin", "origin"),
    ("Run", "run"),
    ("Split", "split"),
    ("Verdict", "verdict"),
    ("Belief", "belief"),
]
# What a value means, where it means the same in every data set; the script has a colour for each in light and dark.
_ROLES = {
    "correct": {"right": "quiet", "wrong": "bad"},
    "origin": {"real": "quiet", "generated": "made"},
    "run": {"real": "quiet"},
    "verdict": {"accepted": "good", "rejected": "bad", "flagged": "warn", "undecided": "quiet"},
    "belief": {"believed": "good", "quarantined": "warn", "real": "quiet"},
}
_GRID = 2**16 - 1
_LONGEST = 60


def colour_choices(ctx: AppContext) -> list[tuple[str, str]]:
    """What points can be coloured by: (words, name)."""
    signals = [(text, f"signal:{name}") for text, name in signal_choices(ctx)]
    columns = [name for name in ctx.workspace.meta_columns() if name not in QUIET_META]
    return [*PLAIN, *signals, *[(words(name)[:_LONGEST], f"meta:{name}") for name in columns[:200]]]


def base(ctx: AppContext) -> dict[str, Any]:
    """Where the points are and what they are; ``EMPTY`` where there is no map."""
    from ltg_core import workflows

    def made() -> dict[str, Any]:
        table = workflows.map_table(ctx.workspace)
        return EMPTY if table is None or not table.ids else _packed(table)

    # Somebody may have deleted a sample underneath, with no job of this server.
    found: dict[str, Any] = ctx.cached(("map points", workflows.samples_stamp(ctx.workspace)), made)
    return found


def ids_of(ctx: AppContext) -> list[str]:
    """The samples of the map, in its order."""
    return [value.hex() for value in _split(base64.b64decode(base(ctx).get("ids", "")), 10)]


def paint(ctx: AppContext, by: str) -> dict[str, Any]:
    """The colours of the points; {} where there is no map."""
    from ltg_core import workflows

    ids = ids_of(ctx)
    if not ids:
        return {}
    key = ("paint", by, workflows.stamp(ctx.workspace))
    found: Colouring = ctx.cached(key, lambda: workflows.map_colouring(ctx.workspace, ids, by))
    title = {value: text for text, value in colour_choices(ctx)}.get(by, words(by))
    value: dict[str, Any] = {"by": by, "label": title, "codes": _text(found.codes.tobytes())}
    if not found.names:
        unit = ", percentile" if by.startswith("signal:") else ""
        return value | {"label": title + unit, "low": found.low, "high": found.high}
    runs = {value: text for text, value in origin_choices(ctx) if value != ANY} if by == "run" else {}
    return value | {
        "names": [runs.get(name, name)[:_LONGEST] for name in found.names],
        "counts": list(found.counts),
        "roles": [_ROLES.get(by, {}).get(name, "") for name in found.names],
        "rest": len(found.names) - 1 if found.merged else -1,
        "none": len(found.names) - 1 if _none_last(found) else -1,
    }


def stamp(value: dict[str, Any]) -> str:
    """Equal for equal values, so that what a page already has is not sent again."""
    return hashlib.sha1(json.dumps(value, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


def _none_last(found: Colouring) -> bool:
    """Whether the last name stands for samples without a value."""
    from ltg_core.embedding.colouring import NOTHING

    return found.names[-1].rstrip("*") == NOTHING


def _packed(table: MapTable) -> dict[str, Any]:
    low, high = table.coords.min(axis=0).astype(float), table.coords.max(axis=0).astype(float)
    span = [float(b - a) or 1.0 for a, b in zip(low, high, strict=True)]
    wide = len(table.names) > 255
    value: dict[str, Any] = {
        "n": len(table.ids),
        "run": table.run,
        "ids": _text(b"".join(bytes.fromhex(one) for one in table.ids)),
        "box": [float(low[0]), float(low[1]), *span],
        "x": _text(_steps(table.coords[:, 0], float(low[0]), span[0])),
        "y": _text(_steps(table.coords[:, 1], float(low[1]), span[1])),
        "generated": _text(table.generated.astype("u1").tobytes()),
        "classes": [name[:_LONGEST] for name in table.names],
        "wide": wide,
        "label": _text(table.label.astype("<u2" if wide else "u1").tobytes()),
        "pred": _text(table.pred.astype("<u2" if wide else "u1").tobytes()),
    }
    if table.density is not None:
        grid = table.density
        value["density"] = {
            "x": [round(float(v), 4) for v in (grid.x[0], grid.x[-1])],
            "y": [round(float(v), 4) for v in (grid.y[0], grid.y[-1])],
            "bins": len(grid.x),
            "level": _text((grid.level * 255).round().astype("u1").tobytes()),
        }
    return value | {"stamp": stamp(value)}


def _steps(values: np.ndarray, low: float, span: float) -> bytes:
    """Coordinates as whole numbers of 16 bits: a screen has fewer pixels."""
    import numpy as np

    return bytes(np.rint((values.astype(float) - low) / span * _GRID).astype("<u2").tobytes())


def _split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
