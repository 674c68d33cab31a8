package concordat

import "sync"

// helpers are goroutines that outlive the call that began them, and end before
// the node is closed. The zero value is ready for use.
type helpers struct {
	mu    sync.Mutex
	ended bool
	wg    sync.WaitGroup
}

// run begins one, and reports whether it did: the node is closing if not.
func (h *helpers) run(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.wg.Go(f)
	return true
}

// wait returns when all have ended. None begins any more.
func (h *helpers) wait() {
	h.mu.Lock()
	h.ended = true
	h.mu.Unlock()
	h.wg.Wait()
}
