-- +goose Up
-- Times are Unix milliseconds, event times Unix microseconds.

CREATE TABLE log (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    epoch   TEXT    NOT NULL,
    head    BIGINT  NOT NULL, -- a lower bound: the newest events may have been purged
    counted BIGINT  NOT NULL, -- topics' counts hold for events up to here
    secret  TEXT    NOT NULL  -- signs subscriber tokens when no key is configured
);

CREATE TABLE topics (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,
    events          BIGINT  NOT NULL,
    bytes           BIGINT  NOT NULL,
    oldest          BIGINT  NOT NULL, -- commit time of the first event kept
    purged_through  BIGINT  NOT NULL,
    purged_at       BIGINT  NOT NULL,
    counted_through BIGINT  NOT NULL  -- this row's counts hold up to here if that is past log.counted
);

CREATE TABLE watermarks ( -- what forgotten topics had purged, by their rule
    match          TEXT   PRIMARY KEY,
    purged_through BIGINT NOT NULL
);

CREATE TABLE events (
    seq          INTEGER PRIMARY KEY,
    topic        INTEGER NOT NULL,
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
CREATE UNIQUE INDEX events_by_topic ON events (topic, seq);

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
