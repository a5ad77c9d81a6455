// Package mailbox watches a folder of an IMAP mailbox: a mail that arrives is
// told at once (IDLE, RFC 2177), or found by asking where the server cannot
// tell.
//
// At each connection, and whenever the server has said something, the folder
// is looked at and compared with the checkpoint (UIDVALIDITY, the next UID, the
// flags of the newest mails). So there is one way to notice anything, and what
// happened while nobody was connected is noticed too, once: the events and the
// checkpoint that covers them are one batch.
//
// The events: mail.received; mail.flags, when \Seen, \Flagged, \Answered or
// \Deleted changes on one of the newest mails; mail.expunged, when one of these
// has gone; mail.reset, when the folder's numbers mean other mails than before.
// Each carries how many mails are unseen. Nothing in the mailbox is changed.
package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/source"
)

// pollEvery is how often a server without IDLE is asked.
const pollEvery = time.Minute

// settle is the least time between two looks: a server that never stops
// telling costs no more than that.
const settle = 50 * time.Millisecond

// Dial connects to an address.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// Ports are those of IMAP.
var Ports = []uint16{143, 993}

// Runner watches one folder.
type Runner struct {
	Name      string
	Topic     event.Topic
	Address   Address
	Insecure  bool                   // log in without TLS on another machine
	Every     time.Duration          // between asking a server without IDLE; 0: a minute
	Backfill  int                    // how many of the newest mails are reported at the first look
	Password  func() (string, error) // read at each login
	Dial      Dial
	States    source.States
	Publisher event.Publisher
	Logger    *slog.Logger
	MaxData   int           // bytes of an event's data
	LogIns    chan struct{} // its capacity bounds how many connect at once
}

// Run implements source.Runner.
func (r *Runner) Run(ctx context.Context, report source.Report) error {
	c, err := r.load(ctx)
	if err != nil {
		return err
	}
	s, opened, err := r.start(ctx)
	if err == nil {
		defer s.close()
		err = r.follow(ctx, &look{Runner: r, session: s, checkpoint: c}, opened, report)
	}
	if ctx.Err() != nil {
		return ctx.Err() // whatever broke because of it
	}
	return err
}

// start connects and opens the folder, when it is its turn.
func (r *Runner) start(ctx context.Context) (*session, *imap.SelectData, error) {
	select {
	case r.LogIns <- struct{}{}:
		defer func() { <-r.LogIns }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	s, err := r.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	opened, err := s.open(r.Address.Folder)
	if err != nil {
		s.close()
	}
	return s, opened, err
}

// follow looks at the folder, and again each time that something happened.
func (r *Runner) follow(ctx context.Context, l *look, opened *imap.SelectData, report source.Report) error {
	if err := l.begin(ctx, opened); err != nil {
		return err
	}
	for {
		looked := time.Now()
		if err := l.compare(ctx, l.session.takeHints()); err != nil {
			return err
		}
		report(time.Time{})
		var err error
		if l.session.idles {
			err = l.session.idle(ctx)
		} else {
			err = l.session.poll(ctx, r.every(), report)
		}
		if err != nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(settle - time.Since(looked))
	}
}

func (r *Runner) every() time.Duration {
	if r.Every == 0 {
		return pollEvery
	}
	return max(r.Every, time.Second)
}

// maxPassword bounds a password in bytes.
const maxPassword = 1024

// PasswordIn reads the password from a file, each time anew, without its final newline.
func PasswordIn(path string) func() (string, error) {
	return func() (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("the password cannot be read: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxPassword+2))
		if err != nil {
			return "", fmt.Errorf("the password cannot be read: %w", err)
		}
		return CheckPassword(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"))
	}
}

// CheckPassword refuses what no server takes, or what could end a command.
func CheckPassword(password string) (string, error) {
	if password == "" || len(password) > maxPassword || strings.ContainsAny(password, "\r\n\x00") {
		return "", errors.New("the password is empty, or longer than 1024 bytes, or has a line end or a zero byte within")
	}
	return password, nil
}
