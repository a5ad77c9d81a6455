package centrifuge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// maxCommands bounds a message: centrifuge-js sends all its subscriptions in one.
const maxCommands = 256

// command is one line of a message. It has one of the methods; without any it
// is a pong.
type command struct {
	ID            uint32            `json:"id"`
	Connect       *connectRequest   `json:"connect"`
	Subscribe     *subscribeRequest `json:"subscribe"`
	Unsubscribe   *channelRequest   `json:"unsubscribe"`
	Publish       *publishRequest   `json:"publish"`
	Presence      *channelRequest   `json:"presence"`
	PresenceStats *channelRequest   `json:"presence_stats"`
	History       *historyRequest   `json:"history"`
	Ping          *struct{}         `json:"ping"`
	Send          *struct{}         `json:"send"`
	RPC           *struct{}         `json:"rpc"`
	Refresh       *refreshRequest   `json:"refresh"`
	SubRefresh    *struct{}         `json:"sub_refresh"`
}

type connectRequest struct {
	Token string                      `json:"token"`
	Subs  map[string]subscribeRequest `json:"subs"` // server-side ones, to be recovered
}

type subscribeRequest struct {
	Channel string `json:"channel"`
	Recover bool   `json:"recover"`
	Offset  uint64 `json:"offset"`
	Epoch   string `json:"epoch"`
	Flag    int64  `json:"flag"`
}

// flagRejectUnrecovered has a subscribing that does not recover refused.
const flagRejectUnrecovered = 2

type channelRequest struct {
	Channel string `json:"channel"`
}

type publishRequest struct {
	Channel string          `json:"channel"`
	Data    json.RawMessage `json:"data"`
}

type historyRequest struct {
	Channel string    `json:"channel"`
	Limit   int       `json:"limit"` // 0: the position alone; below 0: as many as there are
	Since   *position `json:"since"`
	Reverse bool      `json:"reverse"`
}

type position struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

type refreshRequest struct {
	Token string `json:"token"`
}

// decode takes a message apart. The transport bounds its size.
func decode(message []byte) ([]command, error) {
	message = bytes.TrimSpace(message)
	if n := bytes.Count(message, []byte{'\n'}) + 1; n > maxCommands {
		return nil, fmt.Errorf("there are %d commands, at most %d are taken", n, maxCommands)
	}
	var commands []command
	for line := range bytes.SplitSeq(message, []byte{'\n'}) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if line[0] != '{' {
			return nil, errors.New("a command is a JSON object")
		}
		var c command
		if err := json.Unmarshal(line, &c); err != nil {
			return nil, fmt.Errorf("decode a command: %w", err)
		}
		commands = append(commands, c)
	}
	return commands, nil
}

// pong reports whether there is nothing in the command.
func (c *command) pong() bool { return *c == command{} }
