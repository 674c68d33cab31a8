package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/certifier"
)

// customers is an engine of a program's own, whose payloads are lines of number
// and email. To be short it keeps them in the default engine.
type customers struct{ applier.Engine }

// Apply writes each payload in the form that the default engine knows.
func (e customers) Apply(b applier.Batch) error {
	b.Transactions = slices.Clone(b.Transactions)
	for i := range b.Transactions {
		number, email, ok := strings.Cut(string(b.Transactions[i].Payload), " ")
		if !ok {
			return fmt.Errorf("customer without email: %q", number)
		}
		b.Transactions[i].Payload = applier.AppendMutation(nil, applier.Mutation{
			Op: applier.OpPut, Table: customersTable, Key: []byte(number), Value: []byte(email),
		})
	}
	return e.Engine.Apply(b)
}

var (
	customersTable = concordat.Table{Schema: "shop", Name: "customers"}
	byNumber       = certifier.Index{Name: certifier.PrimaryIndex, Schema: "shop", Table: "customers"}
	byEmail        = certifier.Index{Name: "by_email", Schema: "shop", Table: "customers"}
)

// insert makes a transaction insert a customer: the row, by each of its unique
// keys, and what the engine is to apply.
func insert(tx *concordat.Tx, number uint64, email string) error {
	rows, err := tx.Rows()
	if err != nil {
		return err
	}
	rows.Write(byNumber, certifier.Uint(number, 8))
	rows.Write(byEmail, certifier.Text([]byte(strings.ToLower(email)))) // a collation without case
	return tx.SetPayload(fmt.Appendf(nil, "%d %s", number, email))
}

// A program with an engine of its own says itself what its transactions touch.
// Here two customers are inserted at once under different numbers and, but for
// case, the same email: their primary keys do not clash, the unique one does.
func ExampleTx_Rows() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "concordat-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := pebblekv.Open(filepath.Join(dir, "customers"), pebblekv.Options{})
	if err != nil {
		log.Fatal(err)
	}
	node, err := concordat.Open(ctx, concordat.Config{
		Group: "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50", Dir: filepath.Join(dir, "node"), Listen: "127.0.0.1:0",
		Bootstrap: true, Engine: customers{store},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	var txs []*concordat.Tx
	for i, email := range []string{"ann@example.com", "Ann@Example.com", "ben@example.com"} {
		tx, err := node.Begin(ctx)
		if err != nil {
			log.Fatal(err)
		}
		defer tx.Rollback()
		if err := insert(tx, uint64(1+i), email); err != nil {
			log.Fatal(err)
		}
		txs = append(txs, tx)
	}
	for _, tx := range txs {
		id, err := tx.Commit(ctx)
		if c, ok := errors.AsType[*concordat.ConflictError](err); ok {
			fmt.Println("refused, for", c.Winner)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("committed", id)
	}
	err = node.View(ctx, func(tx *concordat.Tx) error {
		for number, email := range tx.Scan(customersTable, nil, nil) {
			fmt.Printf("customer %s is %s\n", number, email)
		}
		return tx.Err()
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// committed 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:1
	// refused, for 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:1
	// committed 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:2
	// customer 1 is ann@example.com
	// customer 3 is ben@example.com
}
