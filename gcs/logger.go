package gcs

import (
	"fmt"
	"log/slog"
)

// raftLogger hands raft's messages to slog. raft says one line for each
// response that came too late, and tells of every vote, at its Info level:
// that is Debug here. Its Panic must not return, raft relies on it; whoever
// drives the member recovers and takes it to ERROR.
type raftLogger struct{ to *slog.Logger }

// line is formatted only if somebody listens.
type line struct {
	format string // "" for fmt.Sprint
	args   []any
}

// LogValue implements slog.LogValuer.
func (l line) LogValue() slog.Value { return slog.StringValue(l.text()) }

func (l line) text() string {
	if l.format == "" {
		return fmt.Sprint(l.args...)
	}
	return fmt.Sprintf(l.format, l.args...)
}

func (l raftLogger) debug(s line) {
	if l.to != nil {
		l.to.Debug("raft", "text", s)
	}
}

func (l raftLogger) info(s line) {
	if l.to != nil {
		l.to.Info("raft", "text", s)
	}
}

func (l raftLogger) error(s line) {
	if l.to != nil {
		l.to.Error("raft", "text", s)
	}
}

func (l raftLogger) Debug(v ...any)                   { l.debug(line{args: v}) }
func (l raftLogger) Debugf(format string, v ...any)   { l.debug(line{format, v}) }
func (l raftLogger) Info(v ...any)                    { l.debug(line{args: v}) }
func (l raftLogger) Infof(format string, v ...any)    { l.debug(line{format, v}) }
func (l raftLogger) Warning(v ...any)                 { l.info(line{args: v}) }
func (l raftLogger) Warningf(format string, v ...any) { l.info(line{format, v}) }
func (l raftLogger) Error(v ...any)                   { l.error(line{args: v}) }
func (l raftLogger) Errorf(format string, v ...any)   { l.error(line{format, v}) }

func (l raftLogger) Fatal(v ...any)                 { panic("raft: " + line{args: v}.text()) }
func (l raftLogger) Fatalf(format string, v ...any) { panic("raft: " + line{format, v}.text()) }
func (l raftLogger) Panic(v ...any)                 { panic("raft: " + line{args: v}.text()) }
func (l raftLogger) Panicf(format string, v ...any) { panic("raft: " + line{format, v}.text()) }
