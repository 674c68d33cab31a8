package concordat

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// record is what a member must not forget between two phases, beside its
// identity. It is rare and small, so it is JSON: an operator can read it.
type record struct {
	// Format is that of the record.
	Format int `json:"format"`
	// Peers are addresses of members to ask, of a member that is on its way back
	// into its group and in no view from which it could know them.
	Peers []string `json:"peers,omitempty"`
	// Ended is the incarnation that this member was left out of, by one that came
	// after: whoever is still of it cannot judge what the member holds. Empty for
	// none.
	Ended string `json:"ended,omitempty"`
	// Differs says what a state check has found of the data in the directory: they
	// are not the group's. Empty while nothing is.
	Differs string `json:"differs,omitempty"`
	// Plan is the step that the member has reached in a plan of force-members,
	// in the form of package forced; nil when it takes part in none.
	Plan []byte `json:"plan,omitempty"`
}

const recordFormat = 1

// maxRecord bounds a record that is read.
const maxRecord = 1 << 20

// encode returns the bytes to store; nil, which stands for no record, if there
// is nothing to remember.
func (r record) encode() ([]byte, error) {
	if len(r.Peers) == 0 && r.Plan == nil && r.Ended == "" && r.Differs == "" {
		return nil, nil
	}
	r.Format = recordFormat
	return json.Marshal(r)
}

func decodeRecord(b []byte) (r record, err error) {
	if len(b) == 0 {
		return record{}, nil
	}
	if len(b) > maxRecord {
		return record{}, fmt.Errorf("%w: its record has %d bytes, the limit is %d", ErrDirectory, len(b), maxRecord)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return record{}, fmt.Errorf("%w: its record cannot be read: %w", ErrDirectory, err)
	}
	if r.Format != recordFormat {
		return record{}, fmt.Errorf("%w: its record has format %d, this version knows %d", ErrDirectory, r.Format, recordFormat)
	}
	return r, nil
}

// recordNow is what is on record. Main alone changes it.
func (n *Node) recordNow() record {
	if r := n.onRecord.Load(); r != nil {
		return *r
	}
	return record{}
}

// remember stores r before anything is done that depends on it.
func (n *Node) remember(r record) error {
	encoded, err := r.encode()
	if err == nil {
		err = n.log.SetRecord(encoded)
	}
	if err != nil {
		return err
	}
	n.onRecord.Store(&r)
	return nil
}
