package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/perdure/perdure/api/protos"
)

// authority signs certificates for a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, name, true)
	return a
}

// sign writes <name>.pem and <name>.key.
func (a *authority) sign(t *testing.T, name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := c, key
	if !ca {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	a.write(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed, key
}

func (a *authority) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(a.file(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// client is the configuration of a client that trusts the authority, with a certificate where who is not "".
func (a *authority) client(t *testing.T, who string) *tls.Config {
	t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	c.RootCAs.AddCert(a.cert)
	if who != "" {
		pair, err := tls.LoadX509KeyPair(a.file(who+".pem"), a.file(who+".key"))
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

func hello(t *testing.T, addr string, c *tls.Config, token string) error {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(c)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	_, err = protos.NewTaskHubSidecarServiceClient(conn).Hello(ctx, nil)
	return err
}

const token1, token2 = "0123456789abcdef", "fedcba9876543210"

func TestMutualTLSAndTokens(t *testing.T) {
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	ours.sign(t, "server", false)
	ours.sign(t, "worker", false)
	others.sign(t, "stranger", false)
	ours.write(t, "tokens", []byte("# of the workers\n"+token1+"\n\n"))
	b := start(t, "", Options{Security: Security{
		CertFile: ours.file("server.pem"), KeyFile: ours.file("server.key"),
		ClientCAFile: ours.file("ours.pem"), TokenFile: ours.file("tokens"),
	}})
	addr := b.GRPCAddr()
	wantCode(t, "certificate and token", hello(t, addr, ours.client(t, "worker"), token1), codes.OK)
	wantCode(t, "no token", hello(t, addr, ours.client(t, "worker"), ""), codes.Unauthenticated)
	wantCode(t, "a wrong token", hello(t, addr, ours.client(t, "worker"), token2), codes.Unauthenticated)
	wantCode(t, "no certificate", hello(t, addr, ours.client(t, ""), token1), codes.Unavailable)
	strange := ours.client(t, "")
	strange.Certificates = others.client(t, "stranger").Certificates
	wantCode(t, "another's certificate", hello(t, addr, strange, token1), codes.Unavailable)
	_, err := b.client.Hello(t.Context(), nil) // without TLS
	wantCode(t, "no TLS", err, codes.Unavailable)

	get := func(path, who, token string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+b.HTTPAddr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "bearer "+token)
		}
		r, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: ours.client(t, who), DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	for _, tt := range []struct {
		path, who, token string
		want             int
	}{
		{"/healthz", "", "", http.StatusOK},
		{"/readyz", "", "", http.StatusOK},
		{"/metrics", "", token1, http.StatusUnauthorized},
		{"/metrics", "worker", "", http.StatusUnauthorized},
		{"/metrics", "worker", token1, http.StatusOK},
		{"/hubs/default/", "worker", "", http.StatusUnauthorized},
		{"/hubs/default/", "worker", token1, http.StatusOK},
	} {
		if got := get(tt.path, tt.who, tt.token); got != tt.want {
			t.Errorf("%s of %q with token %q: %d, want %d", tt.path, tt.who, tt.token, got, tt.want)
		}
	}

	// Tokens and certificates are replaced while it runs.
	ours.write(t, "tokens", []byte(token2+"\n"))
	later := time.Now().Add(time.Minute) // a file system may not tell times that are close to each other
	if err := os.Chtimes(ours.file("tokens"), later, later); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new token is known", func() bool { return hello(t, addr, ours.client(t, "worker"), token2) == nil })
	wantCode(t, "the old token", hello(t, addr, ours.client(t, "worker"), token1), codes.Unauthenticated)
	next, _ := ours.sign(t, "server", false)
	for _, f := range []string{"server.pem", "server.key"} {
		if err := os.Chtimes(ours.file(f), later, later); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the new certificate is shown", func() bool {
		conn, err := tls.Dial("tcp", b.HTTPAddr(), ours.client(t, "worker"))
		if err != nil {
			return false
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(next.SerialNumber) == 0
	})
}

func TestSecurityRefusals(t *testing.T) {
	a := newAuthority(t, "ca")
	a.sign(t, "server", false)
	a.write(t, "tokens", []byte(token1))
	a.write(t, "empty", []byte("# none\n"))
	a.write(t, "short", []byte("secret\n"))
	cert := Security{CertFile: a.file("server.pem"), KeyFile: a.file("server.key")}
	with := func(change func(*Security)) Security {
		s := cert
		change(&s)
		return s
	}
	for _, tt := range []struct {
		name string
		s    Security
		addr string
		says string // "" where it is allowed
	}{
		{"loopback", Security{}, "127.0.0.1:1", ""},
		{"loopback by name", Security{}, "localhost:1", ""},
		{"loopback, version 6", Security{}, "[::1]:1", ""},
		{"all addresses", Security{}, ":1", "other machines"},
		{"all addresses, TLS alone", cert, ":1", "other machines"},
		{"all addresses, tokens without TLS", Security{TokenFile: a.file("tokens")}, ":1", "other machines"},
		{"all addresses, allowed", Security{Insecure: true}, ":1", ""},
		{"all addresses, TLS and tokens", with(func(s *Security) { s.TokenFile = a.file("tokens") }), ":1", ""},
		{"all addresses, both certificates", with(func(s *Security) { s.ClientCAFile = a.file("ca.pem") }), ":1", ""},
		{"no key", Security{CertFile: a.file("server.pem")}, "127.0.0.1:1", "both"},
		{"no certificate file", Security{CertFile: "x", KeyFile: "y"}, "127.0.0.1:1", "certificate"},
		{"clients without TLS", Security{ClientCAFile: a.file("ca.pem")}, "127.0.0.1:1", "TLS"},
		{"no authority in the file", with(func(s *Security) { s.ClientCAFile = a.file("tokens") }), "127.0.0.1:1", "no certificate"},
		{"no tokens", Security{TokenFile: a.file("empty")}, "127.0.0.1:1", "none"},
		{"a short token", Security{TokenFile: a.file("short")}, "127.0.0.1:1", "line 1"},
		{"no address", Security{}, "nowhere", "listen"},
	} {
		_, err := newGuard(tt.s, tt.addr)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}
