// Command chappe ends polling: it watches mailboxes and feeds (and, in time,
// endpoints and webhooks), records each change once in an ordered log, and
// hands it at once to whoever waits for it.
//
// This file parses the command line; serve.go wires the server in the order in
// which events flow; routes.go lists every URL; each other command has a file
// of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/chappe/chappe/config"
)

const version = "0.1.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], program{os.Stdin, os.Stdout, os.Stderr, os.Getenv})
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "chappe:", err)
	os.Exit(exitCode(err))
}

// program is what a command sees of its process.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
}

// usageError is a command line that cannot be understood.
type usageError struct{ reason string }

func (e usageError) Error() string { return e.reason }

// exitCode is 2 for usage and configuration, 1 for what failed.
func exitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	if _, ok := errors.AsType[*config.Problem](err); ok {
		return 2
	}
	if _, ok := errors.AsType[configError](err); ok {
		return 2
	}
	return 1
}

// command is one word after "chappe".
type command struct {
	name, args, summary string
	run                 func(ctx context.Context, p program, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "[--config chappe.yaml] [--data ./data] [--listen 127.0.0.1:8080]", "run the server", serve},
		{"publish", "TOPIC [DATA | -] [--type T] [--id ID] [--server URL] [--token T]", "put one event into the log", publish},
		{"tail", "PATTERN... [--after CURSOR] [--json] [--server URL] [--token T]", "follow events in the terminal", tail},
		{"watch", "URL [--json] [--once]", "try a feed or a mailbox (imaps://user@host/folder) without a server", watch},
		{"token", "subscriber --sub NAME --topics PATTERNS [--ttl 1h] | api --scopes publish,read,admin [--name api]", "make a token; it alone is printed", token},
		{"check", "[--config chappe.yaml] [--data ./data]", "look whether all is as the server needs it", check},
		{"bench", "connections [--hold 10s] | fanout [--messages 20] [--size 128]  [--count 1000] [--rate N] [--transport ws|sse] [--topic T] [--json]\n      chappe bench gateway --url PATH [--count 64] [--duration 10s] [--header \"Name: value\"]... [--json]", "load a server on this machine and report", bench},
		{"backup", "FILE", "write the whole state to a new file, while the server runs", backup},
		{"restore", "FILE", "put a backup in place, while the server is stopped", restore},
		{"version", "", "print the version", printVersion},
	}
}

func run(ctx context.Context, args []string, p program) error {
	if len(args) == 0 {
		help(p.stderr)
		return usageError{"name a command"}
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		help(p.stdout)
		return nil
	}
	for _, c := range commands() {
		if c.name == args[0] {
			err := c.run(ctx, p, args[1:])
			if errors.Is(err, flag.ErrHelp) {
				return nil
			}
			return err
		}
	}
	return usageError{fmt.Sprintf("there is no command %q; chappe help lists them", args[0])}
}

func help(w io.Writer) {
	fmt.Fprintln(w, "Chappe ends polling: it watches, records each change once, and tells everyone who waits.")
	fmt.Fprintln(w)
	for _, c := range commands() {
		fmt.Fprintf(w, "  chappe %s\n      %s\n", strings.TrimSpace(c.name+" "+c.args), c.summary)
	}
	fmt.Fprintln(w, "\nAll commands take --config and --data. Exit codes: 0, 1 (it failed), 2 (usage or configuration).")
}

func printVersion(_ context.Context, p program, _ []string) error {
	_, err := fmt.Fprintln(p.stdout, "chappe", version)
	return err
}

// flags are the options of a command: those of all, and its own.
type flags struct {
	*flag.FlagSet
	config, data string
}

func newFlags(p program, name string) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.SetOutput(p.stderr)
	f.StringVar(&f.config, "config", "", "the configuration file (default chappe.yaml, where there is one)")
	f.StringVar(&f.data, "data", "", "the data folder (default: the configuration's, or ./data)")
	f.Usage = func() {
		for _, c := range commands() {
			if c.name == name {
				fmt.Fprintf(f.Output(), "chappe %s %s\n  %s\n", c.name, c.args, c.summary)
			}
		}
		f.PrintDefaults()
	}
	return f
}

// parse returns what is no option; options may stand before and after it.
func (f *flags) parse(args []string, least, most int) ([]string, error) {
	var rest []string
	for len(args) > 0 {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usageError{err.Error()}
		}
		consumed := len(args) - f.NArg()
		if consumed > 0 && args[consumed-1] == "--" {
			rest = append(rest, f.Args()...)
			break
		}
		if args = f.Args(); len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	if len(rest) < least || len(rest) > most {
		return nil, usageError{fmt.Sprintf("%d arguments are given; chappe %s -h shows what it takes", len(rest), f.Name())}
	}
	return rest, nil
}
