package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/server"
)

// serveFlags are those that serve and dev have in common.
type serveFlags struct {
	db            string
	workerMessage string
	relaxed       bool
	verbose       bool
	logFormat     string
	retention     []string
	opts          server.Options
}

func (f *serveFlags) add(cmd *cobra.Command, db string) {
	flags, o := cmd.Flags(), &f.opts
	flags.StringVar(&f.db, "db", db, "what holds the task hub: a SQLite file, created where it is not there, or a postgres:// URL")
	flags.StringVar(&o.GRPC, "grpc", "127.0.0.1:4001", "address for clients and workers")
	flags.StringVar(&o.HTTP, "http", "127.0.0.1:4002", "address for the dashboard, health checks and metrics")
	flags.DurationVar(&o.Drain, "drain", 10*time.Second, "how long a stopping server lets workers finish what they have")
	flags.StringSliceVar(&o.HubNames, "hubs", nil, "names of further task hubs that clients may use (default any)")
	flags.IntVar(&o.MaxHubs, "max-hubs", 100, "how many further task hubs may be open")
	flags.StringVar(&f.workerMessage, "worker-message", "4MiB", "the largest gRPC message that all your workers accept; payloads are bounded by three quarters of it")
	flags.DurationVar(&o.ActivityTimeout, "activity-timeout", 0, "after how long an unanswered activity goes to another worker (default never)")
	flags.BoolVar(&f.relaxed, "relaxed-durability", false, "do not wait for the disk at each commit: a power failure may lose the last ones")
	flags.StringArrayVar(&f.retention, "retention", nil, "how long to keep finished instances, such as completed=7d, failed,terminated=30d or all@Order=90d; the first that matches counts")
	flags.StringVar(&o.Security.CertFile, "tls-cert", "", "certificate chain of the server, PEM; turns TLS on")
	flags.StringVar(&o.Security.KeyFile, "tls-key", "", "key of the certificate, PEM")
	flags.StringVar(&o.Security.ClientCAFile, "tls-client-ca", "", "authorities, PEM, of which clients must have a certificate")
	flags.StringVar(&o.Security.TokenFile, "token-file", "", "bearer tokens, one a line, of which clients must send one; 'perdure token' makes lines with a name, roles and hubs")
	flags.StringVar(&o.Security.AuditFile, "audit-log", "", "file that takes a line of JSON for everything that is changed: by whom, what and why")
	flags.BoolVar(&o.Security.Insecure, "insecure", false, "allow addresses that other machines reach without TLS and without proof")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log what happens to single work items")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve task hubs to clients and workers",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, store, err := f.prepare(cmd.ErrOrStderr())
			if err != nil {
				return usageError{err}
			}
			be, hubs, err := openStore(f.db, store, log)
			if err != nil {
				return err
			}
			return f.run(cmd, be, hubs, nil)
		},
	}
	f.add(cmd, "./perdure.db")
	configurable(cmd)
	return cmd
}

// prepare makes what a server needs from the flags.
func (f *serveFlags) prepare(stderr io.Writer) (log backend.Logger, store storeOptions, err error) {
	handler := &slog.HandlerOptions{Level: slog.LevelInfo}
	if f.verbose {
		handler.Level = slog.LevelDebug
	}
	switch f.logFormat {
	case "text":
		log = backend.NewLogger(slog.New(slog.NewTextHandler(stderr, handler)))
	case "json":
		log = backend.NewLogger(slog.New(slog.NewJSONHandler(stderr, handler)))
	default:
		return nil, store, fmt.Errorf("--log-format %q: want text or json", f.logFormat)
	}
	if f.opts.Retention, err = retentionRules(f.retention); err != nil {
		return nil, store, fmt.Errorf("--retention: %w", err)
	}
	size, err := humanize.ParseBytes(f.workerMessage)
	switch {
	case err != nil:
		return nil, store, fmt.Errorf("--worker-message: %w", err)
	case size < 64<<10 || size > 1<<30:
		return nil, store, fmt.Errorf("--worker-message %s: want 64 KiB to 1 GiB", f.workerMessage)
	case f.opts.MaxHubs < 1:
		return nil, store, errors.New("--max-hubs: want at least 1")
	case f.opts.Drain <= 0:
		return nil, store, errors.New("--drain: want more than 0s")
	case f.opts.ActivityTimeout < 0:
		return nil, store, errors.New("--activity-timeout: want 0s or more")
	}
	f.opts.Log, f.opts.MaxWorkItem, f.opts.MaxMessage = log, int(size), max(64<<20, int(size))
	return log, storeOptions{maxPayload: int(size) / 4 * 3, relaxed: f.relaxed}, nil
}

// retentionRules reads rules, of which the environment and a file may give
// several in one, with commas between them.
func retentionRules(texts []string) (rules []backend.RetentionRule, err error) {
	for _, text := range texts {
		one := ""
		for part := range strings.SplitSeq(text, ",") {
			one += part
			if !strings.Contains(part, "=") { // a status, and more to come
				one += ","
				continue
			}
			r, err := backend.ParseRetentionRule(strings.TrimSpace(one))
			if err != nil {
				return nil, err
			}
			rules, one = append(rules, r), ""
		}
		if one != "" {
			return nil, fmt.Errorf("%q is no rule: want status=time, such as completed=7d", strings.TrimSuffix(one, ","))
		}
	}
	return rules, nil
}

// flushTime is how long a stopping server tries to send its last spans.
const flushTime = 3 * time.Second

// run serves until the command's context ends. If begin is not nil it is called once
// the server is ready, and what it returns is called when the server has stopped.
func (f *serveFlags) run(cmd *cobra.Command, be backend.Backend, hubs server.Hubs, begin func(context.Context, *server.Server) func()) error {
	out := cmd.OutOrStdout()
	var s *server.Server
	end := func() {}
	f.opts.Hubs = hubs
	f.opts.OnReady = func() {
		scheme, proof := "http", "anybody on this machine"
		if f.opts.Security.CertFile != "" {
			scheme = "https"
		}
		switch {
		case f.opts.Security.ClientCAFile != "" && f.opts.Security.TokenFile != "":
			proof = "those with a certificate and a token"
		case f.opts.Security.ClientCAFile != "":
			proof = "those with a certificate"
		case f.opts.Security.TokenFile != "":
			proof = "those with a token"
		case f.opts.Security.Insecure:
			proof = "anybody who reaches them"
		}
		where := fmt.Sprint(be) // its name has no password
		if f.db == "" {
			where = "memory"
		}
		fmt.Fprintf(out, "perdure %s, task hub in %s\n", version(), where)
		fmt.Fprintf(out, "gRPC for clients and workers  %s\n", s.GRPCAddr())
		fmt.Fprintf(out, "dashboard, health, metrics    %s://%s\n", scheme, s.HTTPAddr())
		fmt.Fprintf(out, "open to                       %s\n", proof)
		if begin != nil {
			end = begin(cmd.Context(), s)
		}
	}
	tracing, err := newTracing(cmd.Context())
	if err != nil {
		return usageError{err}
	}
	if tracing != nil {
		f.opts.Tracer = tracing
		defer func() { // what it holds is sent; a collector that is gone is not waited for
			last, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), flushTime)
			defer cancel()
			if err := tracing.Shutdown(last); err != nil {
				f.opts.Log.Warnf("the last spans were not sent: %v", err)
			}
		}()
	}
	if s, err = server.New(cmd.Context(), be, f.opts); err != nil {
		return err
	}
	err = s.Run(cmd.Context())
	end()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "stopped")
	return nil
}
