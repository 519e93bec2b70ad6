package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/postgres"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/server"
)

// fileHubs keeps each task hub in a file of its own, beside that of the
// default one: x.db, and x.<name>.db for the others.
type fileHubs struct {
	db   string
	opts sqlite.SqliteOptions
	log  backend.Logger
}

func (h fileHubs) split() (stem, ext string) {
	ext = filepath.Ext(h.db)
	stem = strings.TrimSuffix(h.db, ext)
	if ext == "" {
		ext = ".db"
	}
	return stem, ext
}

func (h fileHubs) List(context.Context) ([]string, error) {
	stem, ext := h.split()
	files, err := filepath.Glob(escapeGlob(stem) + ".*" + escapeGlob(ext))
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(f, stem+"."), ext))
	}
	return names, err
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (h fileHubs) Open(name string) (backend.Backend, error) {
	stem, ext := h.split()
	opts := h.opts
	opts.FilePath = stem + "." + name + ext
	return sqlite.NewSqliteBackend(&opts, h.log), nil
}

// memoryHubs forget everything when the process ends.
type memoryHubs struct {
	opts sqlite.SqliteOptions
	log  backend.Logger
}

func (memoryHubs) List(context.Context) ([]string, error) { return nil, nil }

func (h memoryHubs) Open(string) (backend.Backend, error) {
	opts := h.opts
	return sqlite.NewSqliteBackend(&opts, h.log), nil
}

// schemaHubs keeps each task hub in a schema of its own: perdure, and perdure__<name> for the others.
type schemaHubs struct {
	opts postgres.PostgresOptions
	log  backend.Logger
}

// A schema's name has no hyphens.
var schemaNames, hubNames = strings.NewReplacer("_", "__", "-", "_h"), strings.NewReplacer("__", "_", "_h", "-")

func (h schemaHubs) prefix() string { return h.opts.Schema + "__" }

func (h schemaHubs) List(ctx context.Context) ([]string, error) {
	schemas, err := postgres.Schemas(ctx, &h.opts, h.prefix())
	var names []string
	for _, s := range schemas {
		names = append(names, hubNames.Replace(strings.TrimPrefix(s, h.prefix())))
	}
	return names, err
}

func (h schemaHubs) Open(name string) (backend.Backend, error) {
	opts := h.opts
	opts.PgOptions = opts.PgOptions.Copy()
	opts.Schema = h.prefix() + schemaNames.Replace(name)
	if len(opts.Schema) > postgres.MaxSchema {
		return nil, fmt.Errorf("its schema %q would be longer than %d", opts.Schema, postgres.MaxSchema)
	}
	return postgres.NewPostgresBackend(&opts, h.log), nil
}

var (
	_ server.Hubs = fileHubs{}
	_ server.Hubs = memoryHubs{}
	_ server.Hubs = schemaHubs{}
)
