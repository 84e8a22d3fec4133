"""Jobs in the workspace's database: a restart finds those that wait, and says of those it cut off that it did."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

from ltg_core.data import runs
from ltg_core.data.database import Database
from ltg_core.data.processes import alive, owner
from ltg_core.errors import WorkerLost
from ltg_core.jobs import CancelToken, Job, ProgressFn, Spec

KEEP = 200
"""Records of jobs that have ended, at most."""
CUT_OFF = "the server ended before it was done; what was finished is kept"
_NO_WORK = "the server was restarted before it began; start it again"
_COLUMNS = (
    *("id", "kind", "lane", "title", "about", "owner", "task", "arguments", "state", "reason", "result"),
    *("run", "created", "started", "finished", "process"),
)


class JobRecords:
    """The log of a ``JobBoard``.

    Args:
        database: Of the workspace.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, job: Job) -> None:
        """Write or replace the record of a job; of those that have ended only the newest are kept.

        Raises:
            WorkspaceError: The disk is full.
        """
        spec = job.spec
        values = (
            *(job.id, job.kind, job.lane, job.title, runs.dump(job.about), job.owner),
            *(spec.task if spec else None, runs.dump(spec.arguments if spec else {})),
            *(job.state, job.reason, _plain(job.result), job.run, job.created, job.started, job.finished),
            owner(),
        )
        changing = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
        with self._database.write() as connection:
            connection.execute(
                f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
                f" ON CONFLICT (id) DO UPDATE SET {changing}",
                values,
            )
            if job.state == "queued":
                connection.execute(
                    "DELETE FROM jobs WHERE seq IN (SELECT seq FROM jobs WHERE state NOT IN ('queued', 'running')"
                    " ORDER BY seq DESC LIMIT -1 OFFSET ?)",
                    (KEEP,),
                )

    def recover(self) -> list[Job]:
        """Jobs of servers that are gone, the oldest first: what waited waits again, what ran was interrupted."""
        found = []
        with self._database.write() as connection:
            rows = connection.execute("SELECT * FROM jobs ORDER BY seq").fetchall()
            for row in rows:
                open_still = row["state"] in ("queued", "running")
                if open_still and alive(row["process"]):
                    continue  # another server works in this workspace
                job = _job(row)
                if open_still:
                    _settle(job)
                    connection.execute(
                        "UPDATE jobs SET state = ?, reason = ?, finished = ?, process = ? WHERE id = ?",
                        (job.state, job.reason, job.finished, owner(), job.id),
                    )
                found.append(job)
        return found


def lost_work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
    """The work of a job that nobody can do any more."""
    raise WorkerLost(_NO_WORK)


def _settle(job: Job) -> None:
    if job.state == "queued" and job.spec is not None:
        return
    job.reason = CUT_OFF if job.state == "running" else _NO_WORK
    job.finished = time.time()
    job.state = "interrupted"


def _job(row: sqlite3.Row) -> Job:
    spec = Spec(row["task"], json.loads(row["arguments"])) if row["task"] is not None else None
    job = Job(
        row["id"],
        row["kind"],
        row["lane"],
        lost_work,
        row["title"],
        json.loads(row["about"]),
        row["owner"],
        spec,
    )
    job.state, job.reason, job.result, job.run = (
        row["state"],
        row["reason"],
        json.loads(row["result"]),
        row["run"],
    )
    job.created, job.started, job.finished = row["created"], row["started"], row["finished"]
    return job


def _plain(result: Any) -> str:
    """The result where it is plain; objects of this process do not outlive it."""
    try:
        return json.dumps(result, allow_nan=False)
    except (TypeError, ValueError):
        return "null"
