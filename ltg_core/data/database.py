"""SQLite under the workspace: connections that are lent, transactions, errors in words."""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ltg_core.data.schema import FIRST_VERSION, MIGRATIONS, SCHEMA, SCHEMA_VERSION
from ltg_core.errors import WorkspaceError

_PAGES = 262_144  # bytes
_READY = 4  # connections that lie ready
_PATIENCE = 10  # seconds, for another process that writes
_NO_SPACE = re.compile(
    rf"\(os error ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\)|PytorchStreamWriter|inline_container.*unexpected pos"
)
"""How safetensors (Rust) and torch (C++), which raise errors of their own, tell of a write that found no room."""


@contextlib.contextmanager
def explained(folder: Path, what: str = "workspace") -> Iterator[None]:
    """Turn what the disk, SQLite and the writers of torch and safetensors say into words.

    Args:
        folder: Where the work happens.
        what: What the folder is, for the message.

    Raises:
        WorkspaceError: The disk is full, the folder read-only, the database damaged or held by
            another process.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WorkspaceError(_full(folder, what)) from error
        raise WorkspaceError(f"the {what} '{folder}' cannot be used: {error.strerror or error}") from error
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "disk is full" in text or ("disk I/O error" in text and _no_room(folder)):
            raise WorkspaceError(_full(folder, what)) from error
        if "locked" in text:
            text = f"another process has been writing for more than {_PATIENCE} seconds; try again"
        elif "readonly" in text or "unable to open" in text:
            text = f"it cannot be written ({text}); check the folder's permissions"
        elif "disk I/O error" in text:
            text = "its disk did not do what it was asked to (disk I/O error); look at the system's log"
        elif "not a database" in text or "malformed" in text:
            text = f"its database is damaged ({text}); restore it from a copy"
        raise WorkspaceError(f"the {what} '{folder}': {text}") from error
    except Exception as error:
        if not _NO_SPACE.search(str(error)):
            raise
        raise WorkspaceError(_full(folder, what)) from error


def _no_room(folder: Path) -> bool:
    """Whether not even the few pages are free that SQLite wants beside its file; it calls that an I/O error."""
    try:
        return shutil.disk_usage(folder).free < _PAGES
    except OSError:
        return False


def _full(folder: Path, what: str) -> str:
    return (
        f"the disk that holds the {what} '{folder}' is full, or takes no file of this size; free some "
        "space and repeat this step. Nothing of it was half-written, and everything before it is kept"
    )


class _Handle:
    """A connection that closes itself when nobody knows it any more."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.depth = 0

    def __del__(self) -> None:
        self.connection.close()


class Database:
    """One SQLite file, safe to use from any thread.

    Connections are lent for one question or transaction and lie ready for the next one, of whatever thread: a server
    has many threads and many of these files, and a connection holds pages.

    Args:
        path: The file; created with its tables when absent.

    Raises:
        WorkspaceError: It cannot be opened, or was written by a newer version of this package.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._ready: list[_Handle] = []
        self._lent: set[_Handle] = set()
        self._lock = threading.Lock()
        self._closed = False
        with explained(path.parent):
            self._prepare()

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of one query."""
        with self._handle() as handle, explained(self.path.parent):
            return handle.connection.execute(sql, parameters).fetchall()

    def parts(
        self, sql: str, parameters: Sequence[Any] = (), size: int = 50_000
    ) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of one query in parts, as plain tuples: of millions no more than one part is in memory."""
        # In a transaction its own connection, which sees what was written; else one for these rows alone, for whoever
        # reads them may ask other questions between two parts.
        own: _Handle | None = getattr(self._local, "handle", None)
        handle = own or self._lend()
        try:
            with explained(self.path.parent):
                cursor = handle.connection.cursor()
                cursor.row_factory = None
                try:
                    cursor.execute(sql, parameters)
                    while rows := cursor.fetchmany(size):
                        yield rows
                finally:
                    cursor.close()
        finally:
            if own is None:
                self._give_back(handle)

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of one query, or None."""
        found = self.rows(sql, parameters)
        return found[0] if found else None

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in one, so that it sees what nobody else does."""
        own: _Handle | None = getattr(self._local, "handle", None)
        return own is not None and own.depth > 0

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it or, on any exception, nothing. Inside another one it joins that one."""
        with self._handle() as handle, explained(self.path.parent):
            if handle.depth == 0:
                handle.connection.execute("BEGIN IMMEDIATE")
            handle.depth += 1
            try:
                yield handle.connection
                if handle.depth == 1:
                    handle.connection.execute("COMMIT")
            except BaseException:
                if handle.depth == 1 and handle.connection.in_transaction:
                    handle.connection.execute("ROLLBACK")
                raise
            finally:
                handle.depth -= 1

    def close(self) -> None:
        """Close every connection, also those that are lent."""
        with self._lock:
            self._closed = True
            for handle in (*self._ready, *self._lent):
                handle.connection.close()
            self._ready.clear()

    @contextlib.contextmanager
    def _handle(self) -> Iterator[_Handle]:
        """This thread's connection: that of the transaction or question it is in, else one that is lent meanwhile."""
        own: _Handle | None = getattr(self._local, "handle", None)
        if own is not None:
            yield own
            return
        handle = self._local.handle = self._lend()
        try:
            yield handle
        finally:
            self._local.handle = None
            self._give_back(handle)

    def _lend(self) -> _Handle:
        with self._lock:
            if self._closed:
                raise WorkspaceError(f"the workspace '{self.path.parent}' was closed")
            handle = self._ready.pop() if self._ready else None  # the last one: its pages are the newest
            if handle is not None:
                self._lent.add(handle)
                return handle
        handle = _Handle(self._connect())
        with self._lock:
            self._lent.add(handle)
        return handle

    def _give_back(self, handle: _Handle) -> None:
        with self._lock:
            self._lent.discard(handle)
            if not self._closed and len(self._ready) < _READY and not handle.connection.in_transaction:
                self._ready.append(handle)
                return
        handle.connection.close()

    def _connect(self) -> sqlite3.Connection:
        with explained(self.path.parent):
            # Closing from another thread is needed at the end; every other use stays within its own thread.
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA busy_timeout={1000 * _PATIENCE}")
            _write_ahead(connection)
            # 32 MB of pages a connection
            for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "cache_size=-32000"):
                connection.execute(f"PRAGMA {pragma}")
            return connection

    def _prepare(self) -> None:
        with self.write() as connection:
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone()
            if known is None:
                _run(connection, SCHEMA)
                connection.execute("INSERT INTO schema_version VALUES (?)", (FIRST_VERSION,))
            version = connection.execute("SELECT version FROM schema_version").fetchone()[0]
            if version < SCHEMA_VERSION:
                for script in MIGRATIONS[version - FIRST_VERSION :]:
                    _run(connection, script)
                connection.execute("UPDATE schema_version SET version = ?", (SCHEMA_VERSION,))
        if version > SCHEMA_VERSION:
            raise WorkspaceError(
                f"the workspace '{self.path.parent}' was written by a newer version (schema {version}, "
                f"this one reads up to {SCHEMA_VERSION}); update this package, or open another folder"
            )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. Of two that switch a new file at once SQLite refuses one without waiting."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Every statement of a script within the transaction that is open (``executescript`` would commit it)."""
    statement = ""
    for part in script.split(";"):  # the body of a trigger holds semicolons of its own
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
