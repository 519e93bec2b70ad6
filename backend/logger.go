package backend

import (
	"fmt"
	"log/slog"
)

// Logger is what the backend and its workers log to.
type Logger interface {
	Debug(v ...any)
	Debugf(format string, v ...any)
	Info(v ...any)
	Infof(format string, v ...any)
	Warn(v ...any)
	Warnf(format string, v ...any)
	Error(v ...any)
	Errorf(format string, v ...any)
}

// DefaultLogger logs to slog's default logger, whose level it obeys.
func DefaultLogger() Logger { return NewLogger(slog.Default()) }

// NewLogger logs to l.
func NewLogger(l *slog.Logger) Logger { return slogLogger{l} }

type slogLogger struct{ l *slog.Logger }

func (s slogLogger) Debug(v ...any)                 { s.l.Debug(fmt.Sprint(v...)) }
func (s slogLogger) Debugf(format string, v ...any) { s.l.Debug(fmt.Sprintf(format, v...)) }
func (s slogLogger) Info(v ...any)                  { s.l.Info(fmt.Sprint(v...)) }
func (s slogLogger) Infof(format string, v ...any)  { s.l.Info(fmt.Sprintf(format, v...)) }
func (s slogLogger) Warn(v ...any)                  { s.l.Warn(fmt.Sprint(v...)) }
func (s slogLogger) Warnf(format string, v ...any)  { s.l.Warn(fmt.Sprintf(format, v...)) }
func (s slogLogger) Error(v ...any)                 { s.l.Error(fmt.Sprint(v...)) }
func (s slogLogger) Errorf(format string, v ...any) { s.l.Error(fmt.Sprintf(format, v...)) }
