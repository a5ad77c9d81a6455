package mailbox

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/google/go-cmp/cmp"
)

// wire is a connection whose server has said it all already.
type wire struct {
	net.Conn
	io.Reader
}

func (w wire) Read(p []byte) (int, error) { return w.Reader.Read(p) }

// pass sends bytes through a guard, and returns how many came and why it ended.
func pass(r io.Reader) (g *guard, passed int64, err error) {
	g = &guard{Conn: wire{Reader: r}}
	passed, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{g}, make([]byte, 4096)) // as the library reads
	return g, passed, err
}

func TestGuardRefuses(t *testing.T) {
	literals := func(n int) string { return "* 1 FETCH (" + strings.Repeat("BODY[] {1}\r\nx ", n) }
	tests := []struct {
		name, says, want string
		most             int64 // bytes that may pass
	}{
		{"a line without end", strings.Repeat("x", 8<<20), "a line of", maxLine},
		{"a line too long", strings.Repeat("x", maxLine) + "\r\n", "a line of", maxLine},
		{"a long literal", "* 1 FETCH (BODY[] {1048577}\r\n", "a literal of", 0},
		{"a literal of 4 GiB", "* 1 FETCH (BODY[] {4294967295}\r\n", "a literal of", 0},
		{"a literal beyond any number", "* 1 FETCH (BODY[] {99999999999999999999999}\r\n", "a literal of", 0},
		{"a literal whose size overflows", "* 1 FETCH (BODY[] {18446744073709551617}\r\n", "a literal of", 0},
		{"a literal8", "* 1 FETCH (BINARY[] ~{4294967295}\r\n", "a literal of", 0},
		{"a literal that does not wait", "* 1 FETCH (BODY[] {4294967295+}\r\n", "a literal of", 0},
		{"a literal and a line feed", "* 1 FETCH (BODY[] {4294967295}\n", "a literal of", 0},
		{"a literal and a space", "* 1 FETCH (BODY[] {4294967295} \r\n", "a literal of", 0}, // the library takes that
		{"a literal at the end of a long line", "* 1 FETCH (" + strings.Repeat("x", 5000) + " {4294967295}\r\n", "a literal of", 5000},
		{"a literal with zeros before", "* 1 FETCH (BODY[] {" + strings.Repeat("0", 5000) + "4294967295}\r\n", "a literal of", 5000},
		{"a literal after a literal", "* 1 FETCH (BODY[1] {3}\r\n{9} BODY[2] {4294967295}\r\n", "a literal of", 0},
		{"a literal in a literal's last line", "* 1 FETCH (BODY[1] {4}\r\n{9}\r {4294967295}\r\n", "a literal of", 0},
		{"lists in lists", "* 1 FETCH (BODYSTRUCTURE " + strings.Repeat("(", 60_000) + "\r\n", "lists in one answer", 4096},
		{"lists in lists, past literals", "* 1 FETCH (BODYSTRUCTURE " + strings.Repeat("((({0}\r\n", 1000), "lists in one answer", 4096},
		{"a quoted string over two lines", "* 1 FETCH (BODYSTRUCTURE (\"a\r\nb\"", "a quoted string without end", 0},
		{"a quoted string over two lines, after a literal", "* 1 FETCH (BODY[] {0}\r\n BODYSTRUCTURE (\"a\\\"\r\nb\"", "a quoted string without end", 0},
		{"a code over two lines", "* OK [X y\r\nz]", "a code without end", 0},
		{"a code over two lines at a command's end", "T1 NO [X y\r\nz]", "a code without end", 0},
		{"a list of mails", "* SEARCH" + strings.Repeat(" 1", 1000) + "\r\n* SEARCH 1\r\n", "nobody asked for", 0},
		{"a list of mails with a number", "* 7 search" + strings.Repeat(" 1", 1000) + "\r\n", "nobody asked for", 0},
		{"a list among capabilities", "* CAPABILITY IMAP4rev1 (", "among its capabilities", 0},
		{"a list as capabilities", "* capability(", "among its capabilities", 0},
		{"a list among capabilities with a number", "* 7 CAPABILITY (", "among its capabilities", 0},
		{"a list among capabilities in a greeting", "* OK [CAPABILITY IMAP4rev1 (", "among its capabilities", 0},
		{"a list among capabilities after a login", "T2 OK [CAPABILITY (", "among its capabilities", 0},
		{"200,000 tiny literals", literals(200_000), "lines for one command", maxLines * 20},
		{"200,000 lines", strings.Repeat("* 1 EXISTS\r\n", 200_000), "lines for one command", maxLines * 20},
		{"200,000 line ends", strings.Repeat("\n", 200_000), "lines for one command", maxLines * 20},
		{"literals of a megabyte", strings.Repeat("* 1 FETCH (BODY[] {1048576}\r\n"+strings.Repeat("x", maxLiteral)+")\r\n", 8), "bytes for one command", maxResponse + maxLiteral},
		{"lines of 60 KiB", strings.Repeat(strings.Repeat("x", 60<<10)+"\r\n", 100), "bytes for one command", maxResponse + maxLiteral},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			started := time.Now()
			g, passed, err := pass(strings.NewReader(tt.says))
			took := time.Since(started)
			runtime.ReadMemStats(&after)

			if err == nil || !strings.Contains(err.Error(), tt.want) || passed > tt.most {
				t.Errorf("%d bytes passed, then %v; want at most %d, then %q", passed, err, tt.most, tt.want)
			}
			if _, fault := g.why(); fault != err {
				t.Errorf("why = %v, want %v", fault, err)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 || took > time.Second {
				t.Errorf("it took %v and %d bytes", took, allocated)
			}
			if n, again := g.Read(make([]byte, 10)); n != 0 || again != err {
				t.Errorf("then Read = %d, %v; want it to stay at its end", n, again)
			}
		})
	}
}

func TestGuardPasses(t *testing.T) {
	tests := []struct{ name, says string }{
		{"the longest line", strings.Repeat("x", maxLine-2) + "\r\n"},
		{"the longest literal", "* 1 FETCH (BODY[] {1048576}\r\n" + strings.Repeat("x", maxLiteral) + ")\r\n"},
		{"long lines in a literal", "* 1 FETCH (BODY[] {131072}\r\n" + strings.Repeat("x", 2*maxLine) + ")\r\n"},
		{"many lines in a literal", "* 1 FETCH (BODY[] {100000}\r\n" + strings.Repeat("\n", 100_000) + ")\r\n"},
		{"an announcement in a literal", "* 1 FETCH (BODY[] {16}\r\n{4294967295}\r\n\r\n)\r\n"},
		{"an empty literal", "* 1 FETCH (BODY[] {0}\r\n)\r\n"},
		{"as many lines as there may be", strings.Repeat("* 1 EXISTS\r\n", maxLines)},
		{"braces that announce nothing", "* OK {} {a} {12 x}\r\n* OK {\r\n* OK }\r\n* OK a}\r\n* OK {-5}\r\n"},
		{"an identifier in braces", "* OK ready {3f2504e0-4f89-11d3-9a0c-0305e82c3301}\r\n"},
		{"what looks like a literal in text", "* OK {4294967295}\r\n* 5 OK {4294967295}\r\n* ok({4294967295}\r\n* NO [X] {4294967295}\r\nT1 BAD {4294967295}\r\n+ {4294967295}\r\n* BYE {4294967295}\r\n"},
		{"what looks like a quoted string in text", "* OK 5\" disks\r\n* BAD [ALERT] 5\" [disks\r\nT1 OK \"\r\n+ \"\r\n* OK [X \"] disks\r\n* OK [UNSEEN 3]\r\n"},
		{"what looks like a literal in a quoted string", "* 1 FETCH (ENVELOPE (\"a {4294967295}\" \"\\\"{4294967295}\"))\r\n"},
		{"lists in a quoted string", "* 1 FETCH (ENVELOPE (\"" + strings.Repeat("(", 1000) + "\"))\r\n"},
		{"lists in a literal", "* 1 FETCH (BODY[] {1000}\r\n" + strings.Repeat("(", 1000) + ")\r\n"},
		{"a list after capabilities", "T2 OK [CAPABILITY IMAP4rev1] known (as alice)\r\n* OK we have the [CAPABILITY (IES)]\r\n"},
		{"lists of many answers", strings.Repeat("* 1 FETCH (FLAGS (\\Seen) MODSEQ (1))\r\n", 5000)},
		{"nothing", ""},
	}
	for _, tt := range tests {
		if g, passed, err := pass(strings.NewReader(tt.says)); err != nil || passed != int64(len(tt.says)) {
			t.Errorf("%s: %d of %d bytes pass, then %v; %+v", tt.name, passed, len(tt.says), err, g)
		}
	}
}

// TestGuardAllows holds that each command has the whole bounds.
func TestGuardAllows(t *testing.T) {
	g := &guard{Conn: &deadlines{}}
	for range 10 {
		g.allow(time.Minute)
		for range 3 {
			if err := g.count([]byte("* 1 FETCH (X {1000000}\r\n" + strings.Repeat("x", 1_000_000) + ")\r\n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.count(bytes.Repeat([]byte("\n"), maxLines-6)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.count([]byte("\n")); err == nil {
		t.Error("a line more than there may be passes")
	}
}

// deadlines is a connection that notes the last one set.
type deadlines struct {
	net.Conn
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.read = t; return nil }

func TestGuardKeepsTheBye(t *testing.T) {
	tests := []struct{ says, want string }{
		{"* BYE Autologout\r\n", "Autologout"},
		{"* bye idle for too long\r\n", "idle for too long"},
		{"* OK hello\r\n* 5 EXISTS\r\n* BYE [UNAVAILABLE] maintenance\r\n", "[UNAVAILABLE] maintenance"},
		{"* BYE a\x1b[31m\x00b\r\n", "a [31m b"},
		{"* BYE\r\n", ""},
		{"* BYE " + strings.Repeat("x", 5000) + "\r\n", strings.Repeat("x", keep-len("* BYE "))},
		{"* OK BYE\r\n", ""},
		{"* 1 FETCH (BODY[] {11}\r\n* BYE now\r\n)\r\n", ""},
		{"* BYE not yet at its end", ""},
	}
	for _, tt := range tests {
		g, _, err := pass(strings.NewReader(tt.says))
		if bye, fault := g.why(); bye != tt.want || fault != nil || err != nil {
			t.Errorf("%q: %q, %v, %v; want %q", tt.says, bye, fault, err, tt.want)
		}
	}
}

// what a guard has counted, to be compared
type counted struct {
	Bytes, Lines, Lists, Literal int
	GoesOn                       bool
	Line                         line
	Bye, Fault                   string
}

func countedBy(g *guard) counted {
	c := counted{g.bytes, g.lines, g.lists, g.literal, g.goesOn, g.line, g.bye, ""}
	c.Line.start = append([]byte{}, c.Line.start...)
	if g.fault != nil {
		c.Fault = g.fault.Error()
	}
	return c
}

// TestGuardAtEachSplit holds that it does not matter how the bytes come.
func TestGuardAtEachSplit(t *testing.T) {
	says := "* OK hi \"x {5}\r\n* 1 FETCH (UID 5 BODY[HEADER]<0> {17}\r\nSubject: {9}\r\n\r\n FLAGS (\\Seen))\r\n* 2 FETCH (BODY[] {2}\r\n{9 X \"\\\"{\" {0} \r\n)\n" +
		"* 3 FETCH (" + strings.Repeat("y", 2*keep) + " {3}\r\nabc)\r\n* BYE [X] see you\r\n* 4 FETCH (\"a\\"
	whole, _, err := pass(strings.NewReader(says))
	if err != nil {
		t.Fatal(err)
	}
	want := countedBy(whole)
	if want.Bye != "[X] see you" || want.Lines != 9 || !want.Line.escaped || want.Lists != 1 {
		t.Fatalf("it counts %+v", want)
	}
	for i := range says {
		g, _, err := pass(io.MultiReader(strings.NewReader(says[:i]), strings.NewReader(says[i:])))
		if diff := cmp.Diff(want, countedBy(g), cmp.AllowUnexported(line{})); diff != "" || err != nil {
			t.Errorf("split at %d, %v (-want +got):\n%s", i, err, diff)
		}
	}
	g, _, err := pass(iotest.OneByteReader(strings.NewReader(says)))
	if diff := cmp.Diff(want, countedBy(g), cmp.AllowUnexported(line{})); diff != "" || err != nil {
		t.Errorf("byte by byte, %v (-want +got):\n%s", err, diff)
	}
}

// The guard counts the same however its bytes are split, and what it lets
// pass is within its bounds.
func FuzzGuard(f *testing.F) {
	for _, seed := range []string{
		"* OK hi\r\n* 1 FETCH (BODY[] {5}\r\nhello)\r\nT1 OK\r\n", "{4294967295}\r\n", "{3}\nabc{0}\r\n{1}\r\n\n* BYE x\r\n", "{12345678901234567890123}\n", "{1x}\n{}\n{+}\n{1+}\nz",
	} {
		f.Add([]byte(seed), []byte{1, 7, 30}, uint16(0))
		f.Add([]byte(seed), []byte{0}, uint16(maxLine-20))
	}
	f.Fuzz(func(t *testing.T, says, splits []byte, fill uint16) {
		says = append(bytes.Repeat([]byte("x"), int(fill)), says...)
		whole, split := &guard{}, &guard{}
		want := whole.count(says)
		rest := says
		for i := 0; len(rest) > 0; i++ {
			n := len(rest)
			if i < len(splits) {
				n = min(n, int(splits[i])*257+1)
			}
			if split.count(rest[:n]) != nil {
				break
			}
			rest = rest[n:]
		}
		a, b := countedBy(whole), countedBy(split)
		if (want == nil) != (b.Fault == "") {
			t.Fatalf("at once %q, in pieces %q", a.Fault, b.Fault)
		}
		if want != nil {
			return // how far it came before may differ
		}
		if diff := cmp.Diff(a, b, cmp.AllowUnexported(line{})); diff != "" {
			t.Errorf("at once and in pieces (-want +got):\n%s", diff)
		}
		if a.Literal > maxLiteral || a.Line.length > maxLine || len(a.Line.start) > keep || a.Lists > maxLists || a.Bytes != len(says) {
			t.Errorf("it counts %+v of %d bytes", a, len(says))
		}
	})
}

// TestGuardDeadline holds that a server has the time it was given, and no
// more, whatever the library thinks of it.
func TestGuardDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		defer here.Close()
		g := &guard{Conn: here}
		started := time.Now()
		g.allow(time.Minute)
		_ = g.SetReadDeadline(time.Now().Add(time.Second)) // the library's own
		go func() {
			time.Sleep(50 * time.Second)
			_, _ = there.Write([]byte("* OK still here\r\n"))
		}()
		p := make([]byte, 100)
		if n, err := g.Read(p); n != 17 || err != nil {
			t.Errorf("Read = %d, %v; want what came within the minute", n, err)
		}
		if _, err := g.Read(p); !os.IsTimeout(err) || time.Since(started) != time.Minute {
			t.Errorf("Read = %v after %v; want a timeout after one minute", err, time.Since(started))
		}
		g.allow(time.Hour) // it is asked something else
		if _, err := g.Read(p); !os.IsTimeout(err) || time.Since(started) != time.Hour+time.Minute {
			t.Errorf("Read = %v after %v; want a timeout after one more hour", err, time.Since(started))
		}
	})
}

// hidden are lists within lists, so many that the library's stack ends the
// program, in bytes that the announcement makes look like literals.
func hidden(announcement string) string {
	lists := strings.Repeat("(", 1_000_000)
	first, rest := "* 1 FETCH (BODYSTRUCTURE "+lists, `" "b" NIL NIL NIL "7bit" 1)`+lists
	return fmt.Sprintf(announcement, len(first)) + first + strings.Repeat(fmt.Sprintf("(\"a {%d}\r\n", len(rest))+rest, 2)
}

// TestLibraryIsBounded sends floods to the library through the guard: it gives
// up early, without memory for what was announced, and nothing is left behind.
func TestLibraryIsBounded(t *testing.T) {
	tests := []struct {
		name, says, want string
	}{
		{"a huge literal", "* 1 FETCH (UID 1 BODY[HEADER] {4294967295}\r\n", "a literal of"},
		{"a huge unasked literal", "* 9 FETCH (UID 9 BODY[HEADER] {4294967295}\r\n", "a literal of"},
		{"tiny literals", "* 1 FETCH (UID 1 " + strings.Repeat("BODY[HEADER] {1}\r\nx ", 25_000), "lines for one command"},
		{"tiny answers", strings.Repeat("* 1 FETCH (UID 1 BODY[HEADER] {1}\r\nx)\r\n", 25_000), "lines for one command"},
		{"expunges", strings.Repeat("* 1 EXPUNGE\r\n", 25_000), "lines for one command"},
		{"lists in lists", "* 1 FETCH (UID 1 BODYSTRUCTURE " + strings.Repeat("(", 60_000), "lists in one answer"},
		{"lists in lists in a literal that is none", hidden("* OK x {%d}\r\n"), "lists in one answer"},
		{"lists in lists in a literal that is quoted", hidden("* 1 FETCH (BODYSTRUCTURE (\"x {%d}\r\n\" \"y\" NIL NIL NIL \"7bit\" 1))\r\n"), "a quoted string without end"},
		{"lists in lists in a literal behind a code", hidden("* OK [X {%d}\r\n]\r\n"), "a code without end"},
		{"flags", "* 1 FETCH (UID 1 FLAGS (" + strings.Repeat("a ", 40_000), "a line of"},
		{"capabilities", "* CAPABILITY " + strings.Repeat("A ", 40_000) + "\r\n", "a line of"},
		{"a megabyte, and again", "* 1 FETCH (UID 1 " + strings.Repeat("BODY[HEADER] {1048576}\r\n"+strings.Repeat("x", maxLiteral)+" ", 8), "bytes for one command"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			here, there := net.Pipe()
			go func() {
				go io.Copy(io.Discard, there)
				_, _ = io.WriteString(there, "* OK [CAPABILITY IMAP4rev1] hi\r\n"+tt.says)
			}()
			defer there.Close()
			s := newSession(&guard{Conn: here})
			defer s.close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			started := time.Now()
			_, err := s.heads([]seen{{uid: 1}, {uid: 2}})
			took := time.Since(started)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 100 || took > 5*time.Second {
				t.Errorf("it took %v and %d MiB", took, allocated)
			}
		})
	}
}

func TestBits(t *testing.T) {
	if got := bits([]imap.Flag{"$Seen", "Seen", `\Draft`, "a"}); got != 0 {
		t.Errorf("bits = %b of flags that are not watched", got)
	}
	seen := map[uint32]bool{}
	for _, f := range []imap.Flag{`\Seen`, `\FLAGGED`, `\answered`, `\Deleted`} {
		b := bits([]imap.Flag{"x", f, f})
		if b == 0 || seen[b] {
			t.Errorf("%s is the bits %b, want some of its own", f, b)
		}
		seen[b] = true
	}
	if got := fmt.Sprintf("%b", bits([]imap.Flag{`\Deleted`, `\Answered`, `\Flagged`, `\Seen`})); got != "1111" {
		t.Errorf("all of them are %s", got)
	}
}
