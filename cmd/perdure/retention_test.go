package main

import (
	"testing"
	"time"
)

func TestRetentionFlag(t *testing.T) {
	for _, tt := range []struct {
		given []string
		want  []time.Duration
	}{
		{nil, nil},
		{[]string{"completed=1h", "failed,terminated=2h"}, []time.Duration{time.Hour, 2 * time.Hour}},
		{[]string{"completed=1h,failed,terminated=2h,all@Order=3h"}, []time.Duration{time.Hour, 2 * time.Hour, 3 * time.Hour}},
	} {
		got, err := retentionRules(tt.given)
		if err != nil || len(got) != len(tt.want) {
			t.Errorf("%q: %+v, %v", tt.given, got, err)
			continue
		}
		for n := range got {
			if got[n].Keep != tt.want[n] {
				t.Errorf("%q: %+v", tt.given, got)
			}
		}
	}
	for _, bad := range []string{"completed", "completed=1h,failed", "running=1h"} {
		if _, err := retentionRules([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
