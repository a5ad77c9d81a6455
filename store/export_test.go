package store

import "context"

// PretendNewer makes the folder look like a later version's.
func PretendNewer(ctx context.Context, db *DB) error {
	_, err := db.writer.ExecContext(ctx, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, 1)`)
	return err
}
