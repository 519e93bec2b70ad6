package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Security says who may connect. The zero value lets anybody on this machine, and nobody else.
type Security struct {
	// CertFile and KeyFile turn TLS on. The files are read again when they change.
	CertFile, KeyFile string
	// ClientCAFile has clients prove who they are with a certificate of one of these authorities.
	ClientCAFile string
	// TokenFile lists bearer tokens, one a line, of which clients must send one: the
	// token or "sha256:" and its hash in hexadecimal, and, with spaces between, name=,
	// role= (reader, operator, worker or admin; several with commas; all without) and
	// hubs= (the task hubs that it is for; all without). Lines that begin with # are
	// comments. The file is read again when it changes.
	TokenFile string
	// AuditFile takes a line of JSON for each call, and each page, that changes something.
	AuditFile string
	// Insecure allows addresses that other machines can reach without TLS and without proof.
	Insecure bool
}

// minToken is the least length of a token: shorter ones can be guessed.
const minToken = 16

// guard is a Security at work.
type guard struct {
	Security
	certs, tokens *watchedFile
	clientCAs     *x509.CertPool

	mu    sync.Mutex
	cert  *tls.Certificate
	known []*identity
}

func newGuard(s Security, addrs ...string) (*guard, error) {
	g := &guard{Security: s}
	if (s.CertFile == "") != (s.KeyFile == "") {
		return nil, errors.New("TLS needs both a certificate and its key")
	}
	if s.ClientCAFile != "" {
		if s.CertFile == "" {
			return nil, errors.New("certificates of clients need TLS")
		}
		pem, err := os.ReadFile(s.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("authorities of clients: %w", err)
		}
		if g.clientCAs = x509.NewCertPool(); !g.clientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("authorities of clients: %s has no certificate", s.ClientCAFile)
		}
	}
	if s.CertFile != "" {
		g.certs = &watchedFile{paths: []string{s.CertFile, s.KeyFile}}
		if _, err := g.certificate(); err != nil {
			return nil, err
		}
	}
	if s.TokenFile != "" {
		g.tokens = &watchedFile{paths: []string{s.TokenFile}}
		if _, err := g.valid(); err != nil {
			return nil, err
		}
	}
	for _, addr := range addrs {
		if err := g.allows(addr); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// allows refuses addresses that others can reach unless they must prove who they are.
func (g *guard) allows(addr string) error {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if tcp.IP.IsLoopback() || g.Insecure || g.certs != nil && (g.clientCAs != nil || g.tokens != nil) {
		return nil
	}
	return fmt.Errorf("other machines can reach %s: that needs TLS, and either certificates of clients or tokens; or say that it may be insecure", addr)
}

// certificate is the one of the files as they are now.
func (g *guard) certificate() (*tls.Certificate, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.certs.changed() {
		cert, err := tls.LoadX509KeyPair(g.CertFile, g.KeyFile)
		if err != nil {
			if g.cert == nil {
				return nil, fmt.Errorf("certificate: %w", err)
			}
			return g.cert, nil // the files are being replaced
		}
		g.cert = &cert
	}
	return g.cert, nil
}

// valid are those whom the token file names as it is now.
func (g *guard) valid() ([]*identity, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.tokens.changed() {
		return g.known, nil
	}
	data, err := os.ReadFile(g.TokenFile)
	if err != nil {
		if g.known != nil {
			return g.known, nil // the file is being replaced
		}
		return nil, fmt.Errorf("tokens: %w", err)
	}
	var known []*identity
	for n, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i, lerr := parseToken(line)
		if lerr != nil {
			err = errors.Join(err, fmt.Errorf("tokens: line %d of %s: %w", n+1, g.TokenFile, lerr))
			continue
		}
		known = append(known, i)
	}
	if len(known) == 0 && err == nil {
		err = fmt.Errorf("tokens: %s has none", g.TokenFile)
	}
	if err != nil && g.known == nil {
		return nil, err
	}
	g.known = known // what is wrong with a changed file lets nobody in who is not in it
	return known, nil
}

// bearer returns whose token an Authorization header has; nil for nobody's.
func (g *guard) bearer(authorization string) *identity {
	kind, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(kind, "Bearer") {
		return nil
	}
	return g.owner(token)
}

// visitor is bearer for HTTP, where a browser may also give the token as a
// password, whatever the name beside it.
func (g *guard) visitor(r *http.Request) *identity {
	if _, token, ok := r.BasicAuth(); ok {
		return g.owner(token)
	}
	return g.bearer(r.Header.Get("Authorization"))
}

func (g *guard) owner(token string) *identity {
	known, err := g.valid()
	if err != nil {
		return nil
	}
	return find(known, token)
}

// tls is the configuration of a listener; nil for one without TLS. Where
// certificates of clients are wanted, they are demanded of those who must have one.
func (g *guard) tls(clients tls.ClientAuthType) *tls.Config {
	if g.certs == nil {
		return nil
	}
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return g.certificate() },
	}
	if g.clientCAs != nil {
		c.ClientCAs, c.ClientAuth = g.clientCAs, clients
	}
	return c
}

const healthService = "/grpc.health.v1.Health/"

// admit refuses calls without a valid token, and those that the token is not
// for, before anything is done for them. Health checks need none.
func (g *guard) admit(ctx context.Context, call *tap.Info) (context.Context, error) {
	if g.tokens == nil || strings.HasPrefix(call.FullMethodName, healthService) {
		return ctx, nil
	}
	for _, a := range call.Header.Get("authorization") {
		i := g.bearer(a)
		if i == nil {
			continue
		}
		hub := strings.ToLower(strings.Join(call.Header.Get(hubKey), ","))
		if hub == "" {
			hub = defaultHub
		}
		role := roleFor(call.FullMethodName)
		switch {
		case role != "" && !i.has(role):
			return nil, status.Errorf(codes.PermissionDenied, "the token of %q has not the role %s", i.name, role)
		case role != "" && !i.sees(hub):
			return nil, status.Errorf(codes.PermissionDenied, "the token of %q is not for task hub %q", i.name, hub)
		}
		return context.WithValue(ctx, identityKey{}, i), nil
	}
	return nil, status.Error(codes.Unauthenticated, "a valid bearer token is needed")
}

// protect refuses HTTP requests without the proof that gRPC calls need.
func (g *guard) protect(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i := anybody
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			i = &identity{name: r.TLS.VerifiedChains[0][0].Subject.CommonName}
		}
		if g.tokens != nil {
			i = g.visitor(r)
		}
		switch hub := hubOfPath(r.URL.Path); {
		case g.clientCAs != nil && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0):
			answer(w, http.StatusUnauthorized, "a certificate is needed")
		case i == nil:
			w.Header().Add("WWW-Authenticate", "Bearer")
			w.Header().Add("WWW-Authenticate", `Basic realm="a token is the password", charset="UTF-8"`)
			answer(w, http.StatusUnauthorized, "a valid bearer token is needed")
		case !i.has(roleForHTTP(r)):
			answer(w, http.StatusForbidden, "the token has not the role "+roleForHTTP(r))
		case hub != "" && !i.sees(hub):
			answer(w, http.StatusForbidden, "the token is not for this task hub")
		default:
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, i)))
		}
	})
}

// watchedFile notices when files change.
type watchedFile struct {
	paths []string
	seen  []time.Time
	asked time.Time
}

// changed reports whether a file was written since the last call that said so.
// It looks once a second at most.
func (f *watchedFile) changed() bool {
	if time.Since(f.asked) < time.Second {
		return false
	}
	f.asked = time.Now()
	var now []time.Time
	for _, p := range f.paths {
		if info, err := os.Stat(p); err == nil {
			now = append(now, info.ModTime())
		}
	}
	for i, at := range now {
		if i >= len(f.seen) || !at.Equal(f.seen[i]) {
			f.seen = now
			return true
		}
	}
	if len(f.seen) == 0 {
		f.seen = now
		return true
	}
	return false
}
