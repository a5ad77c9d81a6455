package mailbox_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// stored is a mail in a folder.
type stored struct {
	uid    uint32
	flags  []string
	modseq uint64
	head   string
	date   string // INTERNALDATE
	size   int
	broken bool // the server cannot read it
}

// server is an IMAP server with one folder, which the test changes as it is
// watched. It does what it offers, and no more; a hook makes it do worse.
type server struct {
	caps     string // what it offers once somebody is known
	first    string // and before; "": the same
	greeting string // "": a friendly one
	password string
	folder   string
	noNext   bool // it does not tell UIDNEXT
	silent   bool // it does not tell what it offers without being asked
	addr     net.Addr
	tls      *tls.Config // for STARTTLS, or from the first byte on
	implicit bool
	// hook may answer a command, or say something before its answer.
	hook func(c *talk, tag, verb, args string) (answered bool)

	mu       sync.Mutex
	validity uint32
	next     uint32
	modseq   uint64
	mails    []*stored
	talks    []*talk
	lines    []string     // all commands, without their tags
	wire     bytes.Buffer // all that clients sent
	talking  sync.WaitGroup
	closed   atomic.Int32 // how often connections were closed by clients
}

const allCaps = "IMAP4rev1 SASL-IR AUTH=PLAIN IDLE CONDSTORE ESEARCH"

// home and abroad are where a server may seem to be.
var (
	home   = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:143"))
	abroad = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:143"))
)

// newServer has a folder with mails of these subjects, on this machine.
func newServer(subjects ...string) *server {
	s := &server{caps: allCaps, password: "secret", folder: "INBOX", addr: home, validity: 7, next: 1, modseq: 1}
	for _, subject := range subjects {
		s.deliver(subject)
	}
	return s
}

// deliver adds a mail and returns its UID.
func (s *server) deliver(subject string) uint32 {
	return s.add(&stored{head: "From: Ann <ann@a.example>\r\nTo: alice@mail.example\r\nSubject: " + subject + "\r\nMessage-ID: <" + subject + "@a.example>\r\n\r\n"})
}

func (s *server) add(m *stored) uint32 {
	s.change(func() {
		m.uid, m.modseq = s.next, s.modseq
		if m.date == "" {
			m.date = "31-Dec-1999 12:00:00 +0100"
		}
		m.size = len(m.head) + 1000
		s.next++
		s.mails = append(s.mails, m)
	})
	return m.uid
}

func (s *server) flag(uid uint32, flags ...string) {
	s.change(func() {
		for _, m := range s.mails {
			if m.uid == uid {
				m.flags, m.modseq = flags, s.modseq
			}
		}
	})
}

func (s *server) expunge(uids ...uint32) {
	s.change(func() {
		s.mails = slices.DeleteFunc(s.mails, func(m *stored) bool { return slices.Contains(uids, m.uid) })
	})
}

// change changes the folder, and has those who idle told.
func (s *server) change(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.modseq++
	change()
	for _, c := range s.talks {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
}

// commands are those that were sent since the last time, without tags.
func (s *server) commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines
	s.lines = nil
	return lines
}

// count is how many commands begin like this, since the last time.
func (s *server) count(prefix string) (n int) {
	for _, line := range s.commands() {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// sent is all that clients have sent, in the clear or not.
func (s *server) sent() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wire.String()
}

// addressed is a connection to somewhere.
type addressed struct {
	net.Conn
	addr   net.Addr
	closed *atomic.Int32 // how often; may be nil
}

func (c addressed) Close() error {
	if c.closed != nil {
		c.closed.Add(1)
	}
	return c.Conn.Close()
}

func (c addressed) RemoteAddr() net.Addr { return c.addr }

// noting keeps what was read.
type noting struct {
	net.Conn
	s *server
}

func (c noting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.wire.Write(p[:n])
	return n, err
}

// dial is a mailbox.Dial.
func (s *server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	c := &talk{server: s, raw: there, Conn: noting{there, s}, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	s.mu.Lock()
	s.talks = append(s.talks, c)
	s.mu.Unlock()
	s.talking.Go(func() {
		defer close(c.ended)
		defer there.Close()
		c.run()
	})
	return addressed{here, s.addr, &s.closed}, ctx.Err()
}

// drop ends all connections.
func (s *server) drop() {
	s.mu.Lock()
	talks := slices.Clone(s.talks)
	s.mu.Unlock()
	for _, c := range talks {
		_ = c.raw.Close()
	}
	s.talking.Wait()
}

// talk is one connection of a client.
type talk struct {
	*server
	net.Conn
	raw      net.Conn // without TLS
	r        *bufio.Reader
	changed  chan struct{} // has a value when the folder has changed
	view     []seen        // what the client knows, by sequence number
	known    bool
	numbered bool // it has asked for modification numbers
	ended    chan struct{}
}

// seen is a mail as the client was last told of it.
type seen struct {
	uid    uint32
	modseq uint64
}

func (c *talk) has(capability string) bool {
	return slices.Contains(strings.Fields(c.offers()), capability)
}

func (c *talk) offers() string {
	if !c.known && c.first != "" {
		return c.first
	}
	return c.caps
}

// send says lines; on a connection that has ended, nothing.
func (c *talk) send(lines ...string) {
	_, _ = io.WriteString(c.Conn, strings.Join(lines, "\r\n")+"\r\n")
}

// run serves the connection until it ends.
func (c *talk) run() {
	if c.implicit {
		c.Conn = tls.Server(c.Conn, c.tls)
	}
	c.r = bufio.NewReader(c.Conn)
	switch {
	case c.greeting != "":
		c.send(c.greeting)
	case c.silent:
		c.send("* OK ready")
	default:
		c.send("* OK [CAPABILITY " + c.offers() + "] ready")
	}
	for {
		line, err := c.read()
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(line, " ")
		verb, args, _ := strings.Cut(rest, " ")
		if verb == "UID" {
			verb, args, _ = strings.Cut(args, " ")
			verb = "UID " + verb
		}
		c.mu.Lock()
		c.lines = append(c.lines, rest)
		c.mu.Unlock()
		if c.hook != nil && c.hook(c, tag, verb, args) {
			continue
		}
		c.answer(tag, verb, args)
	}
}

// certificates are for example.com and 127.0.0.1; the system trusts them.
var certificates []tls.Certificate

var literal = regexp.MustCompile(`\{([0-9]+)\}$`)

// read returns a command, with its literals in angle brackets.
func (c *talk) read() (string, error) {
	text, err := c.r.ReadString('\n')
	text = strings.TrimRight(text, "\r\n")
	if size := literal.FindStringSubmatch(text); size != nil && err == nil {
		n, _ := strconv.Atoi(size[1])
		c.send("+ go on")
		content := make([]byte, n)
		if _, err := io.ReadFull(c.r, content); err != nil {
			return "", err
		}
		rest, err := c.read()
		return strings.TrimSuffix(text, size[0]) + "<" + string(content) + ">" + rest, err
	}
	return text, err
}

func (c *talk) answer(tag, verb, args string) {
	switch verb {
	case "CAPABILITY":
		c.send("* CAPABILITY "+c.offers(), tag+" OK done")
	case "STARTTLS":
		c.send(tag + " OK go on")
		c.Conn = tls.Server(c.Conn, c.tls)
		c.r = bufio.NewReader(c.Conn)
	case "AUTHENTICATE":
		c.authenticate(tag, args)
	case "LOGIN":
		c.logIn(tag, args == `"alice" "`+c.password+`"` || args == `"alice" <`+c.password+`>`)
	case "EXAMINE":
		c.examine(tag, args)
	case "FETCH", "UID FETCH":
		c.fetch(tag, args, verb == "UID FETCH")
	case "SEARCH":
		if !c.has("ESEARCH") || args != "RETURN (COUNT) UNSEEN" {
			c.send(tag + " BAD SEARCH " + args)
			return
		}
		c.send(fmt.Sprintf(`* ESEARCH (TAG "%s") COUNT %d`, tag, c.unseen()))
		c.tell()
		c.send(tag + " OK done")
	case "STATUS":
		c.status(tag, args)
	case "NOOP":
		c.tell()
		c.send(tag + " OK done")
	case "IDLE":
		c.idle(tag)
	default:
		c.send(tag + " BAD no such command")
	}
}

func (c *talk) authenticate(tag, args string) {
	mechanism, response, initial := strings.Cut(args, " ")
	if mechanism != "PLAIN" || !c.has("AUTH=PLAIN") || initial && !c.has("SASL-IR") {
		c.send(tag + " BAD AUTHENTICATE " + args)
		return
	}
	if !initial {
		c.send("+ ")
		response, _ = c.read()
	}
	text, _ := base64.StdEncoding.DecodeString(response)
	c.logIn(tag, string(text) == "\x00alice\x00"+c.password)
}

func (c *talk) logIn(tag string, right bool) {
	if !right {
		c.send(tag + " NO [AUTHENTICATIONFAILED] wrong user or password")
		return
	}
	c.known = true
	if c.silent {
		c.send(tag + " OK known")
	} else {
		c.send(tag + " OK [CAPABILITY " + c.offers() + "] known")
	}
}

func (c *talk) examine(tag, args string) {
	name, options, _ := strings.Cut(args, " ")
	if strings.Trim(name, `"`) != c.folder {
		c.send(tag + " NO [NONEXISTENT] no such folder")
		return
	}
	if options != "" && (options != "(CONDSTORE)" || !c.has("CONDSTORE")) {
		c.send(tag + " BAD EXAMINE " + args)
		return
	}
	c.mu.Lock()
	c.view = nil
	for _, m := range c.mails {
		c.view = append(c.view, seen{m.uid, m.modseq})
	}
	c.numbered = options != ""
	lines := []string{`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft)`, "* OK [PERMANENTFLAGS ()] Read-only", fmt.Sprintf("* %d EXISTS", len(c.view)),
		"* 0 RECENT", fmt.Sprintf("* OK [UIDVALIDITY %d] valid", c.validity)}
	if !c.noNext {
		lines = append(lines, fmt.Sprintf("* OK [UIDNEXT %d] next", c.next))
	}
	if c.numbered {
		lines = append(lines, fmt.Sprintf("* OK [HIGHESTMODSEQ %d] highest", c.modseq))
	}
	c.mu.Unlock()
	c.send(append(lines, tag+" OK [READ-ONLY] done")...)
}

func (c *talk) unseen() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.mails {
		if !slices.Contains(m.flags, `\Seen`) {
			n++
		}
	}
	return n
}

func (c *talk) status(tag, args string) {
	name, items, _ := strings.Cut(args, " ")
	unseen := c.unseen()
	c.mu.Lock()
	values := map[string]any{"MESSAGES": len(c.mails), "UIDNEXT": c.next, "UNSEEN": unseen}
	if c.has("CONDSTORE") {
		values["HIGHESTMODSEQ"] = c.modseq
	}
	c.mu.Unlock()
	var list []string
	for _, item := range strings.Fields(strings.Trim(items, "()")) {
		if values[item] == nil {
			c.send(tag + " BAD STATUS " + args)
			return
		}
		list = append(list, fmt.Sprint(item, " ", values[item]))
	}
	c.send("* STATUS "+name+" ("+strings.Join(list, " ")+")", tag+" OK done")
}

// tell says what has changed since the client was last told.
func (c *talk) tell() {
	var lines []string
	c.mu.Lock()
	there := map[uint32]*stored{}
	for _, m := range c.mails {
		there[m.uid] = m
	}
	for i := len(c.view) - 1; i >= 0; i-- {
		if there[c.view[i].uid] == nil {
			lines = append(lines, fmt.Sprintf("* %d EXPUNGE", i+1))
			c.view = slices.Delete(c.view, i, i+1)
		}
	}
	for i, v := range c.view {
		if m := there[v.uid]; m.modseq != v.modseq {
			lines = append(lines, fmt.Sprintf("* %d FETCH (%s)", i+1, c.say(m, "FLAGS")))
			c.view[i].modseq = m.modseq
		}
	}
	if known := len(c.view); known < len(c.mails) {
		for _, m := range c.mails[known:] {
			c.view = append(c.view, seen{m.uid, m.modseq})
		}
		lines = append(lines, fmt.Sprintf("* %d EXISTS", len(c.view)))
	}
	c.mu.Unlock()
	if len(lines) > 0 {
		c.send(lines...)
	}
}

func (c *talk) idle(tag string) {
	if !c.has("IDLE") {
		c.send(tag + " BAD IDLE")
		return
	}
	c.send("+ idling")
	done := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		for {
			c.tell()
			select {
			case <-c.changed:
			case <-done:
				return
			}
		}
	})
	line, err := c.read()
	close(done)
	telling.Wait()
	if err == nil && line != "DONE" {
		c.send(tag + " BAD " + line)
		return
	}
	c.send(tag + " OK done")
}

// fields are those that a watch may ask for: more than these would be seen by
// the mailbox's owner.
var fields = regexp.MustCompile(`^\((?:UID|FLAGS|MODSEQ|INTERNALDATE|RFC822\.SIZE|BODY\.PEEK\[HEADER\.FIELDS \("From" "To" "Subject" "Date" "Message-ID"\)\]<0\.16384>| )+\)( \(CHANGEDSINCE ([0-9]+)\))?$`)

func (c *talk) fetch(tag, args string, byUID bool) {
	set, items, _ := strings.Cut(args, " ")
	options := fields.FindStringSubmatch(items)
	if options == nil || strings.Contains(items, "MODSEQ") && !c.numbered || options[1] != "" && !c.numbered {
		c.send(tag + " BAD FETCH " + args)
		return
	}
	since, _ := strconv.ParseUint(options[2], 10, 64)
	ranges := parseSet(set)
	var answer strings.Builder
	result := " OK done"
	c.mu.Lock()
	for i, v := range c.view {
		number := uint32(i + 1)
		if byUID {
			number = v.uid
		}
		if !within(ranges, number) {
			continue
		}
		at, there := slices.BinarySearchFunc(c.mails, v.uid, func(m *stored, uid uint32) int { return cmp.Compare(m.uid, uid) })
		if !there || c.mails[at].modseq <= since {
			continue
		}
		m := c.mails[at]
		if m.broken && strings.Contains(items, "BODY") {
			result = " NO [SERVERBUG] cannot read it"
			continue
		}
		c.view[i].modseq = m.modseq
		fmt.Fprintf(&answer, "* %d FETCH (%s)\r\n", i+1, c.say(m, items))
	}
	c.mu.Unlock()
	_, _ = io.WriteString(c.Conn, answer.String()+tag+result+"\r\n")
}

// say are items of a mail.
func (c *talk) say(m *stored, items string) string {
	var list []string
	if strings.Contains(items, "UID") {
		list = append(list, fmt.Sprintf("UID %d", m.uid))
	}
	if strings.Contains(items, "FLAGS") {
		list = append(list, "FLAGS ("+strings.Join(m.flags, " ")+")")
	}
	if c.numbered {
		list = append(list, fmt.Sprintf("MODSEQ (%d)", m.modseq))
	}
	if strings.Contains(items, "INTERNALDATE") {
		list = append(list, `INTERNALDATE "`+m.date+`"`)
	}
	if strings.Contains(items, "RFC822.SIZE") {
		list = append(list, fmt.Sprintf("RFC822.SIZE %d", m.size))
	}
	if strings.Contains(items, "BODY") {
		head := m.head[:min(len(m.head), 16<<10)]
		list = append(list, fmt.Sprintf("BODY[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID)]<0> {%d}\r\n%s", len(head), head))
	}
	return strings.Join(list, " ")
}

// parseSet reads a set like 1:5,7.
func parseSet(set string) (ranges [][2]uint32) {
	for part := range strings.SplitSeq(set, ",") {
		from, to, isRange := strings.Cut(part, ":")
		if !isRange {
			to = from
		}
		low, _ := strconv.ParseUint(from, 10, 32)
		high, _ := strconv.ParseUint(to, 10, 32)
		ranges = append(ranges, [2]uint32{uint32(low), uint32(high)})
	}
	return ranges
}

func within(ranges [][2]uint32, number uint32) bool {
	return slices.ContainsFunc(ranges, func(r [2]uint32) bool { return number >= r[0] && number <= r[1] })
}

// once is a hook for the first of a command.
func once(verb string, do func(c *talk, tag, args string) bool) func(*talk, string, string, string) bool {
	var first sync.Once
	return func(c *talk, tag, got, args string) (answered bool) {
		if got == verb {
			first.Do(func() { answered = do(c, tag, args) })
		}
		return answered
	}
}

// answers is a hook that answers a command always in the same way.
func answers(verb, answer string) func(*talk, string, string, string) bool {
	return func(c *talk, tag, got, _ string) bool {
		if got == verb {
			c.send(strings.ReplaceAll(answer, "TAG", tag))
		}
		return got == verb
	}
}

const patience = 3 * time.Minute // in which a server is asked again, and one that tells has told
