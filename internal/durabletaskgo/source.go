package durabletaskgo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/ncruces/go-sqlite3/driver"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// ErrNoHub says that the database has none of the tables of durabletask-go.
var ErrNoHub = errors.New("no task hub of durabletask-go")

// Source is an opened task hub of durabletask-go.
type Source struct{ db *sql.DB }

// Open opens a SQLite file or a postgres:// URL for reading; ErrNoHub.
func Open(ctx context.Context, target string) (*Source, error) {
	var db *sql.DB
	var err error
	if strings.HasPrefix(target, "postgres://") || strings.HasPrefix(target, "postgresql://") {
		db, err = sql.Open("pgx", target)
	} else {
		if _, err := os.Stat(target); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoHub, err)
		}
		db, err = driver.Open("file:" + strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(target) + "?mode=ro")
	}
	if err != nil {
		return nil, err
	}
	s := &Source{db}
	for _, table := range []string{"Instances", "History", "NewEvents", "NewTasks"} {
		var some sql.NullInt64
		if err := db.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT InstanceID FROM `+table+` LIMIT 1) AS few`).Scan(&some); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: table %s: %w", ErrNoHub, table, err), db.Close())
		}
	}
	return s, nil
}

// Close closes the database.
func (s *Source) Close() error { return s.db.Close() }

// Owner is the name and the end of the newest lock that has not expired: a
// process is still at work. "" where there is none.
func (s *Source) Owner(ctx context.Context) (name string, until time.Time, err error) {
	for _, table := range []string{"Instances", "NewTasks"} {
		rows, err := s.db.QueryContext(ctx, //nolint:sqlclosecheck // each closes them
			`SELECT CAST(LockedBy AS TEXT), CAST(LockExpiration AS TEXT) FROM `+table+` WHERE LockedBy IS NOT NULL AND LockExpiration IS NOT NULL`)
		if err != nil {
			return "", until, fmt.Errorf("read locks: %w", err)
		}
		err = each(rows, func() error {
			var by, end string
			if err := rows.Scan(&by, &end); err != nil {
				return err
			}
			t, err := parseTime(end)
			if err == nil && t.After(time.Now()) && t.After(until) {
				name, until = by, t
			}
			return err
		})
		if err != nil {
			return "", until, fmt.Errorf("read locks: %w", err)
		}
	}
	return name, until, nil
}

func each(rows *sql.Rows, f func() error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Orphans counts the events for ids that have no instance.
func (s *Source) Orphans(ctx context.Context) (n int, err error) {
	err = s.db.QueryRowContext(ctx,
		`SELECT count(*) FROM NewEvents WHERE InstanceID NOT IN (SELECT InstanceID FROM Instances)`).Scan(&n)
	return n, err
}

// Each calls f for each instance, in the order of their creation. A bad instance
// is passed to f as an error with what is known of it, and ends nothing.
func (s *Source) Each(ctx context.Context, f func(*api.InstanceBundle, error) error) error {
	all, err := s.instances(ctx)
	if err != nil {
		return fmt.Errorf("read instances: %w", err)
	}
	for _, m := range all {
		b := &api.InstanceBundle{Metadata: m}
		err := s.fill(ctx, b)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := f(b, err); err != nil {
			return err
		}
	}
	return nil
}

func (s *Source) instances(ctx context.Context) ([]*api.OrchestrationMetadata, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT InstanceID, ExecutionID, Name, Version, RuntimeStatus, CAST(CreatedTime AS TEXT),
 CAST(LastUpdatedTime AS TEXT), CAST(CompletedTime AS TEXT), Input, Output, CustomStatus, FailureDetails, ParentInstanceID
 FROM Instances ORDER BY CreatedTime, InstanceID`)
	if err != nil {
		return nil, err
	}
	var all []*api.OrchestrationMetadata
	err = each(rows, func() error {
		var id, execution, name, status, created, updated string
		var version, completed, input, output, custom, parent sql.NullString
		var failure []byte
		if err := rows.Scan(&id, &execution, &name, &version, &status, &created, &updated, &completed,
			&input, &output, &custom, &failure, &parent); err != nil {
			return err
		}
		n, ok := protos.OrchestrationStatus_value["ORCHESTRATION_STATUS_"+status]
		if !ok {
			return fmt.Errorf("%s: unknown status %q", id, status)
		}
		m := &api.OrchestrationMetadata{
			InstanceID: api.InstanceID(id), Name: name, RuntimeStatus: protos.OrchestrationStatus(n), ExecutionID: execution,
			Version: version.String, SerializedInput: input.String, SerializedOutput: output.String,
			SerializedCustomStatus: custom.String, ParentInstanceID: api.InstanceID(parent.String),
		}
		var err error
		m.CreatedAt, err = parseTime(created)
		for _, t := range []struct {
			text string
			to   *time.Time
		}{{updated, &m.LastUpdatedAt}, {completed.String, &m.CompletedAt}} {
			var terr error
			*t.to, terr = parseTime(t.text)
			err = errors.Join(err, terr)
		}
		if len(failure) > 0 {
			m.FailureDetails = &protos.TaskFailureDetails{}
			err = errors.Join(err, proto.Unmarshal(failure, m.FailureDetails))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		all = append(all, m)
		return nil
	})
	return all, err
}

func (s *Source) events(ctx context.Context, table, id string) (all []*protos.HistoryEvent, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT EventPayload FROM `+table+` WHERE InstanceID = $1 ORDER BY SequenceNumber`, id) //nolint:sqlclosecheck // each closes them
	if err != nil {
		return nil, err
	}
	err = each(rows, func() error {
		var data []byte
		if err := rows.Scan(&data); err != nil {
			return err
		}
		e := &protos.HistoryEvent{}
		if err := proto.Unmarshal(data, e); err != nil {
			return fmt.Errorf("event %d in %s: %w", len(all), table, err)
		}
		mend(e.ProtoReflect())
		all = append(all, e)
		return nil
	})
	return all, err
}

// fill reads what belongs to an instance.
func (s *Source) fill(ctx context.Context, b *api.InstanceBundle) (err error) {
	m := b.Metadata
	if b.History, err = s.events(ctx, "History", string(m.InstanceID)); err != nil {
		return err
	}
	var inbox []*protos.HistoryEvent
	if !m.IsComplete() {
		if inbox, err = s.events(ctx, "NewEvents", string(m.InstanceID)); err != nil {
			return err
		}
	}
	for _, e := range inbox {
		if e.GetTimerFired() == nil {
			b.Inbox = append(b.Inbox, raised(e))
		}
	}
	for _, e := range append(b.History[:len(b.History):len(b.History)], b.Inbox...) {
		start := e.GetExecutionStarted()
		if start == nil {
			continue
		}
		m.ScheduledStartAt = asTime(start.GetScheduledStartTimestamp())
		if m.Tags = start.GetTags(); m.Version == "" {
			m.Version = start.GetVersion().GetValue()
		}
		if id := start.GetOrchestrationInstance().GetExecutionId().GetValue(); id != "" {
			m.ExecutionID = id
		}
		if p := start.GetParentInstance(); p != nil { // its column was never written
			m.ParentInstanceID = api.InstanceID(p.GetOrchestrationInstance().GetInstanceId())
			b.ParentTaskID, b.ParentExecutionID = p.GetTaskScheduledId(), p.GetOrchestrationInstance().GetExecutionId().GetValue()
		}
		break
	}
	return nil
}
