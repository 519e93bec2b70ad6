package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"
	"testing"
)

func TestToken(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), strings.Fields("token --name ci --role worker,operator --for-hub default"), &out, io.Discard); code != 0 {
		t.Fatal(code)
	}
	token, rest, ok := strings.Cut(strings.TrimPrefix(out.String(), "token: "), "\n")
	h := sha256.Sum256([]byte(token))
	if want := "line:  sha256:" + hex.EncodeToString(h[:]) + " name=ci role=worker,operator hubs=default\n"; !ok || len(token) < 20 || rest != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	for _, bad := range []string{"token", "token --name x --role king"} {
		if code := run(t.Context(), strings.Fields(bad), io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%q: %d", bad, code)
		}
	}
}
