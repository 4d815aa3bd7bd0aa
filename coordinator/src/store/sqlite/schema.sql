-- Bodies, checkpoints and attempts have tables of their own: SQLite rewrites a whole row on every update, and a renewal
-- must not write a 200 kB body.

CREATE TABLE run (
    key         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    recipe      TEXT NOT NULL,
    recipe_hash TEXT NOT NULL,
    seed        INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    model       TEXT NOT NULL,
    judge       TEXT NOT NULL,
    max_open    INTEGER NOT NULL,
    paused      INTEGER NOT NULL,
    cancelling  INTEGER NOT NULL DEFAULT 0,
    next_seq    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX run_by_age ON run (created_ms, id);

CREATE TABLE document (
    key         INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE,
    run         INTEGER NOT NULL REFERENCES run (key),
    seq         INTEGER NOT NULL,
    state       TEXT NOT NULL,
    reason      TEXT NOT NULL DEFAULT '',
    version     INTEGER NOT NULL DEFAULT 1,
    mark        INTEGER NOT NULL,
    changed_ms  INTEGER NOT NULL,
    open        INTEGER NOT NULL DEFAULT 0,
    judge       INTEGER NOT NULL DEFAULT 0,
    due_ms      INTEGER NOT NULL DEFAULT 0,
    errors      INTEGER NOT NULL DEFAULT 0,
    losses      INTEGER NOT NULL DEFAULT 0,
    releases    INTEGER NOT NULL DEFAULT 0,
    flushed     INTEGER NOT NULL DEFAULT 0,
    -- The live lease: all null or none.
    lease       BLOB,
    worker      TEXT,
    granted_ms  INTEGER,
    expires_ms  INTEGER,
    progress    INTEGER,
    progress_ms INTEGER,
    -- The lease committed last, and the one that this commit granted.
    last_lease  BLOB,
    next_lease  BLOB,
    -- Fingerprint of the swap that led to this version, if one did.
    swap        BLOB
) STRICT;
CREATE UNIQUE INDEX document_by_seq ON document (run, seq);
CREATE UNIQUE INDEX document_by_mark ON document (run, mark);
CREATE INDEX document_by_state ON document (run, state, seq);
CREATE INDEX document_by_reason ON document (run, state, reason, seq);
CREATE INDEX document_ready ON document (run, judge, open DESC, seq) WHERE state = 'ready';
CREATE INDEX document_delayed ON document (run, due_ms) WHERE state = 'delayed';
CREATE INDEX document_expiring ON document (expires_ms) WHERE state = 'leased';
CREATE INDEX document_stalling ON document (progress_ms) WHERE state = 'leased';
-- More columns than its condition needs, or the planner would walk document_by_state past all that are flushed.
CREATE INDEX document_unflushed ON document (run, state, flushed, seq) WHERE state = 'accepted' AND flushed = 0;
CREATE UNIQUE INDEX document_by_lease ON document (lease) WHERE lease IS NOT NULL;
CREATE INDEX document_by_last_lease ON document (last_lease) WHERE last_lease IS NOT NULL;

CREATE TABLE body (
    document INTEGER PRIMARY KEY REFERENCES document (key),
    text     TEXT NOT NULL
) STRICT;

CREATE TABLE checkpoint (
    document INTEGER PRIMARY KEY REFERENCES document (key),
    json     TEXT NOT NULL
) STRICT;

CREATE TABLE attempt (
    key        INTEGER PRIMARY KEY,
    document   INTEGER NOT NULL REFERENCES document (key),
    lease      BLOB NOT NULL,
    worker     TEXT NOT NULL,
    granted_ms INTEGER NOT NULL,
    ended_ms   INTEGER NOT NULL,
    how        TEXT NOT NULL,
    detail     TEXT NOT NULL
) STRICT;
CREATE INDEX attempt_by_document ON attempt (document, key);

-- Revisions: what a document was before each requeue.
CREATE TABLE past (
    key      INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES document (key),
    version  INTEGER NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    body     TEXT NOT NULL
) STRICT;
CREATE INDEX past_by_document ON past (document, key);

-- The leases that a request was granted, so that it can be repeated.
CREATE TABLE request (
    key        INTEGER PRIMARY KEY,
    worker     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    lease      BLOB NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX request_by_id ON request (worker, request_id, key);
CREATE INDEX request_by_expiry ON request (expires_ms);

-- The latest heartbeat of each worker.
CREATE TABLE worker (
    id      TEXT PRIMARY KEY,
    report  TEXT NOT NULL,
    seen_ms INTEGER NOT NULL,
    drain   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX worker_by_age ON worker (seen_ms);

-- The audit log; run 0 stands for the workers.
CREATE TABLE action (
    key  INTEGER PRIMARY KEY,
    run  INTEGER NOT NULL,
    json TEXT NOT NULL
) STRICT;
CREATE INDEX action_by_run ON action (run, key);

-- Documents by state, counted at each change.
CREATE TABLE tally (
    run   INTEGER NOT NULL REFERENCES run (key),
    state TEXT NOT NULL,
    n     INTEGER NOT NULL,
    PRIMARY KEY (run, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tally_insert AFTER INSERT ON document BEGIN
    INSERT INTO tally (run, state, n) VALUES (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER tally_update AFTER UPDATE OF state ON document WHEN old.state <> new.state BEGIN
    UPDATE tally SET n = n - 1 WHERE run = old.run AND state = old.state;
    INSERT INTO tally (run, state, n) VALUES (new.run, new.state, 1)
        ON CONFLICT (run, state) DO UPDATE SET n = n + 1;
END;
