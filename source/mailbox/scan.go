package mailbox

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// maxScans is how often a scan is begun anew that the server's own news got in
// the way of.
const maxScans = 5

// What of a mail's flags is told.
const (
	maxFlags     = 50
	maxFlagBytes = 100
)

// seen is a mail as it was seen in the folder.
type seen struct {
	uid, bits uint32
	flags     []imap.Flag
}

// scan is the end of the folder: its newest mails, or, where the server numbers
// changes, those of them that changed since the checkpoint.
type scan struct {
	mails   []seen // by rising UID
	low     uint32 // the sequence number from which on all were looked at
	count   uint32 // mails in the folder
	highest uint64 // modification number of the newest change among them
}

// split parts the mails known before from the new ones.
func (s *scan) split(next uint32) (old, fresh []seen) {
	i, _ := slices.BinarySearchFunc(s.mails, next, func(m seen, next uint32) int { return cmp.Compare(m.uid, next) })
	return s.mails[:i], s.mails[i:]
}

// scan looks at the newest mails, a window at a time, further back as long as
// all of them are new.
func (l *look) scan(windows int) (*scan, error) {
	c := l.checkpoint
	count, err := l.session.count()
	if err != nil {
		return nil, err
	}
	s := &scan{count: count, highest: c.Modified}
	for s.low = s.count + 1; s.low > 1 && windows > 0; windows-- {
		high := s.low - 1
		s.low = max(1, high-min(high, window)+1)
		page, err := l.page(s, high)
		if err != nil {
			return nil, err
		}
		s.mails = append(page, s.mails...)
		// Only where all were asked for, one that is missing has gone since it was
		// counted: it hides none before it. Else the missing ones are known.
		full := l.whole || uint32(len(page)) == high-s.low+1
		if len(page) == 0 || page[0].uid < c.Next || !full {
			break
		}
	}
	if s.low > 1 && windows == 0 && l.checkpoint.Next > 0 {
		l.Logger.Warn("older mails were not reported", "watch", l.Name, "most", maxNew)
	}
	return s, nil
}

// page looks at the mails from s.low to high.
func (l *look) page(s *scan, high uint32) ([]seen, error) {
	var set imap.SeqSet
	set.AddRange(s.low, high)
	options := &imap.FetchOptions{UID: true, Flags: true, ModSeq: l.session.modified}
	if l.session.modified && !l.whole {
		options.ChangedSince = l.checkpoint.Modified
	}
	for range maxScans {
		answers, err := l.session.fetch(set, options)
		if err != nil {
			return nil, err
		}
		page, complete := make([]seen, 0, len(answers)), true
		for _, a := range answers {
			complete = complete && a.UID != 0
			s.highest = max(s.highest, a.ModSeq)
			page = append(page, seen{uint32(a.UID), bits(a.Flags), tellable(a.Flags)})
		}
		// The server may tell of a change, without UID, while it answers;
		// the library takes that for the answer.
		if complete {
			slices.SortFunc(page, func(a, b seen) int { return cmp.Compare(a.uid, b.uid) })
			return page, nil
		}
	}
	return nil, errors.New("the server does not say the UID of each mail")
}

// tellable bounds what a mail's flags add to an event. \Recent is about our
// connection, not about the mail.
func tellable(flags []imap.Flag) []imap.Flag {
	list := slices.DeleteFunc(flags, func(f imap.Flag) bool {
		return len(f) > maxFlagBytes || strings.EqualFold(string(f), `\Recent`)
	})
	return append([]imap.Flag{}, list[:min(len(list), maxFlags)]...)
}

// fetch asks for items of mails and waits for all.
func (s *session) fetch(set imap.NumSet, options *imap.FetchOptions) ([]*imapclient.FetchMessageBuffer, error) {
	s.guard.allow(answerTime)
	answers, err := s.client.Fetch(set, options).Collect()
	return answers, s.explain(err)
}
