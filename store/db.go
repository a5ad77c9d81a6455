package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Names in the data folder.
const (
	dbFile        = "chappe.db"
	lockFile      = "lock"
	highWaterFile = "high-water"
)

// DB is the data folder's database. Several processes may hold it.
type DB struct {
	dir    string
	writer *sql.DB // one connection: writes queue for it
	reader *sql.DB
}

// ErrNewer is returned for a data folder that a later version has written.
var ErrNewer = errors.New("the data folder was written by a newer version of chappe; start that version, or restore a backup")

// Open makes the data folder if it is missing, checks that nobody else can
// write to it, and brings its database to this version's schema.
func Open(ctx context.Context, dir string) (*DB, error) {
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	db := &DB{dir: dir}
	if err := db.connect(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open %s: %w", filepath.Join(dir, dbFile), err)
	}
	return db, nil
}

func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the data folder: %w", err)
	}
	if exists(filepath.Join(dir, dbFile+".new")) && !exists(filepath.Join(dir, dbFile)) {
		return fmt.Errorf("a restore into %s was interrupted; run chappe restore again", dir)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("the data folder %s can be written by others (mode %04o); run: chmod go-w %s", dir, mode, dir)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (db *DB) connect(ctx context.Context) (err error) {
	path := filepath.Join(db.dir, dbFile)
	// Made before SQLite would: its other files take this one's mode.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return err
	}
	// The order matters: auto_vacuum only takes effect before anything is written.
	db.writer, err = sql.Open("sqlite", dsn(path, "_txlock=immediate",
		"busy_timeout(10000)", "auto_vacuum(incremental)", "journal_mode(wal)", "synchronous(full)",
		"wal_autocheckpoint(0)", "journal_size_limit(67108864)", "cache_size(-65536)", "temp_store(memory)"))
	if err != nil {
		return err
	}
	db.writer.SetMaxOpenConns(1)
	if err := db.migrate(ctx); err != nil {
		return err
	}
	if err := db.found(ctx); err != nil {
		return err
	}
	db.reader, err = sql.Open("sqlite", dsn(path, "mode=ro", "busy_timeout(10000)", "query_only(1)", "cache_size(-8192)"))
	if err != nil {
		return err
	}
	db.reader.SetMaxOpenConns(4)
	db.reader.SetMaxIdleConns(4)
	return nil
}

// dsn names a database file; options that are no key=value are pragmas.
func dsn(path string, options ...string) string {
	query := make([]string, len(options))
	for i, o := range options {
		if !strings.Contains(o, "=") {
			o = "_pragma=" + url.QueryEscape(o)
		}
		query[i] = o
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: strings.Join(query, "&")}
	return u.String()
}

// migrate brings the schema to this version. Only one process may do so, and
// none while a server of another version runs.
func (db *DB) migrate(ctx context.Context) error {
	scripts, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db.writer, scripts)
	if err != nil {
		return err
	}
	if current, err := schemaCurrent(ctx, provider); err != nil || current {
		return err
	}
	lock, err := acquire(db.dir)
	if err != nil {
		return err
	}
	defer lock.release()
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func schemaCurrent(ctx context.Context, provider *goose.Provider) (bool, error) {
	have, err := provider.GetDBVersion(ctx)
	if err != nil {
		return false, err
	}
	sources := provider.ListSources()
	want := sources[len(sources)-1].Version
	if have > want {
		return false, ErrNewer
	}
	return have == want, nil
}

// found writes the log's one row, unless an earlier start has.
func (db *DB) found(ctx context.Context) error {
	var rows int
	if err := db.writer.QueryRowContext(ctx, `SELECT COUNT(*) FROM log`).Scan(&rows); err != nil || rows > 0 {
		return err
	}
	_, err := db.writer.ExecContext(ctx,
		`INSERT INTO log (one, epoch, head, saved, garbage, topics, secret) VALUES (1, $1, 0, 0, 0, 0, $2) ON CONFLICT DO NOTHING`,
		newEpoch(), randomSecret())
	return err
}

// newEpoch is 6 characters of a-z and 2-7: one of 2^30.
func newEpoch() string { return strings.ToLower(rand.Text()[:6]) }

func randomSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b)
}

// Secret signs subscriber tokens where no key is configured.
func (db *DB) Secret(ctx context.Context) (string, error) {
	var secret string
	err := db.reader.QueryRowContext(ctx, `SELECT secret FROM log`).Scan(&secret)
	return secret, err
}

// Close closes the database.
func (db *DB) Close() error {
	var errs []error
	for _, d := range []*sql.DB{db.reader, db.writer} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}
