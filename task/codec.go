package task

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
)

// encode makes JSON of a value; nil is no data. The error names what and the type.
func encode(what string, v any) (s *wrapperspb.StringValue, err error) {
	if v == nil {
		return nil, nil
	}
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("%w: %s of type %T: panic while marshalling: %v", api.ErrInvalidInput, what, v, r)
		}
	}()
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %s of type %T: %w", api.ErrInvalidInput, what, v, err)
	}
	return wrapperspb.String(string(b)), nil
}

// decode reads JSON into v. No data, and a nil v, leave everything as it is.
func decode(what string, s *wrapperspb.StringValue, v any) (err error) {
	if v == nil || s.GetValue() == "" {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode %s into %T: panic while unmarshalling: %v", what, v, r)
		}
	}()
	if err := json.Unmarshal([]byte(s.GetValue()), v); err != nil {
		return fmt.Errorf("decode %s into %T: %w", what, v, err)
	}
	return nil
}
