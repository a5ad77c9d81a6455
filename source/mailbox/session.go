package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/chappe/chappe/source"
)

// renewTime is how long an IDLE lasts: servers end it after 30 minutes (RFC
// 2177), and its end shows that the link lives.
const renewTime = 10 * time.Minute

// session is one connection to the server, with the folder open.
type session struct {
	client *imapclient.Client
	guard  *guard
	stop   func() bool // the context's hold on the connection
	folder string

	idles    bool // the server tells us
	modified bool // it numbers changes (CONDSTORE, RFC 7162)
	counts   bool // it can count what a search finds (ESEARCH, RFC 4731)

	before counts // what STATUS said before the last look, where the server is asked

	news  chan struct{} // has a value when hints were given
	mu    sync.Mutex
	hints hints
}

// hints are what the server said by itself of known mails; new ones are seen
// by looking.
type hints struct{ flagged, expunged bool }

// newSession begins to speak IMAP.
func newSession(g *guard) *session {
	s := &session{guard: g, news: make(chan struct{}, 1)}
	s.client = imapclient.New(g, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Expunge: func(uint32) { s.tell(hints{expunged: true}) },
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil {
				s.tell(hints{})
			}
		},
		Fetch: func(m *imapclient.FetchMessageData) {
			for m.Next() != nil { // the reader waits until all is taken
			}
			s.tell(hints{flagged: true})
		},
	}})
	return s
}

func (s *session) tell(h hints) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hints.flagged = s.hints.flagged || h.flagged
	s.hints.expunged = s.hints.expunged || h.expunged
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// takeHints returns the hints since the last time.
func (s *session) takeHints() hints {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.news:
	default:
	}
	h := s.hints
	s.hints = hints{}
	return h
}

// close ends the connection.
func (s *session) close() {
	if s.stop != nil {
		s.stop()
	}
	_ = s.client.Close() // nobody is there to be told
}

// explain says why the connection ended, where the server or the guard said so.
func (s *session) explain(err error) error {
	if err == nil {
		return nil
	}
	if _, parked := errors.AsType[*source.ParkError](err); parked {
		return err
	}
	if answer, ok := errors.AsType[*imap.Error](err); ok {
		return answerError{answer}
	}
	switch bye, fault := s.guard.why(); {
	case fault != nil:
		return fault
	case bye != "":
		return fmt.Errorf("the server ended the session: %s", bye)
	}
	// Why the library stopped to read says more than that it is closed now.
	cause := s.client.Close()
	switch {
	case cause != nil && !errors.Is(cause, net.ErrClosed):
		err = cause
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the connection broke: %s", clean(err.Error(), keep)) // it repeats what the server sent
}

// answerError is a command that the server did not do.
type answerError struct{ answer *imap.Error }

func (e answerError) Error() string {
	return fmt.Sprintf("the server answered %s: %s", e.answer.Type, clean(e.answer.Text, keep))
}

func (e answerError) Unwrap() error { return e.answer }

// refused reports whether the server answered NO: the command failed, and
// nothing else.
func refused(err error) bool {
	answer, ok := errors.AsType[*imap.Error](err)
	return ok && answer.Type == imap.StatusResponseTypeNo
}

// open opens the folder, for reading only.
func (s *session) open(folder string) (*imap.SelectData, error) {
	s.folder = folder
	s.guard.allow(answerTime)
	// Asked for here: the library may still hold what was offered before the login.
	caps, err := s.client.Capability().Wait()
	if err != nil {
		return nil, s.explain(err)
	}
	s.idles = caps.Has(imap.CapIdle)
	s.modified = caps.Has(imap.CapCondStore)
	s.counts = caps.Has(imap.CapESearch)
	data, err := s.client.Select(folder, &imap.SelectOptions{ReadOnly: true, CondStore: s.modified}).Wait()
	if err != nil {
		return nil, s.openError(err)
	}
	if data.UIDValidity == 0 {
		return nil, &source.ParkError{Cause: fmt.Errorf("the folder %q keeps no numbers of its mails (UIDVALIDITY): what is new there cannot be told", folder)}
	}
	s.modified = s.modified && data.HighestModSeq > 0 // RFC 7162 §3.1.2.2: NOMODSEQ
	// The library says that the folder is open before it notes how many mails
	// there are; once it has read another answer it has.
	return data, s.explain(s.client.Noop().Wait())
}

// openError parks the watch where the folder is not there, or not for us.
func (s *session) openError(err error) error {
	if !refused(err) {
		return s.explain(err)
	}
	answer, _ := errors.AsType[*imap.Error](err)
	err = fmt.Errorf("the folder %q cannot be opened: %s", s.folder, clean(answer.Text, keep))
	// RFC 5530 has a code for this, which not every server gives.
	missing := answer.Code == imap.ResponseCodeNonExistent || answer.Code == imap.ResponseCodeNoPerm
	if !missing && answer.Code == "" {
		folders, listError := s.client.List("", s.folder, nil).Collect()
		missing = listError == nil && len(folders) == 0
	}
	if missing {
		return &source.ParkError{Cause: fmt.Errorf("%w; correct the folder in the address (below another it may be written Work.Sub), then restart", err)}
	}
	return err
}

// count is how many mails are in the folder, as far as we were told.
func (s *session) count() (uint32, error) {
	box := s.client.Mailbox()
	if box == nil {
		return 0, s.explain(errors.New("the folder is open no more"))
	}
	return box.NumMessages, nil
}

// unseen counts the mails that nobody has read.
func (s *session) unseen() (uint32, error) {
	s.guard.allow(answerTime)
	if s.counts {
		found, err := s.client.Search(&imap.SearchCriteria{NotFlag: []imap.Flag{imap.FlagSeen}}, &imap.SearchOptions{ReturnCount: true}).Wait()
		if err != nil {
			return 0, s.explain(err)
		}
		return found.Count, nil
	}
	// A plain search would list them all. STATUS of an open folder is
	// discouraged (RFC 9051 §6.3.11) because it may be slow, not wrong.
	status, err := s.client.Status(s.folder, &imap.StatusOptions{NumUnseen: true}).Wait()
	if err != nil || status.NumUnseen == nil {
		return 0, s.explain(err)
	}
	return *status.NumUnseen, nil
}

// idle returns when the server has told something, or an error (RFC 2177).
func (s *session) idle(ctx context.Context) error {
	for {
		s.guard.allow(answerTime)
		command, err := s.client.Idle()
		if _, answered := errors.AsType[*imap.Error](err); answered {
			s.idles = false // it says it can, and does not: ask from now on
			return nil
		}
		if err != nil {
			return s.explain(err)
		}
		s.guard.allow(renewTime + answerTime)
		renew := time.NewTimer(renewTime)
		told := false
		select {
		case <-s.news:
			told = true
		case <-renew.C:
		case <-s.client.Closed():
		case <-ctx.Done():
		}
		renew.Stop()
		s.guard.allow(answerTime)
		if err := s.endIdle(command); err != nil || ctx.Err() != nil {
			return err
		}
		if told {
			return nil
		}
	}
}

// endIdle asks for the end of IDLE and waits for it.
func (s *session) endIdle(command *imapclient.IdleCommand) error {
	err := command.Close()
	if ended := command.Wait(); err == nil {
		err = ended
	}
	select {
	case <-s.client.Closed():
		return s.explain(io.ErrUnexpectedEOF) // whatever it was that could not be written
	default:
		return s.explain(err)
	}
}

// poll asks until something differs from before the last look: what there is
// for servers without IDLE. asked is called before each wait.
func (s *session) poll(ctx context.Context, every time.Duration, asked func(next time.Time)) error {
	for {
		now, err := s.status()
		if err != nil {
			return err
		}
		if now != s.before {
			s.before = now
			s.tell(hints{flagged: true}) // what differs is seen by looking
			return nil
		}
		s.guard.allow(every + answerTime)
		asked(time.Now().Add(every))
		select {
		case <-time.After(every):
		case <-s.news: // it told something when it was asked, that is not counted
			return nil
		case <-s.client.Closed():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// counts is what STATUS says of a folder.
type counts struct {
	messages, unseen uint32
	next             imap.UID
	modified         uint64
}

// status asks how the folder is, and has the server tell what it held back.
func (s *session) status() (counts, error) {
	s.guard.allow(answerTime)
	if err := s.client.Noop().Wait(); err != nil {
		return counts{}, s.explain(err)
	}
	status, err := s.client.Status(s.folder, &imap.StatusOptions{
		NumMessages: true, NumUnseen: true, UIDNext: true, HighestModSeq: s.modified}).Wait()
	if err != nil {
		return counts{}, s.explain(err)
	}
	c := counts{next: status.UIDNext, modified: status.HighestModSeq}
	if status.NumMessages != nil {
		c.messages = *status.NumMessages
	}
	if status.NumUnseen != nil {
		c.unseen = *status.NumUnseen
	}
	return c, nil
}
