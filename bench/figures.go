package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// times are durations that were measured, of which the percentiles count. They are
// kept from a microsecond to longest, with three digits.
type times struct{ micros *hdrhistogram.Histogram }

const longest = 10 * time.Minute

func newTimes() *times {
	const digits = 3
	return &times{hdrhistogram.New(1, longest.Microseconds(), digits)}
}

// note enters one more. A clock that was set back makes none negative.
func (t *times) note(d time.Duration) {
	_ = t.micros.RecordValue(min(max(d, 0), longest).Microseconds()) // it is in the range
}

func (t *times) add(other *times) { t.micros.Merge(other.micros) }

func (t *times) count() int64 { return t.micros.TotalCount() }

// percentile is in milliseconds.
func (t *times) percentile(p float64) float64 { return float64(t.micros.ValueAtQuantile(p)) / 1000 }

// worst is in milliseconds.
func (t *times) worst() float64 { return float64(t.micros.Max()) / 1000 }

// median returns the middle value, the lower one of two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// timeText is a time in seconds as it is shown.
func timeText(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.0f ms", 1000*seconds)
	}
	return fmt.Sprintf("%.2f s", seconds)
}

// shortTime is a time in milliseconds as it is shown.
func shortTime(ms float64) string {
	if ms < 1 {
		return fmt.Sprintf("%.0f µs", 1000*ms)
	}
	return fmt.Sprintf("%.1f ms", ms)
}

// noisyFrom is the background load, in percent of all cores, from which a row
// is marked as noisy.
const noisyFrom = 25

// noise tells of a background load that disturbs, "" of one that does not.
func noise(background float64) string {
	if background < noisyFrom {
		return ""
	}
	return fmt.Sprintf("NOISY: the machine was %.0f %% busy with something else", background)
}
