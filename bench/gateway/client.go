package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// answerTime is the most that a client waits for an answer.
const answerTime = 60 * time.Second

// clients are what a client process can do: it reads its order, and tells.
var clients = map[string]func(ctx context.Context, order *json.Decoder, tell *json.Encoder) error{
	"ask":      askAll,
	"stampede": stampede,
	"article":  askEvenly,
	"follow":   follow,
}

func serveOrder(ctx context.Context, name string) error {
	do, known := clients[name]
	if !known {
		return fmt.Errorf("a client cannot %s", name)
	}
	return do(ctx, json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout))
}

// client is a client process.
type client struct {
	cmd  *exec.Cmd
	told *json.Decoder
}

// startClient starts one with its order. It ends by itself, or with ctx.
func startClient(ctx context.Context, name string, order any) (*client, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	c := &client{cmd: exec.CommandContext(ctx, self, "-client", name)}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stdin, c.cmd.Stderr = strings.NewReader(string(text)), os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.told = json.NewDecoder(out)
	return c, c.cmd.Start()
}

// runClient has an order done and reads the result.
func runClient(ctx context.Context, name string, order, result any) error {
	c, err := startClient(ctx, name, order)
	if err != nil {
		return err
	}
	told := c.told.Decode(result)
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("client %s: %w", name, err)
	}
	return told
}

// conn asks one request after the other.
type conn struct {
	net.Conn
	in   *bufio.Reader
	host string
	read int // bytes
}

func dial(ctx context.Context, address string) (*conn, error) {
	c, err := (&net.Dialer{Timeout: answerTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	asks := &conn{Conn: c, host: address}
	asks.in = bufio.NewReaderSize(asks, 4096)
	return asks, nil
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read += n
	return n, err
}

// answer is a response that has been read.
type answer struct {
	status int
	etag   string
	body   string
	last   bool // the server closes the connection
}

// get asks for a target with more header lines, each of which ends in \r\n.
func (c *conn) get(target, lines string) (a answer, err error) {
	if err := c.send(target, lines); err != nil {
		return a, err
	}
	return c.receive()
}

// send asks, and leaves the answer to receive.
func (c *conn) send(target, lines string) error {
	if err := c.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return err
	}
	_, err := io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: "+c.host+"\r\n"+lines+"\r\n")
	return err
}

func (c *conn) receive() (a answer, err error) {
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("ETag"), string(body), resp.Close}, err
}

// getDocument is get for what must be the document of that target.
func (c *conn) getDocument(target string) (a answer, err error) {
	if a, err = c.get(target, ""); err == nil {
		err = a.isDocument(target)
	}
	return a, err
}

func (a answer) isDocument(target string) error {
	if a.status != http.StatusOK || !strings.HasPrefix(a.body, documentStart(target)) {
		return fmt.Errorf("GET %s: %d %.100s", target, a.status, a.body)
	}
	return nil
}
