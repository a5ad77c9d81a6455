package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Backup writes the whole state to a new file, a SQLite database of its own.
// It can run beside a server, whose write-ahead log grows meanwhile.
func (db *DB) Backup(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the backup file: %w", err)
	}
	_ = f.Close() // empty: it was made to be private, and to be new
	if err := db.vacuumInto(ctx, path); err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("back up to %s: %w", path, err)
	}
	return nil
}

func (db *DB) vacuumInto(ctx context.Context, path string) error {
	if _, err := db.writer.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Restore puts a backup in the place of the data folder's state, which is
// kept beside it with the ending ".before-restore". The log gets a new epoch.
// It returns an *InUseError while a server runs on the folder. Should it be
// interrupted, the folder does not open until it is done again.
func Restore(ctx context.Context, dir, path string) error {
	target := filepath.Join(dir, dbFile)
	if err := os.Remove(target + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clear what an interrupted restore has left: %w", err)
	}
	if err := prepareDir(dir); err != nil {
		return err
	}
	lock, err := acquire(dir)
	if err != nil {
		return err
	}
	defer lock.release()
	if err := copyFile(target+".new", path); err != nil {
		return fmt.Errorf("copy the backup: %w", err)
	}
	if err := renew(ctx, target+".new"); err != nil {
		_ = os.Remove(target + ".new")
		return fmt.Errorf("%s is not a backup that can be restored: %w", path, err)
	}
	if err := setAside(target); err != nil {
		return fmt.Errorf("set the old state aside: %w", err)
	}
	if err := os.Rename(target+".new", target); err != nil {
		return err
	}
	return syncFolder(dir)
}

// syncFolder has the folder's names on disk before it returns.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// renew checks a copied database and gives its log a new epoch.
func renew(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", dsn(path, "mode=rw", "synchronous(full)"))
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return errors.New(verdict)
	}
	_, err = db.ExecContext(ctx, `UPDATE log SET epoch = $1`, newEpoch())
	return err
}

// setAside renames the database, with the write-ahead log that belongs to it,
// and drops the high-water mark, which speaks of another log now.
func setAside(target string) error {
	aside := target + ".before-restore"
	for n := 2; exists(aside); n++ {
		aside = fmt.Sprintf("%s.before-restore-%d", target, n)
	}
	for _, ending := range []string{"", "-wal"} {
		err := os.Rename(target+ending, aside+ending)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, path := range []string{target + "-shm", filepath.Join(filepath.Dir(target), highWaterFile)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
