package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/client"
)

// finding is what the doctor says of one thing.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // good, look or bad
	Says  string `json:"says"`
}

var findingColumns = []column[finding]{
	{"STATE", func(f finding) string { return f.State }},
	{"CHECK", func(f finding) string { return f.Check }},
	{"SAYS", func(f finding) string { return f.Says }},
}

// doctor collects findings.
type doctor struct{ all []finding }

func (d *doctor) good(check, format string, a ...any) { d.add("good", check, format, a...) }
func (d *doctor) look(check, format string, a ...any) { d.add("look", check, format, a...) }
func (d *doctor) bad(check, format string, a ...any)  { d.add("bad", check, format, a...) }

func (d *doctor) add(state, check, format string, a ...any) {
	d.all = append(d.all, finding{check, state, fmt.Sprintf(format, a...)})
}

func newDoctor() *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong with a server, or with a database", Args: noArgs,
		Long: `Look for what is wrong with a server, or with a database (--db): whether it answers,
who works for it, what the oldest unfinished instances wait for; or the file, its lock, its
schema, and how fast and how full its disk is. The exit code is 1 where something is bad.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			d := &doctor{}
			if t.db == "" {
				if err := t.remote(cmd.Context(), func(c *client.TaskHubGrpcClient) error { return d.server(cmd.Context(), c) }); err != nil {
					return err
				}
			} else if err := d.database(cmd.Context(), t.db); err != nil {
				return err
			}
			bad := 0
			if err := rows(o, findingColumns, func(f func(finding) error) error {
				for _, v := range d.all {
					if v.State == "bad" {
						bad++
					}
					if err := f(v); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return err
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d checks are bad", bad, len(d.all))
			}
			return nil
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	return cmd
}

func (d *doctor) server(ctx context.Context, c *client.TaskHubGrpcClient) error {
	const tries = 5
	best := time.Duration(1<<63 - 1)
	for range tries {
		began := time.Now()
		if err := c.Hello(ctx); err != nil {
			return err
		}
		best = min(best, time.Since(began))
	}
	d.good("answer", "the server answers in %v", best.Round(10*time.Microsecond))
	counts, err := c.CountInstances(ctx, api.InstanceQuery{})
	if err != nil {
		return err
	}
	open := counts[api.RUNTIME_STATUS_PENDING] + counts[api.RUNTIME_STATUS_RUNNING] + counts[api.RUNTIME_STATUS_SUSPENDED]
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	d.good("instances", "%s, of which %s are unfinished and %s failed", humanize.Comma(total), humanize.Comma(open),
		humanize.Comma(counts[api.RUNTIME_STATUS_FAILED]))
	workers, err := c.Workers(ctx)
	if err != nil {
		return err
	}
	d.workers(workers, open)
	return d.oldest(ctx, c)
}

func (d *doctor) workers(workers []api.Worker, open int64) {
	full, late := 0, 0
	for _, w := range workers {
		if w.Orchestrations.Full() || w.Activities.Full() {
			full++
		}
		late += w.Late
	}
	switch {
	case len(workers) == 0 && open > 0:
		d.bad("workers", "none is connected, and %d instances are unfinished", open)
	case len(workers) == 0:
		d.look("workers", "none is connected")
	case full == len(workers):
		d.look("workers", "all %d have all that they take", full)
	default:
		d.good("workers", "%d are connected", len(workers))
	}
	if late > 0 {
		d.look("slow turns", "workers had %d items for longer than their lease", late)
	}
}

// explained is how many of the oldest unfinished instances the doctor asks about.
const explained = 20

// oldest asks the oldest unfinished instances what they wait for.
func (d *doctor) oldest(ctx context.Context, c *client.TaskHubGrpcClient) error {
	page, err := c.Query(ctx, api.InstanceQuery{Statuses: unfinished, PageSize: explained})
	if err != nil {
		return err
	}
	sick := 0
	for _, m := range page.Instances {
		v, err := c.Explain(ctx, m.InstanceID)
		if errors.Is(err, api.ErrInstanceNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		switch v.Reason {
		case api.WaitStalled, api.WaitStore, api.WaitSuspect:
			d.bad("instance "+string(v.InstanceID), "%s", v.Summary)
			sick++
		case api.WaitNoWorker, api.WaitBusy:
			d.look("instance "+string(v.InstanceID), "%s", v.Summary)
			sick++
		}
	}
	if sick == 0 && len(page.Instances) > 0 {
		d.good("oldest instances", "the %d oldest unfinished ones wait for nothing unusual", len(page.Instances))
	}
	return nil
}

func (d *doctor) database(ctx context.Context, db string) error {
	version, latest, err := schemaVersion(ctx, db)
	switch {
	case err != nil:
		return err
	case version == 0:
		d.bad("schema", "there is no task hub in %s", db)
		return nil
	case version > latest:
		d.bad("schema", "it has version %d, this program knows up to %d: use a newer one", version, latest)
		return nil
	case version < latest:
		d.look("schema", "it has version %d, this program will make it %d", version, latest)
	default:
		d.good("schema", "version %d, as this program wants it", version)
	}
	if !isURL(db) {
		if err := d.file(db); err != nil {
			return err
		}
	}
	r, err := openReader(ctx, db)
	if err != nil {
		d.bad("read", "%v", err)
		return nil
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	counts, err := r.CountInstances(ctx, api.InstanceQuery{})
	if err != nil {
		return err
	}
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	d.good("read", "%s instances; 'perdure verify' reads them all", humanize.Comma(total))
	return err
}

// file looks at a SQLite file and its disk.
func (d *doctor) file(db string) error {
	info, err := os.Stat(db)
	if err != nil {
		return err
	}
	dir := filepath.Dir(db)
	if holder, err := os.ReadFile(db + ".lock"); err == nil {
		d.good("lock", "last owned by %s", strings.TrimSpace(string(holder)))
	}
	wal := int64(0)
	if w, err := os.Stat(db + "-wal"); err == nil {
		wal = w.Size()
	}
	d.good("size", "%s, and a log of %s", humanize.IBytes(uint64(info.Size())), humanize.IBytes(uint64(wal)))
	if wal > 1<<30 {
		d.look("log", "it has %s: something reads the file for a long time, and keeps it from being emptied", humanize.IBytes(uint64(wal)))
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil {
		free := fs.Bavail * uint64(fs.Bsize) //nolint:unconvert // its type differs between systems
		say := d.good
		if free < max(1<<30, uint64(info.Size())/10) {
			say = d.bad
		}
		say("disk space", "%s are free", humanize.IBytes(free))
	}
	return d.disk(dir)
}

// disk measures what a durable commit costs at least.
func (d *doctor) disk(dir string) (err error) {
	f, err := os.CreateTemp(dir, ".perdure-doctor-")
	if err != nil {
		d.bad("disk speed", "%v", err)
		return nil
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	const syncs = 50
	began, block := time.Now(), make([]byte, 4096)
	for range syncs {
		if _, err := f.Write(block); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	each := time.Since(began) / syncs
	say := d.good
	if each > 10*time.Millisecond {
		say = d.look
	}
	say("disk speed", "a sync takes %v: about %d durable commits a second, one after the other", each.Round(10*time.Microsecond), int(time.Second/max(each, 1)))
	return nil
}
