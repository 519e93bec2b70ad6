package task

import (
	"encoding/json"
	"math"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

func FuzzPlainText(f *testing.F) {
	for _, s := range []string{"", "a b", `"`, `\`, "<>&", "é", "\xff", "\x00", "\u2028", "~\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, ok := encodePlain(s); ok {
			if want, err := json.Marshal(s); err != nil || got != string(want) {
				t.Errorf("%q is %q, want %q, %v", s, got, want, err)
			}
		}
		var got, want string
		if decodePlain(s, &got) {
			if err := json.Unmarshal([]byte(s), &want); err != nil || got != want {
				t.Errorf("%q is read as %q, want %q, %v", s, got, want, err)
			}
		}
		var n, wantN int
		if decodePlain(s, &n) {
			if err := json.Unmarshal([]byte(s), &wantN); err != nil || n != wantN {
				t.Errorf("%q is read as %d, want %d, %v", s, n, wantN, err)
			}
		}
	})
}

func TestPlainNumbers(t *testing.T) {
	for _, n := range []int{0, 7, -7, math.MaxInt, math.MinInt} {
		text, ok := encodePlain(n)
		want, err := json.Marshal(n)
		if !ok || err != nil || text != string(want) {
			t.Errorf("%d is %q, want %q, %v", n, text, want, err)
		}
		back := -1
		if err := decode("n", encodeOrFail(t, n), &back); err != nil || back != n {
			t.Errorf("%d is read back as %d, %v", n, back, err)
		}
	}
	for _, text := range []string{"", "01", "-1", "1.0", "1e3", " 1", "99999999999999999999"} {
		if n := -1; decodePlain(text, &n) || n != -1 {
			t.Errorf("%q is read as %d", text, n)
		}
	}
	var none *string
	if decodePlain(`"a"`, none) {
		t.Error("decoded into nil")
	}
}

func encodeOrFail(t *testing.T, v any) *wrapperspb.StringValue {
	t.Helper()
	s, err := encode("value", v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
