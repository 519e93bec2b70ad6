package postgres

import (
	"strings"
)

// planning keeps the planner from scanning whole tables: a plan that was made
// and cached while a table was empty would be used for long after. It lasts to
// the end of the transaction, so that nothing is left behind in a session.
const planning = `set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)`

// An instance is as new as the newest of its row and its turns.
const (
	columns = `key, id, partition, execution_id, name, version, status, unfinished, created_at,
 greatest(updated_at, (SELECT at FROM {hub}.history h WHERE h.key = i.key ORDER BY h.lsn DESC LIMIT 1)),
 completed_at, scheduled_at, due, attempts, parent_id, parent_exec, parent_task, tags, failure, stalled`
	payloads   = `, custom_status, input, output`
	noPayloads = `, NULL::bytea, NULL::bytea, NULL::bytea`
)

// statements are the texts with the schema's name put in.
type statements struct {
	plan                                            string
	fence, fenceRelaxed, acquire, renew, give, gate string
	held, lockOwner                                 string
	deleteInstances, deleteHistory, deleteInbox     string
	truncate, insert, update                        string
	history, inbox, consume                         string
	hasHistory, hasInstance, hasInbox               string
	byID, byKey, readHistory, readInbox             string
	active, due, query, queryPayloads               string
}

func newStatements(schema string) statements {
	in := func(sql string) string { return strings.ReplaceAll(sql, "{hub}", schema) }
	fence := func(durability string) string {
		return in(`SELECT 1/count(*), set_config('synchronous_commit', ` + durability + `, true), ` + planning + `
FROM (SELECT 1 FROM {hub}.owner WHERE epoch = $1 AND gate = $2 FOR KEY SHARE) o`)
	}
	return statements{
		plan:         `SELECT ` + planning,
		fence:        fence(`CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END`),
		fenceRelaxed: fence(`'off'`),
		acquire: in(`UPDATE {hub}.owner SET epoch = epoch + 1, gate = 0, holder = $1,
 lease_until = clock_timestamp() + $2::bigint * interval '1 microsecond'
WHERE lease_until < clock_timestamp() RETURNING epoch`),
		held:      in(`SELECT holder FROM {hub}.owner`),
		renew:     in(`UPDATE {hub}.owner SET lease_until = clock_timestamp() + $2::bigint * interval '1 microsecond' WHERE epoch = $1`),
		give:      in(`UPDATE {hub}.owner SET lease_until = '-infinity' WHERE epoch = $1`),
		gate:      in(`UPDATE {hub}.owner SET gate = gate + 1 WHERE epoch = $1 RETURNING gate`),
		lockOwner: in(`SELECT holder, lease_until > clock_timestamp() FROM {hub}.owner FOR UPDATE`),

		deleteInstances: in(`DELETE FROM {hub}.instances WHERE key = ANY($1::bigint[])`),
		deleteHistory:   in(`DELETE FROM {hub}.history WHERE key = ANY($1::bigint[])`),
		deleteInbox:     in(`DELETE FROM {hub}.inbox WHERE key = ANY($1::bigint[])`),
		truncate: in(`DELETE FROM {hub}.history h USING unnest($1::bigint[], $2::bigint[]) AS t (key, before)
WHERE h.key = t.key AND h.lsn < t.before`),
		insert: in(`INSERT INTO {hub}.instances (key, id, partition, execution_id, name, version, status, unfinished, created_at, updated_at,
 completed_at, scheduled_at, due, attempts, parent_id, parent_exec, parent_task, tags, failure, stalled, custom_status, input, output)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::integer[], $4::bytea[], $5::bytea[], $6::bytea[], $7::integer[], $8::boolean[],
 $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::integer[], $15::text[], $16::bytea[], $17::integer[],
 $18::bytea[], $19::bytea[], $20::bytea[], $21::bytea[], $22::bytea[], $23::bytea[])`),
		update: in(`UPDATE {hub}.instances i SET (execution_id, name, version, status, unfinished, updated_at, completed_at, scheduled_at,
 due, attempts, tags, failure, stalled, custom_status, input, output) = (u.execution_id, u.name, u.version, u.status, u.unfinished,
 u.updated_at, u.completed_at, u.scheduled_at, u.due, u.attempts, u.tags, u.failure, u.stalled, u.custom_status, u.input, u.output)
FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::integer[], $6::boolean[], $7::bigint[], $8::bigint[], $9::bigint[],
 $10::bigint[], $11::integer[], $12::bytea[], $13::bytea[], $14::bytea[], $15::bytea[], $16::bytea[], $17::bytea[])
 AS u (key, execution_id, name, version, status, unfinished, updated_at, completed_at, scheduled_at,
 due, attempts, tags, failure, stalled, custom_status, input, output)
WHERE i.key = u.key`),
		history: in(`INSERT INTO {hub}.history (key, lsn, at, events)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])`),
		inbox:   in(`INSERT INTO {hub}.inbox (seq, key, event) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])`),
		consume: in(`DELETE FROM {hub}.inbox WHERE seq = ANY($1::bigint[])`),

		hasHistory:  in(`SELECT EXISTS (SELECT FROM {hub}.history WHERE key = $1 AND lsn = $2)`),
		hasInstance: in(`SELECT EXISTS (SELECT FROM {hub}.instances WHERE key = $1)`),
		hasInbox:    in(`SELECT EXISTS (SELECT FROM {hub}.inbox WHERE seq = $1)`),

		byID:        in(`SELECT ` + columns + payloads + ` FROM {hub}.instances i WHERE id = $1`),
		byKey:       in(`SELECT ` + columns + payloads + ` FROM {hub}.instances i WHERE key = $1`),
		readHistory: in(`SELECT lsn, at, events FROM {hub}.history WHERE key = $1 AND lsn > $2 ORDER BY lsn LIMIT $3`),
		readInbox:   in(`SELECT seq, event FROM {hub}.inbox WHERE key = $1 ORDER BY seq`),
		active: in(`(SELECT key FROM {hub}.instances WHERE unfinished AND due = 0 AND key > $1 ORDER BY key LIMIT $2)
UNION
(SELECT DISTINCT m.key FROM {hub}.inbox m JOIN {hub}.instances i ON i.key = m.key WHERE m.key > $1 ORDER BY m.key LIMIT $2)
ORDER BY key LIMIT $2`),
		due: in(`SELECT due, key FROM {hub}.instances WHERE unfinished AND due <> 0 AND due <> 9223372036854775807
 AND (due, key) > ($1, $2) ORDER BY due, key LIMIT $3`),
		query:         in(`SELECT ` + columns + noPayloads + ` FROM {hub}.instances i WHERE `),
		queryPayloads: in(`SELECT ` + columns + payloads + ` FROM {hub}.instances i WHERE `),
	}
}
