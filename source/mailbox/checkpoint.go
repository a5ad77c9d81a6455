package mailbox

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/chappe/chappe/event"
)

// window is how many of the newest mails have their flags kept and compared.
const window = 1000

// checkpoint is what is known of the folder: events were published up to it.
type checkpoint struct {
	Address  string `json:"address"`
	Validity uint32 `json:"uidvalidity"`
	Next     uint32 `json:"uidnext"` // mails below were reported, or were there before the watch
	Modified uint64 `json:"modseq,omitempty"`
	Count    uint32 `json:"count"` // of mails in the folder
	Mails    []mail `json:"mails"` // the newest, at most window, by rising UID
}

// mail is one of the newest: its UID and its flags.
type mail [2]uint32

func (m mail) uid() uint32 { return m[0] }

// The flags whose changes are told.
var watched = []imap.Flag{imap.FlagSeen, imap.FlagFlagged, imap.FlagAnswered, imap.FlagDeleted}

// bits are the watched ones of the flags.
func bits(flags []imap.Flag) (b uint32) {
	for _, f := range flags {
		if i := slices.IndexFunc(watched, func(w imap.Flag) bool { return strings.EqualFold(string(f), string(w)) }); i >= 0 {
			b |= 1 << i
		}
	}
	return b
}

// load returns the last checkpoint; an empty one for another mailbox.
func (r *Runner) load(ctx context.Context) (*checkpoint, error) {
	text, err := r.States.State(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, c); err != nil {
			return nil, fmt.Errorf("the checkpoint cannot be read: %w", err)
		}
	}
	if c.Address != "" && c.Address != r.Address.mailbox() {
		r.Logger.Warn("checkpoint was dropped, it is of another mailbox", "watch", r.Name, "was", c.Address, "is", r.Address.mailbox())
		return &checkpoint{}, nil
	}
	return c, nil
}

// publish writes events together with the checkpoint that covers them.
func (l *look) publish(ctx context.Context, events []event.Event) error {
	text, err := json.Marshal(l.checkpoint)
	if err != nil {
		return err
	}
	_, err = l.Publisher.Publish(ctx, event.Batch{Events: events, Checkpoint: &event.Checkpoint{Watch: l.Name, State: text}})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// begin notes the mails that are there when the watch begins, but for those
// from the index from on, which are to be reported.
func (c *checkpoint) begin(s *scan, from int, next uint32) {
	c.Count = s.count - uint32(len(s.mails)-from)
	for _, m := range s.mails[:from] {
		c.add(m.uid, m.bits)
	}
	if from < len(s.mails) {
		c.Next = s.mails[from].uid
	} else {
		c.Next = max(c.Next, next, 1) // the server's may be missing, or too low
	}
}

// find returns where the mail is, or would be, among those kept.
func (c *checkpoint) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(c.Mails, uid, func(m mail, uid uint32) int { return cmp.Compare(m.uid(), uid) })
}

// add keeps one more, newer than all.
func (c *checkpoint) add(uid, flags uint32) {
	c.Mails = append(c.Mails, mail{uid, flags})
	c.Mails = c.Mails[max(0, len(c.Mails)-window):]
	c.Next = max(c.Next, uid+1)
}

// keep takes the newest of all that are there: older ones have their turn when
// newer ones have gone.
func (c *checkpoint) keep(mails []seen) {
	mails = mails[max(0, len(mails)-window):]
	c.Mails = make([]mail, len(mails))
	for i, m := range mails {
		c.Mails[i] = mail{m.uid, m.bits}
	}
}

func (c *checkpoint) flag(uid, flags uint32) {
	if i, ok := c.find(uid); ok {
		c.Mails[i][1] = flags
	}
}

func (c *checkpoint) drop(uid uint32) {
	if i, ok := c.find(uid); ok {
		c.Mails = slices.Delete(c.Mails, i, i+1)
	}
}

// flagged are those of the mails that are kept with other flags.
func (c *checkpoint) flagged(mails []seen) (list []seen) {
	for _, m := range mails {
		if i, ok := c.find(m.uid); ok && c.Mails[i][1] != m.bits {
			list = append(list, m)
		}
	}
	return list
}

// gone are the mails kept that a whole scan did not find where it looked.
func (c *checkpoint) gone(s *scan) (list []mail) {
	there := make(map[uint32]bool, len(s.mails))
	for _, m := range s.mails {
		there[m.uid] = true
	}
	for _, m := range c.Mails {
		covered := s.low <= 1 || len(s.mails) > 0 && m.uid() >= s.mails[0].uid
		if covered && !there[m.uid()] {
			list = append(list, m)
		}
	}
	return list
}
