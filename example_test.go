package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/concordatdb/concordat"
)

// openExample founds a group of one member in a temporary directory.
func openExample(ctx context.Context) (node *concordat.Node, done func()) {
	dir, err := os.MkdirTemp("", "concordat-example")
	if err != nil {
		log.Fatal(err)
	}
	node, err = concordat.Open(ctx, concordat.Config{
		Group: "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50", Dir: dir, Listen: "127.0.0.1:0", Bootstrap: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	return node, func() { _ = errors.Join(node.Close(), os.RemoveAll(dir)) }
}

// A group begins with one member, which founds it. Others join by naming one
// or more members as Seeds in place of Bootstrap.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "concordat-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	node, err := concordat.Open(context.Background(), concordat.Config{
		Group:     "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50",
		Dir:       dir,
		Listen:    "127.0.0.1:0",
		Bootstrap: true, // once; afterwards the directory says who the member is
	})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	status := node.Status()
	fmt.Println(status.State, "in a view of", len(status.View.Members))
	// Output: ONLINE in a view of 1
}

// Update runs its function again when another transaction was faster, so what
// it reads is what it changes.
func ExampleNode_Update() {
	ctx := context.Background()
	node, done := openExample(ctx)
	defer done()
	counters := concordat.Table{Schema: "app", Name: "counters"}
	for range 3 {
		id, err := node.Update(ctx, func(tx *concordat.Tx) error {
			v, ok, err := tx.Get(counters, []byte("visits"))
			if err != nil {
				return err
			}
			visits := 0
			if ok {
				if visits, err = strconv.Atoi(string(v)); err != nil {
					return err
				}
			}
			return tx.Put(counters, []byte("visits"), strconv.AppendInt(nil, int64(visits+1), 10))
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(id)
	}
	// Output:
	// 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:1
	// 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:2
	// 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:3
}

// A scan is in key order and sees what the transaction itself has written.
func ExampleTx_Scan() {
	ctx := context.Background()
	node, done := openExample(ctx)
	defer done()
	fruit := concordat.Table{Schema: "shop", Name: "fruit"}
	_, err := node.Update(ctx, func(tx *concordat.Tx) error {
		for name, price := range map[string]string{"pear": "3", "apple": "2", "plum": "4", "quince": "6"} {
			if err := tx.Put(fruit, []byte(name), []byte(price)); err != nil {
				return err
			}
		}
		for name, price := range tx.Scan(fruit, []byte("p"), []byte("q")) {
			fmt.Printf("%s costs %s\n", name, price)
		}
		return tx.Err()
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// pear costs 3
	// plum costs 4
}

// Of two transactions that write the same key and have not seen each other,
// one commits. The other one learns what it lost to. Update does this, and the
// running again, by itself.
func ExampleConflictError() {
	ctx := context.Background()
	node, done := openExample(ctx)
	defer done()
	seats := concordat.Table{Schema: "theatre", Name: "seats"}
	var txs []*concordat.Tx
	for _, who := range []string{"Ann", "Ben"} {
		tx, err := node.Begin(ctx)
		if err != nil {
			log.Fatal(err)
		}
		defer tx.Rollback()
		if err := tx.Put(seats, []byte("12A"), []byte(who)); err != nil {
			log.Fatal(err)
		}
		txs = append(txs, tx)
	}
	for _, tx := range txs {
		id, err := tx.Commit(ctx)
		if c, ok := errors.AsType[*concordat.ConflictError](err); ok {
			fmt.Printf("seat %s was taken by %s\n", c.Key, c.Winner)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("committed", id)
	}
	// Output:
	// committed 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:1
	// seat 12A was taken by 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50:1
}
