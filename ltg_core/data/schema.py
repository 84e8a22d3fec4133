"""The tables of a workspace: those of the first version, and what was added since."""

from __future__ import annotations

FIRST_VERSION = 1
# Integer keys inside, text ids outside: at a million samples and ten signals the difference is gigabytes.
SCHEMA = """
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

SCHEMA_VERSION = FIRST_VERSION + len(MIGRATIONS)
