package task

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
)

// SerializationError says that a value cannot be made JSON. It is an
// [api.ErrInvalidInput] for errors.Is.
type SerializationError struct {
	What   string // such as "activity output"
	GoType string // of the value
	Err    error  // of package json, or the panic of a MarshalJSON
}

// Error names the type and the problem.
func (e *SerializationError) Error() string {
	return fmt.Sprintf("marshal %s of type %s: %v", e.What, e.GoType, e.Err)
}

// Unwrap returns the cause.
func (e *SerializationError) Unwrap() error { return e.Err }

// Is reports whether target is api.ErrInvalidInput.
func (e *SerializationError) Is(target error) bool { return target == api.ErrInvalidInput }

// encode makes JSON of a value; nil is no data.
func encode(what string, v any) (s *wrapperspb.StringValue, err error) {
	if v == nil {
		return nil, nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
		if err != nil {
			s, err = nil, &SerializationError{What: what, GoType: fmt.Sprintf("%T", v), Err: err}
		}
	}()
	if text, ok := encodePlain(v); ok {
		return wrapperspb.String(text), nil
	}
	b, err := json.Marshal(v)
	if err == nil && !utf8.Valid(b) { // from a json.RawMessage, or a MarshalJSON
		err = errNotUTF8
	}
	return wrapperspb.String(string(b)), err
}

var errNotUTF8 = fmt.Errorf("%w: the text is not valid UTF-8", api.ErrInvalidInput)

// raw takes a serialized value as it is.
func raw(what, text string) (*wrapperspb.StringValue, error) {
	if !utf8.ValidString(text) {
		return nil, &SerializationError{What: what, GoType: "string", Err: errNotUTF8}
	}
	return wrapperspb.String(text), nil
}

// readable replaces what is not valid UTF-8, which cannot be stored, in a text for people.
func readable(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// decode reads JSON into v. No data, and a nil v, leave everything as it is.
func decode(what string, s *wrapperspb.StringValue, v any) (err error) {
	if v == nil || s.GetValue() == "" {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode %s into %T: panic: %v", what, v, r)
		}
	}()
	if decodePlain(s.GetValue(), v) {
		return nil
	}
	if err := json.Unmarshal([]byte(s.GetValue()), v); err != nil {
		return fmt.Errorf("decode %s into %T: %w", what, v, err)
	}
	return nil
}
