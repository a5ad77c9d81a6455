package mailbox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/chappe/chappe/event"
)

// maxNew is how many mails are reported after an absence: the newest.
const maxNew = 100_000

// How many mails' heads are asked for at once: few at first, so that also a link
// that never lasts long brings some, then twice as many each time.
const (
	firstBatch = 4
	headBatch  = 64
)

// look compares the open folder with the checkpoint.
type look struct {
	*Runner
	session    *session
	checkpoint *checkpoint
	whole      bool // compare all of the window, not only what is known to have changed
}

// begin takes what the server said when it opened the folder. Where the watch
// begins, and where the numbers mean other mails than before, what is there now
// is only noted.
func (l *look) begin(ctx context.Context, opened *imap.SelectData) error {
	c := l.checkpoint
	if opened.HighestModSeq < c.Modified {
		c.Modified = 0 // the folder was restored from a copy, or its changes are not numbered any more
	}
	l.whole = !l.session.modified || c.Modified == 0
	if c.Address != "" && c.Validity == opened.UIDValidity {
		return nil
	}
	first, was := c.Address == "", c.Validity
	*c = checkpoint{Address: l.Address.mailbox(), Validity: opened.UIDValidity}
	l.whole = true
	s, err := l.scan(1)
	if err != nil {
		return err
	}
	report := 0
	if first {
		report = min(l.Backfill, len(s.mails))
	}
	c.begin(s, len(s.mails)-report, uint32(opened.UIDNext))
	if first {
		return l.publish(ctx, nil)
	}
	l.Logger.Warn("mailbox was renumbered", "watch", l.Name, "was", was, "is", c.Validity)
	about, err := l.about()
	if err != nil {
		return err
	}
	return l.publish(ctx, []event.Event{l.event("mail.reset", resetData{about, was, s.count})})
}

// compare finds what differs from the checkpoint, and publishes it.
func (l *look) compare(ctx context.Context, h hints) error {
	c := l.checkpoint
	l.whole = l.whole || h.expunged || h.flagged && !l.session.modified
	s, err := l.scan(maxNew / window)
	if err != nil {
		return err
	}
	old, fresh := s.split(c.Next)
	if !l.whole && s.count != c.Count+uint32(len(fresh)) {
		l.whole = true // fewer than there should be: some have gone
		return l.compare(ctx, h)
	}
	flagged, gone := c.flagged(old), []mail(nil)
	if l.whole {
		gone = c.gone(s)
	}
	if len(fresh)+len(flagged)+len(gone) > 0 {
		return l.report(ctx, s, fresh, flagged, gone)
	}
	if !l.settle(s) {
		return nil
	}
	return l.publish(ctx, nil)
}

// settle notes in the checkpoint what a scan saw, when that is told, and
// reports whether it is news.
func (l *look) settle(s *scan) (news bool) {
	c := l.checkpoint
	kept := len(c.Mails)
	if l.whole && len(s.mails) >= min(window, int(s.count)) {
		c.keep(s.mails)
	}
	l.whole = false
	news = c.Count != s.count || c.Modified != s.highest || len(c.Mails) != kept
	c.Count, c.Modified = s.count, s.highest
	return news
}

// report publishes the new mails, batch by batch, then what became of the known
// ones, with the checkpoint after each.
func (l *look) report(ctx context.Context, s *scan, fresh, flagged []seen, gone []mail) error {
	about, err := l.about()
	if err != nil {
		return err
	}
	for size := firstBatch; len(fresh) > 0; size = min(2*size, headBatch) {
		size = min(size, len(fresh))
		if err := l.receive(ctx, fresh[:size], about); err != nil {
			return err
		}
		fresh = fresh[size:]
	}
	c := l.checkpoint
	var events []event.Event // fewer than a batch of the log may hold: there are at most window
	for _, m := range flagged {
		data := flagsData{about, m.uid, m.flags}
		data.fit(l.MaxData)
		events = append(events, l.event("mail.flags", data))
		c.flag(m.uid, m.bits)
	}
	for _, m := range gone {
		events = append(events, l.event("mail.expunged", expungedData{about, m.uid()}))
		c.drop(m.uid())
	}
	l.settle(s)
	return l.publish(ctx, events)
}

// receive publishes new mails.
func (l *look) receive(ctx context.Context, batch []seen, about folderData) error {
	heads, err := l.session.heads(batch)
	if err != nil {
		return err
	}
	var events []event.Event
	for _, m := range batch {
		l.checkpoint.add(m.uid, m.bits)
		l.checkpoint.Count++
		answer, there := heads[imap.UID(m.uid)]
		if !there {
			continue // it has gone meanwhile
		}
		data := receivedData{folderData: about, UID: m.uid, head: parseHead(answer.FindBodySection(headSection)), Size: answer.RFC822Size, Flags: m.flags}
		data.fit(l.MaxData)
		e := l.event("mail.received", data)
		e.ID, e.Subject = l.Address.mailID(l.checkpoint.Validity, m.uid), data.Subject
		if t := answer.InternalDate; !t.IsZero() && isTime(t) && t.Before(e.Time) {
			e.Time = t.UTC()
		}
		events = append(events, e)
	}
	return l.publish(ctx, events)
}

// headSection is what is asked for of a new mail. The server cuts it: a mail
// with a head of megabytes is its sender's joke, not our fault.
var headSection = &imap.FetchItemBodySection{
	Specifier: imap.PartSpecifierHeader, HeaderFields: headFields, Peek: true,
	Partial: &imap.SectionPartial{Size: maxHead},
}

// heads asks for the heads of mails. One that the server cannot read is given
// without; it must not hide the others.
func (s *session) heads(batch []seen) (map[imap.UID]*imapclient.FetchMessageBuffer, error) {
	options := &imap.FetchOptions{UID: true, RFC822Size: true, InternalDate: true, BodySection: []*imap.FetchItemBodySection{headSection}}
	heads := make(map[imap.UID]*imapclient.FetchMessageBuffer, len(batch))
	var set imap.UIDSet
	for _, m := range batch {
		set.AddNum(imap.UID(m.uid))
	}
	for range maxScans {
		answers, err := s.fetch(set, options)
		if refused(err) {
			return s.headsOneByOne(batch)
		}
		if err != nil {
			return nil, err
		}
		complete := true
		for _, a := range answers {
			complete = complete && len(a.BodySection) > 0
			heads[a.UID] = a
		}
		if complete { // else it is as in page
			break
		}
	}
	return heads, nil
}

func (s *session) headsOneByOne(batch []seen) (map[imap.UID]*imapclient.FetchMessageBuffer, error) {
	heads := make(map[imap.UID]*imapclient.FetchMessageBuffer, len(batch))
	if len(batch) == 1 {
		heads[imap.UID(batch[0].uid)] = &imapclient.FetchMessageBuffer{}
		return heads, nil
	}
	for i := range batch {
		one, err := s.heads(batch[i : i+1])
		if err != nil {
			return nil, err
		}
		maps.Copy(heads, one)
	}
	return heads, nil
}

// folderData is what each event says of the folder.
type folderData struct {
	Account  string `json:"account"`
	Folder   string `json:"folder"`
	Validity uint32 `json:"uidvalidity"`
	Unseen   uint32 `json:"unseen"` // mails in the folder that nobody has read
}

type receivedData struct {
	folderData
	UID uint32 `json:"uid"`
	head
	Size  int64       `json:"size"` // bytes
	Flags []imap.Flag `json:"flags"`
}

// fit leaves out, part by part, what is too long for an event.
func (d *receivedData) fit(limit int) {
	for _, leaveOut := range []func(){
		func() { d.To = d.To[:0] },
		func() { d.From = d.From[:min(1, len(d.From))] },
		func() { d.Subject = clean(d.Subject, 100) },
		func() { d.From, d.Flags, d.MessageID = d.From[:0], d.Flags[:0], "" },
		func() { d.Subject = "" },
	} {
		if text, err := json.Marshal(d); err != nil || len(text) <= limit {
			return
		}
		leaveOut()
	}
}

type flagsData struct {
	folderData
	UID   uint32      `json:"uid"`
	Flags []imap.Flag `json:"flags"`
}

// fit leaves out the flags that are not watched, if they are too long for an event.
func (d *flagsData) fit(limit int) {
	if text, err := json.Marshal(d); err == nil && len(text) > limit {
		d.Flags = slices.DeleteFunc(d.Flags, func(f imap.Flag) bool { return bits([]imap.Flag{f}) == 0 })
	}
}

type expungedData struct {
	folderData
	UID uint32 `json:"uid"`
}

type resetData struct {
	folderData
	Was   uint32 `json:"was"`   // the UIDVALIDITY before
	Count uint32 `json:"count"` // mails in the folder
}

// about asks what there is to say of the folder.
func (l *look) about() (folderData, error) {
	unseen, err := l.session.unseen()
	return folderData{l.Address.User, l.Address.Folder, l.checkpoint.Validity, unseen}, err
}

func (l *look) event(kind string, data any) event.Event {
	text, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("data of %s: %v", kind, err)) // plain values always marshal
	}
	return event.Event{Source: "/mailboxes/" + l.Name, Type: kind, Topic: l.Topic, Time: time.Now().UTC(), Data: text}
}
