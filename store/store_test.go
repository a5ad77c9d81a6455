package store_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chappe/chappe/account"
	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/store"
	"github.com/chappe/chappe/store/storetest"
)

// home is a data folder for the conformance test.
type home struct {
	dir string
	db  *store.DB
}

func newHome(t *testing.T) storetest.Home {
	h := &home{dir: t.TempDir()}
	t.Cleanup(func() { h.db.Close() })
	return h
}

func (h *home) Open(t *testing.T, o store.Options) storetest.Log {
	t.Helper()
	if h.db != nil {
		h.db.Close()
	}
	db, err := store.Open(t.Context(), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	h.db = db
	return openLog(t, db, o)
}

func (h *home) State(t *testing.T, watch string) []byte {
	t.Helper()
	state, err := h.db.State(t.Context(), watch)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (h *home) Size(t *testing.T) int64 {
	t.Helper()
	var size int64
	for _, name := range []string{"chappe.db", "chappe.db-wal"} {
		info, err := os.Stat(filepath.Join(h.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

func TestConformance(t *testing.T) { storetest.Run(t, newHome) }

func open(t *testing.T, dir string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openLog(t *testing.T, db *store.DB, o store.Options) *store.Log {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := store.OpenLog(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func put(t *testing.T, l *store.Log, topic event.Topic, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		e := event.Event{ID: fmt.Sprint(n), Source: "/test", Type: "test", Topic: topic, Time: time.Now(), Data: []byte("1")}
		if _, err := l.Append(t.Context(), []event.Batch{{Events: []event.Event{e}}}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDataFolder(t *testing.T) {
	t.Run("in use", func(t *testing.T) {
		dir := t.TempDir()
		l := openLog(t, open(t, dir), store.Options{})
		defer l.Close()
		_, err := store.OpenLog(t.Context(), open(t, dir), store.Options{Logger: slog.New(slog.DiscardHandler)})
		if inUse, ok := errors.AsType[*store.InUseError](err); !ok || inUse.PID != fmt.Sprint(os.Getpid()) {
			t.Errorf("a second log on the folder: %v, want *InUseError with our pid", err)
		}
	})
	t.Run("writable by others", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o770); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("Open = %v, want an error with the remedy", err)
		}
	})
	t.Run("private", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "new")
		open(t, dir)
		for path, want := range map[string]os.FileMode{
			dir: 0o700, filepath.Join(dir, "chappe.db"): 0o600, filepath.Join(dir, "chappe.db-wal"): 0o600,
		} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, %v, want %v", path, info.Mode().Perm(), err, want)
			}
		}
	})
	t.Run("of a newer version", func(t *testing.T) {
		dir := t.TempDir()
		db := open(t, dir)
		if err := store.PretendNewer(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		db.Close()
		if _, err := store.Open(t.Context(), dir); !errors.Is(err, store.ErrNewer) {
			t.Errorf("Open = %v, want ErrNewer", err)
		}
	})
	t.Run("not a database", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "chappe.db"), []byte(strings.Repeat("nonsense ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "chappe.db") {
			t.Errorf("Open = %v, want an error that names the file", err)
		}
	})
}

func TestHighWater(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	l := openLog(t, db, store.Options{})
	put(t, l, "a", 1, 5)
	epoch := l.Head().Epoch
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	reopened := func(mark string) event.Cursor {
		if mark != "" {
			if err := os.WriteFile(filepath.Join(dir, "high-water"), []byte(mark), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l := openLog(t, db, store.Options{})
		defer l.Close()
		return l.Head()
	}
	if got := reopened(""); got.Epoch != epoch {
		t.Errorf("epoch %s became %s at a restart", epoch, got.Epoch)
	}
	if got := reopened(epoch + " 4\n"); got.Epoch != epoch {
		t.Errorf("epoch %s became %s with a mark behind the log", epoch, got.Epoch)
	}
	got := reopened(epoch + " 6\n")
	if got.Epoch == epoch || got.Seq != 5 {
		t.Errorf("head is %s with a mark ahead of the log, want a new epoch", got)
	}
	if again := reopened(""); again != got {
		t.Errorf("head is %s at the next restart, want %s", again, got)
	}
	if other := reopened("other 1\n"); other.Epoch == got.Epoch {
		t.Error("the epoch stays with the mark of another log")
	}
}

func TestBackupAndRestore(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "backup.db")
	db := open(t, dir)
	l := openLog(t, db, store.Options{})
	put(t, l, "a", 1, 3)
	epoch := l.Head().Epoch
	if err := db.Backup(t.Context(), file); err != nil { // while running
		t.Fatal(err)
	}
	if err := db.Backup(t.Context(), file); err == nil {
		t.Error("a second backup wrote over the first")
	}
	put(t, l, "a", 4, 5)
	if err := store.Restore(t.Context(), dir, file); err == nil {
		t.Error("restored below a running log")
	}
	secret, err := db.Secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	db.Close()
	if err := store.Restore(t.Context(), dir, file); err != nil {
		t.Fatal(err)
	}
	db = open(t, dir)
	l = openLog(t, db, store.Options{})
	if got := l.Head(); got.Seq != 3 || got.Epoch == epoch {
		t.Errorf("head is %s after the restore, want seq 3 of another epoch than %s", got, epoch)
	}
	if got, err := db.Secret(t.Context()); err != nil || got != secret {
		t.Errorf("the signing secret changed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "chappe.db.before-restore")); err != nil {
		t.Errorf("the old state was not kept: %v", err)
	}
	if err := errors.Join(l.Close(), db.Close(), store.Restore(t.Context(), dir, file)); err != nil {
		t.Fatal(err)
	}
	if aside, _ := filepath.Glob(filepath.Join(dir, "chappe.db.before-restore*")); len(aside) != 2 {
		t.Errorf("after two restores %v are kept, want the states before both", aside)
	}
	if err := os.Rename(filepath.Join(dir, "chappe.db"), filepath.Join(dir, "chappe.db.new")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "run chappe restore again") {
		t.Errorf("Open after an interrupted restore = %v, want the remedy", err)
	}
	if err := store.Restore(t.Context(), dir, file); err != nil {
		t.Errorf("Restore after an interrupted one: %v", err)
	}
	for name, content := range map[string]string{"empty": "", "nonsense": strings.Repeat("x", 8192)} {
		bad, other := filepath.Join(t.TempDir(), name), t.TempDir()
		if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := store.Restore(t.Context(), other, bad); err == nil {
			t.Errorf("restored an %s file", name)
		}
		if left, _ := filepath.Glob(filepath.Join(other, "chappe.db*")); left != nil {
			t.Errorf("a failed restore left %v", left)
		}
	}
}

func TestTokens(t *testing.T) {
	db := open(t, t.TempDir())
	now := time.Now().Truncate(time.Millisecond)
	want := account.Token{
		Hash: [32]byte{1}, Name: "api", Scopes: []account.Scope{account.ScopePublish, account.ScopeRead},
		Patterns: []event.Pattern{"a/**", "b"}, Created: now, Expires: now.Add(time.Hour),
	}
	if err := db.AddToken(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got, err := db.TokenByHash(t.Context(), want.Hash)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("TokenByHash: %v (-want +got):\n%s", err, diff)
	}
	if err := db.RemoveToken(t.Context(), want.Hash); err != nil {
		t.Fatal(err)
	}
	if _, err := db.TokenByHash(t.Context(), want.Hash); !errors.Is(err, account.ErrNoToken) {
		t.Errorf("TokenByHash of a removed token = %v, want ErrNoToken", err)
	}
}
