package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
)

// output is the form in which a command answers.
type output struct {
	format string
	w      io.Writer
	bare   bool // a table without its head
}

func (o *output) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "table, json or jsonl")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]cobra.Completion{"table", "json", "jsonl"}, cobra.ShellCompDirectiveNoFileComp)) // the flag is there: it cannot fail
}

func (o *output) open(cmd *cobra.Command) error {
	o.w = cmd.OutOrStdout()
	switch o.format {
	case "table", "json", "jsonl":
		return nil
	}
	return usageError{fmt.Errorf("-o %q: want table, json or jsonl", o.format)}
}

// column is one column of a table.
type column[T any] struct {
	name string
	of   func(T) string
}

// rows writes a list whose values come one at a time from all, which calls its
// argument for each. JSON is one array, jsonl a value a line.
func rows[T any](o output, cols []column[T], all func(func(T) error) error) error {
	if o.format == "table" {
		return table(o, cols, all)
	}
	enc, n := json.NewEncoder(o.w), 0
	enc.SetEscapeHTML(false)
	if o.format == "jsonl" {
		return all(func(v T) error { return enc.Encode(v) })
	}
	if _, err := io.WriteString(o.w, "["); err != nil {
		return err
	}
	err := all(func(v T) error {
		if n++; n > 1 {
			if _, err := io.WriteString(o.w, ","); err != nil {
				return err
			}
		}
		return enc.Encode(v)
	})
	if err != nil {
		return err
	}
	_, err = io.WriteString(o.w, "]\n")
	return err
}

func table[T any](o output, cols []column[T], all func(func(T) error) error) error {
	t := tabwriter.NewWriter(o.w, 0, 4, 2, ' ', 0)
	line := func(cell func(column[T]) string) error {
		cells := make([]string, len(cols))
		for i, c := range cols {
			cells[i] = plain(cell(c))
		}
		_, err := fmt.Fprintln(t, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
		return err
	}
	if !o.bare {
		if err := line(func(c column[T]) string { return c.name }); err != nil {
			return err
		}
	}
	n := 0
	err := all(func(v T) error {
		if n++; n%1000 == 0 { // so that a long list begins to show
			if err := t.Flush(); err != nil {
				return err
			}
		}
		return line(func(c column[T]) string { return c.of(v) })
	})
	if err != nil {
		return err
	}
	return t.Flush()
}

// record writes one value: as JSON, or as lines of a name and a value each, without the empty ones.
func record(o output, v any, fields [][2]string) error {
	if o.format != "table" {
		enc := json.NewEncoder(o.w)
		enc.SetEscapeHTML(false)
		if o.format == "json" {
			enc.SetIndent("", "  ")
		}
		return enc.Encode(v)
	}
	t := tabwriter.NewWriter(o.w, 0, 4, 2, ' ', 0)
	for _, f := range fields {
		if f[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(t, "%s\t%s\n", f[0], plain(f[1])); err != nil {
			return err
		}
	}
	return t.Flush()
}

// plain keeps what a terminal would obey out of a text: names and payloads come from anybody.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func short(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

func instanceFields(m *api.OrchestrationMetadata) [][2]string {
	f := [][2]string{
		{"id", string(m.InstanceID)}, {"name", m.Name}, {"version", m.Version}, {"status", api.StatusName(m.RuntimeStatus)},
		{"stalled", m.Stalled}, {"created", stamp(m.CreatedAt)}, {"scheduled", stamp(m.ScheduledStartAt)},
		{"updated", stamp(m.LastUpdatedAt)}, {"completed", stamp(m.CompletedAt)}, {"parent", string(m.ParentInstanceID)},
		{"execution", m.ExecutionID}, {"tags", tags(m.Tags)}, {"input", m.SerializedInput},
		{"custom status", m.SerializedCustomStatus}, {"output", m.SerializedOutput},
	}
	for d := m.FailureDetails; d != nil; d = d.GetInnerFailure() {
		f = append(f, [2]string{"failure", d.GetErrorType() + ": " + d.GetErrorMessage()})
	}
	return f
}

var instanceColumns = []column[*api.OrchestrationMetadata]{
	{"ID", func(m *api.OrchestrationMetadata) string { return string(m.InstanceID) }},
	{"NAME", func(m *api.OrchestrationMetadata) string { return m.Name }},
	{"STATUS", func(m *api.OrchestrationMetadata) string {
		if m.Stalled != "" {
			return "STALLED"
		}
		return api.StatusName(m.RuntimeStatus)
	}},
	{"CREATED", func(m *api.OrchestrationMetadata) string { return stamp(m.CreatedAt) }},
	{"UPDATED", func(m *api.OrchestrationMetadata) string { return stamp(m.LastUpdatedAt) }},
	{"PARENT", func(m *api.OrchestrationMetadata) string { return string(m.ParentInstanceID) }},
}
