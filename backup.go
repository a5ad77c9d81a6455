package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	return db.Backup(ctx, rest[0])
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
