package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The high-water mark is a file beside the database that says how far the log
// had come, at most a second ago and never ahead of it. A database that is
// behind it is an older copy: cursors given out since would skip what comes
// next, so it gets a new epoch.

func (l *Log) writeHighWater() error {
	text := fmt.Sprintf("%s %d\n", l.epoch, l.catalog.head.Load())
	if text == l.upkeep.marked {
		return nil
	}
	path := filepath.Join(l.db.dir, highWaterFile)
	if err := writeSynced(path+".new", text); err != nil {
		return err
	}
	l.upkeep.marked = text
	return os.Rename(path+".new", path)
}

// writeSynced has the text on disk before it returns: an empty mark after a
// power failure would send every reader back to the start.
func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (l *Log) checkHighWater(ctx context.Context, head int64) error {
	text, err := os.ReadFile(filepath.Join(l.db.dir, highWaterFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var epoch string
	var seq int64
	_, err = fmt.Sscanf(string(text), "%s %d", &epoch, &seq)
	if err == nil && epoch == l.epoch && seq <= head {
		return nil
	}
	l.epoch = newEpoch()
	l.logger.Warn("the log is not the one that was here; readers are told to start over",
		"marked_epoch", epoch, "marked_seq", seq, "head", head, "epoch", l.epoch)
	_, err = l.db.writer.ExecContext(ctx, `UPDATE log SET epoch = $1`, l.epoch)
	return err
}
