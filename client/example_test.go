package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/concordatdb/concordat/client"
)

// Money moves from one account to another, whichever member is the primary and
// whatever happens to it meanwhile.
func Example() {
	ctx := context.Background()
	c, err := client.Open(ctx, client.Config{
		Addresses: []string{"10.0.0.1:7500", "10.0.0.2:7500", "10.0.0.3:7500"},
		Table:     client.Table{Schema: "bank", Name: "accounts"},
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()

	var session client.Session
	if _, err := c.Add(ctx, []byte("alice"), 100, client.In(&session)); err != nil {
		log.Print(err)
		return
	}
	commit, err := c.Run(ctx, func(tx *client.Tx) error {
		_, found, err := tx.Get(ctx, []byte("alice"))
		if err != nil || !found {
			return err
		}
		if err := tx.Add(ctx, []byte("alice"), -10); err != nil {
			return err
		}
		return tx.Add(ctx, []byte("bob"), 10)
	}, client.Serializable(), client.In(&session))
	if unknown, ok := errors.AsType[*client.OutcomeUnknownError](err); ok {
		fmt.Println("ask later what became of", unknown.ID)
		return
	}
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println("committed as", commit.GTID, "in epoch", commit.Epoch)

	// On the nearest member, which may have to wait for what this session wrote.
	value, _, err := c.Get(ctx, []byte("bob"), client.From(client.Nearest()), client.In(&session), client.AtMost(time.Minute))
	fmt.Printf("%x %v\n", value, err)
}
