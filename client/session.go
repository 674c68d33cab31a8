package client

import (
	"sync"

	"github.com/concordatdb/concordat/gtid"
)

// Session collects what its calls have seen and written, as GTIDs. Whoever carries
// it along reads its own writes, and never goes back in time, whatever member
// serves it. The zero value has seen nothing. It is safe for concurrent use, and
// must not be copied.
type Session struct {
	mu   sync.Mutex
	seen gtid.Set
}

// NewSession returns a session that has seen what the set names: the GTIDs of
// another one, which may have been somebody else's in another process.
func NewSession(seen gtid.Set) *Session { return &Session{seen: seen} }

// GTIDs returns what the session has seen.
func (s *Session) GTIDs() gtid.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Add has the session see further transactions.
func (s *Session) Add(seen gtid.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = s.seen.Union(seen)
}

// text is how members are told, empty for nothing.
func (s *Session) text() string {
	if seen := s.GTIDs(); !seen.IsEmpty() {
		return seen.String()
	}
	return ""
}

// wrote notes a commit; the zero GTID is none. A nil session notes nothing.
func (s *Session) wrote(g gtid.GTID) {
	if s != nil && !g.IsZero() {
		s.Add(gtid.Set{}.Add(g))
	}
}

// read notes what a member says that a transaction has seen.
func (s *Session) read(text string) error {
	if s == nil || text == "" {
		return nil
	}
	seen, err := gtid.ParseSet(text)
	if err == nil {
		s.Add(seen)
	}
	return err
}
