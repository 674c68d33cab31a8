package concordat

import "github.com/concordatdb/concordat/certifier"

// Refusal is the error for an outcome that is not a commit.
var Refusal = refusal

// CommitError is the error of Commit when the group decides like that, of any
// outcome but a conflict.
func CommitError(o certifier.Outcome) error {
	tx := &Tx{node: &Node{}}
	_, err := tx.verdict(certifier.Verdict{Outcome: o})
	return err
}
