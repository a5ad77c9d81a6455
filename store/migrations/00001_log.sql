-- +goose Up
-- Times are Unix milliseconds, event times Unix microseconds.

CREATE TABLE log (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    epoch   TEXT    NOT NULL,
    head    BIGINT  NOT NULL, -- a lower bound: the newest events may have been purged
    saved   BIGINT  NOT NULL, -- topics' rows hold for events up to here
    garbage BIGINT  NOT NULL, -- rows of events that are purged and not yet deleted
    topics  BIGINT  NOT NULL, -- the greatest id of a topic that was forgotten: none is given twice
    secret  TEXT    NOT NULL  -- signs subscriber tokens when no key is configured
);

CREATE TABLE topics (
    id             INTEGER PRIMARY KEY,
    name           TEXT    NOT NULL UNIQUE,
    head           BIGINT  NOT NULL, -- seq, ordinal and total of its newest event
    ordinal        BIGINT  NOT NULL,
    total          BIGINT  NOT NULL,
    purged_through BIGINT  NOT NULL, -- the same of the newest event purged
    purged_ordinal BIGINT  NOT NULL,
    purged_total   BIGINT  NOT NULL,
    purged_at      BIGINT  NOT NULL,
    oldest         BIGINT  NOT NULL  -- commit time of the first event kept
);

CREATE TABLE watermarks ( -- what forgotten topics had purged, by their rule
    match          TEXT   PRIMARY KEY,
    purged_through BIGINT NOT NULL
);

CREATE TABLE events (
    seq          INTEGER PRIMARY KEY,
    topic        INTEGER NOT NULL,
    prev         BIGINT  NOT NULL, -- seq of the topic's event before, see DESIGN.md
    jump         BIGINT  NOT NULL, -- seq of one further back
    ordinal      BIGINT  NOT NULL, -- 1 for the topic's first event
    total        BIGINT  NOT NULL, -- bytes of the topic's data up to here
    committed    BIGINT  NOT NULL,
    time         BIGINT  NOT NULL,
    id           TEXT    NOT NULL,
    source       TEXT    NOT NULL,
    type         TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    content_type TEXT    NOT NULL,
    extensions   TEXT    NOT NULL,
    data         BLOB
);

CREATE TABLE seen ( -- dedupe keys, with an age of their own
    seq INTEGER PRIMARY KEY,
    at  BIGINT  NOT NULL,
    key BLOB    NOT NULL
);
CREATE UNIQUE INDEX seen_by_key ON seen (key);

CREATE TABLE checkpoints (
    watch TEXT PRIMARY KEY,
    state BLOB NOT NULL
);

CREATE TABLE tokens (
    hash     BLOB   PRIMARY KEY,
    name     TEXT   NOT NULL,
    scopes   TEXT   NOT NULL,
    patterns TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL -- 0: never
);
