"""Columns in memory against SQLite and against DuckDB over Parquet: ``python -m benchmarks.bench_columns FOLDER``.

FOLDER is a workspace that ``bench_large`` has made. The same questions, of which no two are alike, go to all three; the answers must be
equal. CPU seconds of this process: medians after a first question, which the page asks while it warms up. DuckDB is not among the requirements: without it
(``pip install duckdb``) its column stays empty.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import crowd
from benchmarks.measure import RESULTS, commit, machine, write_json
from ltg_core.data.column_reading import falling
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace

PAGE, DEEP = 60, 2000
SIGNAL = "epistemic"
QUESTIONS = (
    "first page by a signal",
    "a page in the middle by a signal",
    "count of three filters",
    "counts of a facet",
)


class Ours:
    """The columns that the page uses."""

    def __init__(self, ws: Workspace, model: str) -> None:
        self.columns, self.model = ws.columns, model
        self.columns.warm(model, [SIGNAL])

    def page(self, camera: str, offset: int) -> list[str]:
        """Ids by falling percentile."""
        base = self.columns.base()
        places = np.flatnonzero(self.columns.mask(Filter(split="test", meta={"camera": camera}), base))
        ranks = self.columns.scores(self.model, SIGNAL, base).percentiles[places]
        return self.columns.ids(places[falling(ranks)][offset : offset + PAGE])

    def count(self, camera: str) -> int:
        """Wrong test samples of a camera."""
        chosen = Filter(split="test", correct=False, meta={"camera": camera}, model_hash=self.model)
        return int(self.columns.mask(chosen).sum())

    def facet(self, camera: str) -> dict[str, int]:
        """Samples by condition."""
        base = self.columns.base()
        coded = self.columns.meta("condition", base)
        codes = coded.codes[self.columns.mask(Filter(meta={"camera": camera}), base)]
        found = np.bincount(codes, minlength=len(coded.values))
        return {str(value): int(n) for value, n in zip(coded.values, found, strict=True) if n}


class Sql:
    """The same as SQL; SQLite has its own tables and indices, DuckDB one wide Parquet file."""

    def __init__(self, ask: Callable[[str, list[Any]], list[Any]], table: str, names: dict[str, str]) -> None:
        self.ask, self.table, self.names = ask, table, names

    def page(self, camera: str, offset: int) -> list[str]:
        """Ids by falling percentile, then by the order in which they came."""
        sql = (
            f"SELECT {{id}} FROM {self.table} WHERE {{split}} = 'test' AND {{camera}} = ? "
            f"ORDER BY {{rank}} DESC, {{seq}} LIMIT {PAGE} OFFSET {offset}"
        )
        return [row[0] for row in self.ask(sql.format(**self.names), [camera])]

    def count(self, camera: str) -> int:
        """Wrong test samples of a camera."""
        sql = f"SELECT count(*) FROM {self.table} WHERE {{split}} = 'test' AND {{camera}} = ? AND {{pred}} <> {{label}}"
        return int(self.ask(sql.format(**self.names), [camera])[0][0])

    def facet(self, camera: str) -> dict[str, int]:
        """Samples by condition."""
        sql = f"SELECT {{condition}}, count(*) FROM {self.table} WHERE {{camera}} = ? GROUP BY 1"
        return {str(value): int(n) for value, n in self.ask(sql.format(**self.names), [camera])}


def sqlite(ws: Workspace, model: str) -> Sql:
    """The database of the workspace."""
    keys = ws.database.rows(
        "SELECT m.key, g.key FROM models m JOIN signals g ON g.model = m.key WHERE m.hash = ? AND g.name = ?",
        (model, SIGNAL),
    )[0]
    table = (
        f"samples s JOIN predictions p ON p.sample = s.seq AND p.model = {int(keys[0])} "
        f"JOIN scores c ON c.sample = s.seq AND c.signal = {int(keys[1])}"
    )
    meta = {name: f"json_extract(s.meta, '$.{name}')" for name in ("camera", "condition")}
    names = {
        "id": "s.id",
        "seq": "s.seq",
        "split": "s.split",
        "label": "s.label",
        "pred": "p.pred",
        "rank": "c.percentile",
    }
    return Sql(lambda sql, values: list(ws.database.rows(sql, tuple(values))), table, names | meta)


def parquet(ws: Workspace, model: str, place: Path) -> Path:
    """All columns in one file; made once."""
    if not place.exists():
        base, said = ws.columns.base(), ws.columns.predictions(model)
        coded = {name: ws.columns.meta(name, base) for name in ("camera", "condition")} | {
            "split": base.split
        }
        table = {
            "id": [one.decode() for one in base.ids.tolist()], "seq": base.seq, "label": base.label, "pred": said.pred,
            "rank": ws.columns.scores(model, SIGNAL, base).percentiles,
            **{name: pa.array(np.array(one.values, dtype=object)[one.codes]).dictionary_encode() for name, one in coded.items()},
        }  # fmt: skip
        pq.write_table(pa.table(table), place)
    return place


def duck(file: Path) -> Sql | None:
    """DuckDB with one thread over the file; None where it is not installed."""
    try:
        duckdb = importlib.import_module("duckdb")
    except ModuleNotFoundError:
        return None
    connection = duckdb.connect(config={"threads": 1})
    names = {name: name for name in ("id", "seq", "split", "label", "pred", "rank", "camera", "condition")}
    return Sql(lambda sql, values: connection.execute(sql, values).fetchall(), f"'{file}'", names)


def asked(engine: Any, question: str, camera: str) -> Any:
    """One question."""
    if question == QUESTIONS[0]:
        return engine.page(camera, 0)
    if question == QUESTIONS[1]:
        return engine.page(camera, DEEP)
    return engine.count(camera) if question == QUESTIONS[2] else engine.facet(camera)


def main() -> None:
    """Ask, compare, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "columns.json")
    given = parser.parse_args()
    with Workspace(given.folder) as ws:
        model = str(ws.get_state("classifier")["hash"])
        engines = {"columns in memory": Ours(ws, model), "SQLite": sqlite(ws, model)}
        over = duck(parquet(ws, model, given.folder.parent / f"{given.folder.name}.parquet"))
        engines |= {"DuckDB over Parquet": over} if over is not None else {}
        found: dict[str, Any] = {}
        for question in QUESTIONS:
            times: dict[str, list[float]] = {name: [] for name in engines}
            for turn in range(given.repeats + 1):
                answers = {}
                for name, engine in engines.items():
                    began = _cpu()
                    answers[name] = asked(engine, question, crowd.CAMERAS[turn])
                    times[name].append(_cpu() - began)
                first = answers["columns in memory"]
                assert first and all(one == first for one in answers.values()), (question, answers)
            found[question] = {name: round(statistics.median(each[1:]), 4) for name, each in times.items()}
            print(question, found[question], flush=True)
        about = {"machine": machine(), "commit": commit(), "samples": ws.count(), "repeats": given.repeats}
        about["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    write_json(given.out, about | {"day": time.strftime("%Y-%m-%d"), "cpu_seconds": found})


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
