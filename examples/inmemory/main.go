// Command inmemory founds a group of one member whose database is the program's
// own, the in-memory engine of examples/memengine, and works with it.
//
//	go run ./examples/inmemory
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/examples/memengine"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "inmemory:", err)
		os.Exit(1)
	}
}

var words = concordat.Table{Schema: "example", Name: "words"}

// run counts words, and goes on counting after a restart: what the engine has not
// made durable by then, the member's log brings again.
func run(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "concordat-inmemory")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	address := "127.0.0.1:0"
	for round, text := range []string{"to be or not to be", "that is the question to ask"} {
		engine, err := memengine.Open(filepath.Join(dir, "data"))
		if err != nil {
			return err
		}
		node, err := concordat.Open(ctx, concordat.Config{
			Group: "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f51", Dir: dir, Listen: address,
			Bootstrap: round == 0, Engine: engine, ApplyWorkers: 4, // the node closes the engine
		})
		if err != nil {
			return err
		}
		address = node.Address() // by which its group knows it
		if err := count(ctx, node, text); err != nil {
			return err
		}
		if err := show(ctx, node, out); err != nil {
			return err
		}
		if err := node.Close(); err != nil {
			return err
		}
	}
	return nil
}

// count adds one for each word of a text. Additions do not conflict, on whatever
// members they are made.
func count(ctx context.Context, node *concordat.Node, text string) error {
	for word := range strings.FieldsSeq(text) {
		if _, err := node.Update(ctx, func(tx *concordat.Tx) error { return tx.Add(words, []byte(word), 1) }); err != nil {
			return err
		}
	}
	return nil
}

func show(ctx context.Context, node *concordat.Node, out io.Writer) error {
	return node.View(ctx, func(tx *concordat.Tx) error {
		for word, value := range tx.Scan(words, nil, nil) {
			n, _ := applier.DecodeCounter(value)
			fmt.Fprintf(out, "%s %d  ", word, n)
		}
		fmt.Fprintln(out)
		return tx.Err()
	})
}
