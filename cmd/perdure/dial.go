package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// dialFlags say how a command proves who it is, and which hub of the server it means.
type dialFlags struct {
	hub, ca, cert, key, tokenFile string
	tls                           bool
}

func (f *dialFlags) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.hub, "hub", os.Getenv("PERDURE_HUB"), "task hub of the server (PERDURE_HUB, default its default one)")
	fl.BoolVar(&f.tls, "tls", false, "connect with TLS, and trust the authorities that this machine trusts")
	fl.StringVar(&f.ca, "tls-ca", os.Getenv("PERDURE_TLS_CA"), "authorities, PEM, to trust; turns TLS on (PERDURE_TLS_CA)")
	fl.StringVar(&f.cert, "tls-cert", "", "certificate of this client, PEM; turns TLS on")
	fl.StringVar(&f.key, "tls-key", "", "key of that certificate, PEM")
	fl.StringVar(&f.tokenFile, "token-file", "", "file with the bearer token to send (or the token itself in PERDURE_TOKEN)")
}

func (f *dialFlags) connect(addr string) (*grpc.ClientConn, error) {
	secure := f.tls || f.ca != "" || f.cert != ""
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if secure {
		conf, err := f.config()
		if err != nil {
			return nil, err
		}
		opts[0] = grpc.WithTransportCredentials(credentials.NewTLS(conf))
	}
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	if token != "" && !secure && !loopback(addr) {
		return nil, fmt.Errorf("a token is not sent to %s without TLS: add --tls or --tls-ca", addr)
	}
	opts = append(opts, grpc.WithPerRPCCredentials(headers{hub: f.hub, token: token}))
	cc, err := grpc.NewClient(addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("--server: %w", err)
	}
	return cc, nil
}

func (f *dialFlags) config() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		if conf.RootCAs = x509.NewCertPool(); !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: %s has no certificate", f.ca)
		}
	}
	if (f.cert == "") != (f.key == "") {
		return nil, errors.New("--tls-cert and --tls-key go together")
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

func (f *dialFlags) token() (string, error) {
	if f.tokenFile == "" {
		return os.Getenv("PERDURE_TOKEN"), nil
	}
	data, err := os.ReadFile(f.tokenFile)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line, nil
		}
	}
	return "", fmt.Errorf("--token-file: %s has no token", f.tokenFile)
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// headers go with each call. connect has seen to it that they go nowhere unprotected.
type headers struct{ hub, token string }

func (h headers) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	m := map[string]string{}
	if h.hub != "" {
		m["taskhub"] = h.hub
	}
	if h.token != "" {
		m["authorization"] = "Bearer " + h.token
	}
	return m, nil
}

func (headers) RequireTransportSecurity() bool { return false }
