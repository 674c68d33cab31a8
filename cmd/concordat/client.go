package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
)

const defaultClientAddress = "127.0.0.1:7500"

// clientFlags are the flags of all commands that talk to a node.
type clientFlags struct {
	addresses     []string
	timeout       duration
	cert, key, ca string
	json          bool
}

func (f *clientFlags) register(cmd *cobra.Command) {
	f.timeout = duration(10 * time.Second)
	f.registerTimeout(cmd, "how long to wait for the whole call")
}

// registerWaiting is register for a command that waits for what can take long.
func (f *clientFlags) registerWaiting(cmd *cobra.Command, what string) {
	f.registerTimeout(cmd, "how long to wait "+what)
}

func (f *clientFlags) registerTimeout(cmd *cobra.Command, usage string) {
	fs := cmd.Flags()
	fs.StringSliceVar(&f.addresses, "address", []string{defaultClientAddress}, "`host:port` on which the node serves clients")
	fs.Var(&f.timeout, "timeout", usage+"; 0s waits for ever")
	fs.StringVar(&f.ca, "tls-ca", "", "PEM `file`: authorities of the node's certificate; without it, plaintext")
	fs.StringVar(&f.cert, "tls-cert", "", "PEM `file`: certificate of this client")
	fs.StringVar(&f.key, "tls-key", "", "PEM `file`: its private key")
}

func (f *clientFlags) registerJSON(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// dial returns a client of the node at address.
func (f *clientFlags) dial(address string) (*server.Client, error) {
	config, err := clientTLS(f.cert, f.key, f.ca)
	if err != nil {
		return nil, err
	}
	c, err := server.Dial(address, config)
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

// bound ends ctx at the timeout, if there is one.
func (f *clientFlags) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if f.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(f.timeout))
}

// call runs fn with a client and within the timeout.
func (f *clientFlags) call(fn func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error) func(*cobra.Command, []string) error {
	return interruptible(func(ctx context.Context, cmd *cobra.Command, args []string) error {
		ctx, cancel := f.bound(ctx)
		defer cancel()
		if len(f.addresses) != 1 {
			return usagef("%s asks one node; give one --address", cmd.CommandPath())
		}
		c, err := f.dial(f.addresses[0])
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return fn(ctx, cmd, c, args)
	})
}

// askAll asks the nodes at all addresses at once, and returns the answers in
// the order of the addresses.
func askAll[T any](ctx context.Context, f *clientFlags, ask func(context.Context, *server.Client) (T, error)) ([]T, error) {
	if len(f.addresses) == 0 {
		return nil, usagef("no address; give --address")
	}
	all := make([]T, len(f.addresses))
	errs := make([]error, len(f.addresses))
	var asking sync.WaitGroup
	for i, address := range f.addresses {
		asking.Go(func() {
			c, err := f.dial(address)
			if err != nil {
				errs[i] = err
				return
			}
			defer func() { _ = c.Close() }()
			if all[i], err = ask(ctx, c); err != nil {
				errs[i] = fmt.Errorf("%s: %w", address, err)
			}
		})
	}
	asking.Wait()
	var answers []T
	for i, err := range errs {
		if err == nil {
			answers = append(answers, all[i])
		}
	}
	return answers, errors.Join(errs...)
}
