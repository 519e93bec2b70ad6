// Package search is the language in which instances are searched for on the
// command line, in the dashboard and by clients: api.InstanceQuery.Search.
//
//	status:failed name:order* age<1d
//	tag.team:blue,green -error:*timeout*
//	input.customer.id:42 output.total>100 duration>5m
//
// Terms stand beside each other, and all must hold. A term is a field, an
// operator and values; a minus before it turns it around.
//
//	field:value          is the value; * stands for any text
//	field:one,two        is one of the values
//	field>value          is greater; also >=, < and <=
//	"two words"          a value with spaces, commas or quotes (\")
//	word                 without a field: the id contains it
//
// Case counts in id, name, version, parent, execution and tags, and nowhere else.
//
// Fields of text: id, name, status, version, parent, execution, error (the type
// or the message of the failure, or of one of its causes), stalled (why it was set
// aside), tag.KEY.
//
// Fields of time (2026-01-31, 2026-01-31T12:00:00Z): created, updated, completed, scheduled.
// Fields of duration (90s, 5m, 2h, 3d): age (since it was created), idle (since its last
// update), duration (from created to completed, or so far).
//
// Payloads: input, output and custom are the whole text; input.a.b.0 is what the
// payload has at that place, where it is JSON. Numbers compare as numbers.
//
// A field that an instance has not matches nothing, and so its negation matches.
package search
