package api

import (
	"time"

	"github.com/perdure/perdure/api/protos"
)

// InstanceQuery selects instances; zero fields select all. Times are inclusive.
type InstanceQuery struct {
	Statuses    []protos.OrchestrationStatus
	IDPrefix    string // literal
	Name        string
	ParentID    InstanceID
	CreatedFrom time.Time
	CreatedTo   time.Time
	// Search is a text in the language of package search, which narrows the
	// query further. A page of a search may have fewer instances than asked for,
	// or none, and a token all the same: it looks at a bounded number of instances.
	Search      string
	PageSize    int  // 0: 100; at most 1,000
	Payloads    bool // read input, output and custom status
	NewestFirst bool // the last started first
	// Token resumes after the page that returned it; "" starts.
	Token string
}

// FinishedQuery selects instances that are over; zero fields select all. Times are inclusive.
type FinishedQuery struct {
	Statuses      []protos.OrchestrationStatus
	CompletedFrom time.Time
	CompletedTo   time.Time
	PageSize      int // 0: 100; at most 1,000
	// Token resumes after the page that returned it; "" starts.
	Token string
}

// FinishedPage is one page of ids, ordered by the time of completion, then by id.
type FinishedPage struct {
	IDs   []InstanceID
	Token string // "" on the last page
}

// InstancePage is one page of a query, in start order. Instances that are
// started while paging may appear; none is skipped or repeated.
type InstancePage struct {
	Instances []*OrchestrationMetadata
	Token     string // "" on the last page
}
