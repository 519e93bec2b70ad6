// Package pgtest gives tests a real PostgreSQL server of their own, in a
// temporary folder.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Require is the environment variable that makes tests fail, instead of being
// skipped, where PostgreSQL is not installed; its value is then "require".
const Require = "PERDURE_POSTGRES_TESTS"

// Server is a running server. It ends with the test process, at the latest.
type Server struct {
	Port int

	bin, dir string
	owner    *syscall.Credential // whom the server runs as; nil for the tests' own user
	cmd      *exec.Cmd
	exited   chan error
}

var shared = struct {
	sync.Mutex
	server *Server
	err    error
	begun  bool
}{}

// Main runs the tests of a package and ends the server that they shared.
func Main(m *testing.M) int {
	defer func() {
		if s := shared.server; s != nil {
			s.remove()
		}
	}()
	return m.Run()
}

// Shared returns the server that the tests of a package share, which Main ends. The test
// is skipped where PostgreSQL is not installed.
func Shared(tb testing.TB) *Server {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.begun {
		shared.begun = true
		shared.server, shared.err = begin()
	}
	check(tb, shared.err)
	return shared.server
}

// New returns a server of the test's own, which it may stop and start.
func New(tb testing.TB) *Server {
	tb.Helper()
	s, err := begin()
	check(tb, err)
	tb.Cleanup(s.remove)
	return s
}

func check(tb testing.TB, err error) {
	tb.Helper()
	switch {
	case errors.Is(err, exec.ErrNotFound) && os.Getenv(Require) != "require":
		tb.Skipf("PostgreSQL is not installed (%v); with %s=require this is a failure", err, Require)
	case err != nil:
		tb.Fatal(err)
	}
}

// binaries finds the folder of the newest server.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("initdb: %w", errors.Join(exec.ErrNotFound, err))
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

func begin() (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // the server refuses to run as root
		if s.owner, err = credential("postgres"); err != nil {
			return nil, err
		}
		if err := os.Chown(s.dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return nil, err
		}
	}
	init := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(uerr, gerr)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	return cmd
}

// start runs the server until it ends or the test process does.
func (s *Server) start() error {
	cmd := s.command("postgres", "-D", s.data(), "-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(s.Port),
		"-c", "unix_socket_directories="+s.dir, "-c", "max_connections=200", "-c", "fsync=off", "-c", "shared_buffers=64MB")
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	begun := make(chan error)
	exited := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the death signal is tied to the thread that forks
		defer runtime.UnlockOSThread()
		err := errors.Join(cmd.Start(), log.Close())
		begun <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	if err := <-begun; err != nil {
		return err
	}
	s.cmd, s.exited = cmd, exited
	return s.ready()
}

// ready waits until the server answers.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case eerr := <-s.exited:
			s.exited <- eerr
			out, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("postgres: %w: %s", eerr, tail(out))
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		}
	}
}

func tail(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// URL is a connection string for the database postgres, without a password.
func (s *Server) URL() string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", s.Port)
}

// Stop ends the server as a crash of it would.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		return err
	}
	<-s.exited
	return nil
}

// Start runs a server again that was stopped, on the same port.
func (s *Server) Start() error { return s.start() }

func (s *Server) remove() {
	if s.cmd != nil {
		_ = s.Stop() // it may have been stopped by the test
	}
	_ = os.RemoveAll(s.dir)
}

var schemas struct {
	sync.Mutex
	n int
}

// Schema returns the name of a schema that no other test of the process uses.
func (s *Server) Schema() string {
	schemas.Lock()
	defer schemas.Unlock()
	schemas.n++
	return fmt.Sprintf("hub%d", schemas.n)
}
