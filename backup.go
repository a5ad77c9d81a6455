package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/chappe/chappe/internal/terminal"
	"github.com/chappe/chappe/store"
)

// backup writes the state to a new file.
func backup(ctx context.Context, p program, args []string) error {
	f := newFlags(p, "backup")
	rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	s, err := f.load()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.Data, "chappe.db")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is nothing to back up in %s; name the data folder with --data", s.Data)
	}
	db, err := store.Open(ctx, s.Data)
	if err != nil {
		return err
	}
	defer db.Close()
	if terminal.Is(p.stderr) {
		defer showProgress(p.stderr, rest[0])()
	}
	return db.Backup(ctx, rest[0])
}

// showProgress says how far a file has come, until the returned function is
// called.
func showProgress(w io.Writer, path string) (stop func()) {
	done := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if info, err := os.Stat(path); err == nil {
					fmt.Fprintf(w, "\r%d MB written", info.Size()/1e6)
				}
			case <-done:
				fmt.Fprintf(w, "\r\x1b[K")
				return
			}
		}
	})
	return func() {
		close(done)
		showing.Wait()
	}
}

// restore puts a backup in the place of the state.
func restore(ctx context.Context, p program, args []string) error {
	f := newFlags(p, "restore")
	rest, err := f.parse(args, 1, 1)
	if err != nil {
		return err
	}
	s, err := f.load()
	if err != nil {
		return err
	}
	if err := store.Restore(ctx, s.Data, rest[0]); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "restored; what was in %s before is kept as chappe.db.before-restore; readers are told to start over\n", s.Data)
	return nil
}
