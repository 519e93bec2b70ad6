-- +goose Up
CREATE TABLE meta (
  one   INTEGER PRIMARY KEY CHECK (one = 1),
  epoch INTEGER NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 0);

CREATE TABLE instances (
  key           INTEGER PRIMARY KEY,
  id            TEXT    NOT NULL UNIQUE,
  partition     INTEGER NOT NULL,
  execution_id  TEXT    NOT NULL,
  name          TEXT    NOT NULL,
  version       TEXT,
  status        INTEGER NOT NULL,
  unfinished    INTEGER NOT NULL,
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL,
  completed_at  INTEGER NOT NULL,
  scheduled_at  INTEGER NOT NULL,
  due           INTEGER NOT NULL,
  attempts      INTEGER NOT NULL,
  parent_id     TEXT    NOT NULL,
  parent_exec   TEXT    NOT NULL,
  parent_task   INTEGER NOT NULL,
  tags          BLOB,
  failure       BLOB,
  stalled       TEXT    NOT NULL,
  custom_status TEXT,
  input         TEXT,
  output        TEXT
) STRICT;
CREATE INDEX instances_active ON instances (key) WHERE unfinished = 1 AND due = 0;
CREATE INDEX instances_due ON instances (due, key) WHERE unfinished = 1 AND due <> 0 AND due <> 9223372036854775807;
CREATE INDEX instances_completed ON instances (completed_at, id) WHERE unfinished = 0;
CREATE INDEX instances_parent ON instances (parent_id, key) WHERE parent_id <> '';

CREATE TABLE history (
  lsn    INTEGER PRIMARY KEY,
  key    INTEGER NOT NULL,
  at     INTEGER NOT NULL,
  events BLOB    NOT NULL
) STRICT;
CREATE INDEX history_key ON history (key);

CREATE TABLE inbox (
  seq   INTEGER PRIMARY KEY,
  key   INTEGER NOT NULL,
  event BLOB    NOT NULL
) STRICT;
CREATE INDEX inbox_key ON inbox (key);

-- +goose Down
DROP TABLE inbox;
DROP TABLE history;
DROP TABLE instances;
DROP TABLE meta;
