package mailbox_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// conversation is what a server says: it waits for a command after each line
// that ends an answer, or asks to go on.
func conversation(caps string, head string) string {
	const fetch = `* 1 FETCH (UID 5 FLAGS (\Seen) MODSEQ (3))` + "\r\n" + `* 2 FETCH (UID 7 FLAGS (x) MODSEQ (4))` + "\r\n"
	return "* OK hi\r\n* CAPABILITY " + caps + "\r\nc1 OK done\r\n* CAPABILITY " + caps + "\r\nT1 OK done\r\nT2 OK [CAPABILITY " + caps + "] known\r\n" +
		"* CAPABILITY " + caps + "\r\nT3 OK done\r\n* 2 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n* OK [UIDNEXT 8] x\r\n* OK [HIGHESTMODSEQ 4] x\r\nT4 OK [READ-ONLY] done\r\n" +
		"T5 OK done\r\n" + fetch + "T6 OK done\r\n" + fetch + "T7 OK done\r\n" + `* ESEARCH (TAG "T8") COUNT 1` + "\r\nT8 OK done\r\n" +
		fmt.Sprintf("* 2 FETCH (UID 7 INTERNALDATE \"01-Jan-1999 10:00:00 +0000\" RFC822.SIZE 99 BODY[HEADER.FIELDS (From To Subject Date Message-ID)]<0> {%d}\r\n%s)\r\n", len(head), head) +
		"T9 OK done\r\n+ idling\r\n* 1 EXPUNGE\r\n* 2 EXISTS\r\n* 1 FETCH (FLAGS ())\r\nT10 OK done\r\n* 1 FETCH (UID 7 FLAGS () MODSEQ (9))\r\n* 2 FETCH (UID 9 FLAGS () MODSEQ (8))\r\nT11 OK done\r\n" +
		"* ESEARCH (TAG \"T12\") COUNT 1\r\nT12 OK done\r\nT13 OK done\r\n+ idling\r\n* BYE enough\r\n"
}

// Whatever a server says, a watch ends with an error, in time, and all that it
// publishes is taken.
func FuzzServer(f *testing.F) {
	head := "From: Ann <ann@a.example>\r\nSubject: =?utf-8?q?a?=\r\nDate: Fri, 31 Dec 9999 23:59:59 -0100\r\n\r\n"
	f.Add([]byte(conversation("IMAP4rev1 AUTH=PLAIN SASL-IR IDLE CONDSTORE ESEARCH", head)))
	f.Add([]byte(conversation("IMAP4rev2 AUTH=PLAIN", head)))
	f.Add([]byte(strings.ReplaceAll(conversation("IMAP4rev1 IDLE ESEARCH CONDSTORE", ""), "UID 7", "UID 4294967295")))
	f.Add([]byte(strings.ReplaceAll(conversation("IMAP4rev1 SASL-IR", head), "* 2 EXISTS", "* 4294967295 EXISTS")))
	f.Add([]byte("* OK hi\r\n* CAPABILITY IMAP4rev1\r\nc1 OK done\r\n* BYE [X] \"no\" {5}\r\nT1 NO [\r\n"))
	f.Fuzz(func(t *testing.T, says []byte) {
		synctest.Test(t, func(t *testing.T) {
			started := time.Now()
			err := converse(t, &memory{limit: 1024}, says)
			if took := time.Since(started); err == nil || took > time.Hour || strings.HasPrefix(err.Error(), "publish") || strings.Contains(err.Error(), "panic") {
				t.Errorf("Run = %v after %v", err, took)
			}
		})
	})
}

// TestConversation holds that what the fuzzer begins with is understood.
func TestConversation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{limit: 1024}
		err := converse(t, m, []byte(conversation("IMAP4rev1 AUTH=PLAIN SASL-IR IDLE CONDSTORE ESEARCH", "Subject: s\r\n\r\n")))
		if err == nil || !strings.Contains(err.Error(), "ended the session: enough") {
			t.Errorf("Run = %v, want it to end with the conversation", err)
		}
		m.want(t, "news", "received 7", "expunged 5")
	})
}

// converse runs a watch with a server that says this, with the smallest events.
func converse(t *testing.T, m *memory, says []byte) error {
	here, there := net.Pipe()
	go func() {
		_ = talkBack(there, says)
		there.Close()
	}()
	r := newRunner(newServer(), m)
	r.Backfill, r.MaxData = 1, 1024
	r.Dial = func(context.Context, string, string) (net.Conn, error) { return addressed{here, home, nil}, nil }
	return r.Run(t.Context(), func(time.Time) {})
}

// talkBack says what a server would, piece by piece.
func talkBack(conn net.Conn, says []byte) error {
	commands := make(chan struct{}, 1000)
	go func() {
		defer close(commands)
		for r := bufio.NewReader(conn); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line != "DONE\r\n" {
				commands <- struct{}{}
			}
		}
	}()
	for line := range bytes.Lines(says) {
		if _, err := conn.Write(line); err != nil {
			return err
		}
		if bytes.HasPrefix(line, []byte("T")) || bytes.HasPrefix(line, []byte("c")) || bytes.HasPrefix(line, []byte("* OK hi")) {
			if _, more := <-commands; !more {
				return io.EOF
			}
		}
	}
	return nil
}
