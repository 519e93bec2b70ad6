-- {hub} stands for the name of the schema.
CREATE TABLE {hub}.owner (
  epoch       bigint      NOT NULL,
  gate        bigint      NOT NULL,
  holder      text        NOT NULL,
  lease_until timestamptz NOT NULL,
  PRIMARY KEY (epoch, gate)
) WITH (fillfactor = 10);
INSERT INTO {hub}.owner VALUES (0, 0, '', '-infinity');

CREATE TABLE {hub}.instances (
  key           bigint  NOT NULL PRIMARY KEY,
  created_at    bigint  NOT NULL,
  updated_at    bigint  NOT NULL,
  completed_at  bigint  NOT NULL,
  scheduled_at  bigint  NOT NULL,
  due           bigint  NOT NULL,
  partition     integer NOT NULL,
  status        integer NOT NULL,
  attempts      integer NOT NULL,
  parent_task   integer NOT NULL,
  unfinished    boolean NOT NULL,
  id            text    COLLATE "C" NOT NULL UNIQUE,
  parent_id     text    COLLATE "C" NOT NULL,
  parent_exec   bytea   NOT NULL,
  execution_id  bytea   NOT NULL,
  name          bytea   NOT NULL,
  stalled       bytea   NOT NULL,
  version       bytea,
  tags          bytea,
  failure       bytea,
  custom_status bytea,
  input         bytea,
  output        bytea
) WITH (fillfactor = 85);
CREATE INDEX instances_active ON {hub}.instances (key) WHERE unfinished AND due = 0;
CREATE INDEX instances_due ON {hub}.instances (due, key) WHERE unfinished AND due <> 0 AND due <> 9223372036854775807;
CREATE INDEX instances_completed ON {hub}.instances (completed_at, id) WHERE NOT unfinished;
CREATE INDEX instances_parent ON {hub}.instances (parent_id, key) WHERE parent_id <> '';

CREATE TABLE {hub}.history (
  key    bigint NOT NULL,
  lsn    bigint NOT NULL,
  at     bigint NOT NULL,
  events bytea  NOT NULL,
  PRIMARY KEY (key, lsn)
);

CREATE TABLE {hub}.inbox (
  seq   bigint NOT NULL PRIMARY KEY,
  key   bigint NOT NULL,
  event bytea  NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX inbox_key ON {hub}.inbox (key);
