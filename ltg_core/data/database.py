"""SQLite under the workspace: the schema, one connection a thread, transactions, errors in words."""

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

from ltg_core.errors import WorkspaceError

_FIRST_VERSION = 1
# Integer keys inside, text ids outside: at a million samples and ten signals the difference is gigabytes.
_SCHEMA = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE samples (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    image_hash TEXT NOT NULL,
    suffix TEXT NOT NULL,
    origin TEXT NOT NULL,
    split TEXT NOT NULL,
    label INTEGER,
    label_name TEXT,
    source TEXT NOT NULL,
    caption TEXT NOT NULL,
    meta TEXT NOT NULL,
    belief TEXT CHECK (belief IN ('believed', 'quarantined')),
    belief_reason TEXT,
    created REAL NOT NULL
);
CREATE INDEX samples_split ON samples (split, label);
CREATE INDEX samples_label ON samples (label);
CREATE INDEX samples_origin ON samples (origin, split);
CREATE INDEX samples_hash ON samples (image_hash);
CREATE INDEX samples_created ON samples (created);
CREATE INDEX samples_belief ON samples (belief) WHERE belief IS NOT NULL;
CREATE TABLE meta_columns (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE models (key INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE);
CREATE TABLE signals (
    key INTEGER PRIMARY KEY,
    model INTEGER NOT NULL REFERENCES models (key),
    name TEXT NOT NULL,
    UNIQUE (model, name)
);
CREATE TABLE scores (
    signal INTEGER NOT NULL REFERENCES signals (key),
    sample INTEGER NOT NULL REFERENCES samples (seq) ON DELETE CASCADE,
    value REAL,
    percentile REAL,
    PRIMARY KEY (signal, sample)
) WITHOUT ROWID;
CREATE INDEX scores_value ON scores (signal, value);
CREATE TABLE predictions (
    model INTEGER NOT NULL REFERENCES models (key),
    sample INTEGER NOT NULL REFERENCES samples (seq) ON DELETE CASCADE,
    pred INTEGER NOT NULL,
    confidence REAL,
    PRIMARY KEY (model, sample)
) WITHOUT ROWID;
CREATE INDEX predictions_pred ON predictions (model, pred);
CREATE INDEX predictions_confidence ON predictions (model, confidence);
CREATE TABLE verdicts (
    sample INTEGER PRIMARY KEY REFERENCES samples (seq) ON DELETE CASCADE,
    verdict TEXT NOT NULL DEFAULT 'undecided'
        CHECK (verdict IN ('accepted', 'rejected', 'flagged', 'undecided')),
    note TEXT NOT NULL DEFAULT '',
    rating INTEGER CHECK (rating BETWEEN 1 AND 5)
);
CREATE INDEX verdicts_verdict ON verdicts (verdict);
CREATE TABLE tags (
    sample INTEGER NOT NULL REFERENCES samples (seq) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (sample, tag)
) WITHOUT ROWID;
CREATE INDEX tags_tag ON tags (tag);
CREATE TABLE actions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    field TEXT NOT NULL,
    description TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    undone INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL
);
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    settings TEXT NOT NULL,
    seed INTEGER,
    hashes TEXT NOT NULL,
    versions TEXT NOT NULL,
    started REAL NOT NULL,
    finished REAL,
    reason TEXT NOT NULL DEFAULT '',
    parent TEXT,
    result TEXT NOT NULL DEFAULT '{}',
    owner TEXT NOT NULL
);
CREATE INDEX runs_kind ON runs (kind, state);
CREATE INDEX runs_state ON runs (state);
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_JOBS = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    lane TEXT NOT NULL,
    title TEXT NOT NULL,
    about TEXT NOT NULL,
    owner TEXT NOT NULL,
    task TEXT,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    result TEXT NOT NULL,
    run TEXT NOT NULL,
    created REAL NOT NULL,
    started REAL,
    finished REAL,
    process TEXT NOT NULL
);
CREATE INDEX jobs_state ON jobs (state)
"""

_PINS = """
CREATE TABLE pins (
    sample INTEGER PRIMARY KEY REFERENCES samples (seq) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    note TEXT NOT NULL DEFAULT ''
)
"""

_CURATION = """
ALTER TABLE actions ADD COLUMN author TEXT NOT NULL DEFAULT '';
CREATE TABLE edits (
    sample INTEGER NOT NULL REFERENCES samples (seq) ON DELETE CASCADE,
    field TEXT NOT NULL,
    stamp INTEGER NOT NULL,
    author TEXT NOT NULL,
    PRIMARY KEY (sample, field)
) WITHOUT ROWID;
CREATE TABLE sets (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    hash TEXT NOT NULL,
    n INTEGER NOT NULL,
    classes TEXT NOT NULL,
    scope TEXT NOT NULL,
    created REAL NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0,
    UNIQUE (name, version)
);
CREATE TABLE members (
    owner INTEGER NOT NULL REFERENCES sets (key) ON DELETE CASCADE,
    sample TEXT NOT NULL,
    image_hash TEXT NOT NULL,
    class_name TEXT,
    verdict TEXT NOT NULL,
    tags TEXT NOT NULL,
    PRIMARY KEY (owner, sample)
) WITHOUT ROWID;
CREATE TABLE reviews (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    reviewer TEXT NOT NULL,
    about TEXT NOT NULL,
    seed INTEGER NOT NULL,
    created REAL NOT NULL,
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE answers (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    review INTEGER NOT NULL REFERENCES reviews (key) ON DELETE CASCADE,
    sample TEXT NOT NULL,
    first TEXT NOT NULL,
    answer TEXT,
    UNIQUE (review, sample)
)
"""
"""Curation by several people, versioned sets, blind second reviews."""

# The text of a sample for the search, kept by triggers so that no writer can forget it; counters of changes, by which
# ``columns`` knows what it has to read again; slices.
_WORDS_CHANGES_SLICES = """
CREATE VIRTUAL TABLE words USING fts5
    (caption, label, source, meta, note, tags, tokenize = "unicode61 remove_diacritics 2");
INSERT INTO words (rowid, caption, label, source, meta, note, tags)
    SELECT s.seq, s.caption, coalesce(s.label_name, ''), s.source,
        coalesce((SELECT group_concat(m.atom, ' ') FROM json_tree(s.meta) m WHERE m.atom IS NOT NULL), ''),
        coalesce((SELECT v.note FROM verdicts v WHERE v.sample = s.seq), ''),
        coalesce((SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.sample = s.seq), '')
    FROM samples s;
CREATE TABLE changes (what TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO changes VALUES
    ('added', 0), ('samples', 0), ('predictions', 0), ('scores', 0), ('verdicts', 0), ('tags', 0);
CREATE TRIGGER samples_added AFTER INSERT ON samples BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'added';
    INSERT INTO words (rowid, caption, label, source, meta, note, tags) VALUES (
        new.seq, new.caption, coalesce(new.label_name, ''), new.source,
        coalesce((SELECT group_concat(m.atom, ' ') FROM json_tree(new.meta) m WHERE m.atom IS NOT NULL), ''), '', '');
END;
CREATE TRIGGER samples_changed AFTER UPDATE OF origin, split, label, label_name, meta, belief ON samples BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'samples';
END;
CREATE TRIGGER samples_words AFTER UPDATE OF label_name, source, caption, meta ON samples BEGIN
    UPDATE words SET caption = new.caption, label = coalesce(new.label_name, ''), source = new.source,
        meta = coalesce((SELECT group_concat(m.atom, ' ') FROM json_tree(new.meta) m WHERE m.atom IS NOT NULL), '')
        WHERE rowid = new.seq;
END;
CREATE TRIGGER samples_removed AFTER DELETE ON samples BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'samples';
    DELETE FROM words WHERE rowid = old.seq;
END;
CREATE TRIGGER predictions_added AFTER INSERT ON predictions BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'predictions';
END;
CREATE TRIGGER scores_added AFTER INSERT ON scores BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'scores';
END;
CREATE TRIGGER verdicts_added AFTER INSERT ON verdicts BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'verdicts';
    UPDATE words SET note = new.note WHERE rowid = new.sample AND new.note <> '';
END;
CREATE TRIGGER verdicts_changed AFTER UPDATE ON verdicts BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'verdicts';
    UPDATE words SET note = new.note WHERE rowid = new.sample AND new.note <> old.note;
END;
CREATE TRIGGER verdicts_removed AFTER DELETE ON verdicts BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'verdicts';
    UPDATE words SET note = '' WHERE rowid = old.sample AND old.note <> '';
END;
CREATE TRIGGER tags_added AFTER INSERT ON tags BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'tags';
    UPDATE words SET tags = (SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.sample = new.sample)
        WHERE rowid = new.sample;
END;
CREATE TRIGGER tags_removed AFTER DELETE ON tags BEGIN
    UPDATE changes SET n = n + 1 WHERE what = 'tags';
    UPDATE words SET tags = coalesce((SELECT group_concat(t.tag, ' ') FROM tags t WHERE t.sample = old.sample), '')
        WHERE rowid = old.sample;
END;
CREATE TABLE slices (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('saved', 'found')),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    filter TEXT NOT NULL,
    evidence TEXT NOT NULL DEFAULT '{}',
    created REAL NOT NULL,
    removed REAL
);
"""

_AUXILIARIES = """
CREATE TABLE auxiliaries (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    parent TEXT NOT NULL,
    proposed TEXT NOT NULL,
    source TEXT NOT NULL,
    about TEXT NOT NULL,
    decision TEXT NOT NULL,
    created REAL NOT NULL,
    UNIQUE (parent, proposed, source)
);
CREATE INDEX samples_auxiliary ON samples (json_extract(meta, '$.auxiliary'))
    WHERE json_extract(meta, '$.auxiliary') IS NOT NULL
"""
"""Classes that stand beside weak ones while a classifier is retrained; ``decision`` is kept by the journal."""

MIGRATIONS: tuple[str, ...] = (_JOBS, _PINS, _CURATION, _WORDS_CHANGES_SLICES, _AUXILIARIES)
"""What came after the first version, one script each, in order; never changed once released, only added to. A new
workspace runs them all as well, so that there is one way to every schema."""

SCHEMA_VERSION = _FIRST_VERSION + len(MIGRATIONS)


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
        own = getattr(self._local, "handle", None)  # that of a transaction, which has to see what it wrote
        handle = (
            own or self._lend()
        )  # whoever reads the parts may ask other questions between them, from other threads
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
                _run(connection, _SCHEMA)
                connection.execute("INSERT INTO schema_version VALUES (?)", (_FIRST_VERSION,))
            version = connection.execute("SELECT version FROM schema_version").fetchone()[0]
            if version < SCHEMA_VERSION:
                for script in MIGRATIONS[version - _FIRST_VERSION :]:
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
