package task

import "strconv"

// Most payloads are a short text or a number. These two are done without
// package json, which grows the small stack of a new goroutine; everything else is left to it.

// encodePlain makes the JSON of a plain value as package json would.
func encodePlain(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		if isPlain(v) {
			return `"` + v + `"`, true
		}
	case int:
		return strconv.Itoa(v), true
	}
	return "", false
}

// decodePlain reads the JSON of a plain value as package json would.
func decodePlain(text string, v any) bool {
	switch v := v.(type) {
	case *string:
		if v == nil || len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' || !isPlain(text[1:len(text)-1]) {
			return false
		}
		*v = text[1 : len(text)-1]
		return true
	case *int:
		if v == nil || !isDigits(text) {
			return false
		}
		n, err := strconv.Atoi(text)
		if err == nil {
			*v = n
		}
		return err == nil
	}
	return false
}

// isPlain reports whether the text is its own JSON between quotes.
func isPlain(text string) bool {
	for n := range len(text) {
		switch c := text[n]; {
		case c < ' ' || c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

func isDigits(text string) bool {
	if text == "" || (text[0] == '0' && len(text) > 1) {
		return false
	}
	for n := range len(text) {
		if text[n] < '0' || text[n] > '9' {
			return false
		}
	}
	return true
}
