package replica

// yields is how many log entries with small transactions go between two fragments of
// a giant, where there are any. What they cost each other then is a part of the time.
const yields = 8

// pace has the giants of a member leave the others their way. While nobody commits
// anything else, as many fragments are on their way as the window allows. Otherwise
// it is one, and before the next one some entries with small transactions go by, or
// a tick does. The zero value is ready for use.
type pace struct {
	small uint64 // entries with small transactions that were delivered
	back  uint64 // small, as the last fragment came back
	tick  int    // likewise
	busy  bool   // some went by between two fragments
	rest  int    // fragments on their way that were sent before that was known
}

// begin begins with a giant.
func (p *pace) begin() { *p = pace{small: p.small, back: p.small} }

// may reports whether a fragment may be sent while so many are on their way.
func (p *pace) may(underWay, window, tick int) bool {
	if !p.busy {
		return underWay < window
	}
	return underWay == 0 && (p.small-p.back >= yields || tick != p.tick)
}

// ended notes that a fragment came back, and how many are on their way still.
func (p *pace) ended(underWay, tick int) {
	switch {
	case p.rest > 0:
		p.rest--
	case p.small == p.back:
		p.busy = false
	case !p.busy:
		p.busy, p.rest = true, underWay
	}
	p.back, p.tick = p.small, tick
}
