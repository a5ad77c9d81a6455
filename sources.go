package main

import (
	"log/slog"
	"runtime"

	"github.com/chappe/chappe/event"
	"github.com/chappe/chappe/internal/safedial"
	"github.com/chappe/chappe/source"
	"github.com/chappe/chappe/source/feed"
	"github.com/chappe/chappe/source/mailbox"
)

// maxLogIns is how many mailboxes connect at once: a restart is no storm for
// their server.
const maxLogIns = 16

// sources makes watches of what the configuration says.
type sources struct {
	settings  *settings
	states    source.States
	publisher event.Publisher
	logger    *slog.Logger
	parsers   chan struct{} // places for those who parse
	logIns    chan struct{} // places for those who connect
}

func newSources(s *settings, states source.States, publisher event.Publisher, logger *slog.Logger) *sources {
	return &sources{s, states, publisher, logger, make(chan struct{}, runtime.GOMAXPROCS(0)), make(chan struct{}, maxLogIns)}
}

func (s *sources) watch(w watchSettings) source.Watch {
	watch := source.Watch{Name: w.Name, Topic: w.Topic, OnDemand: w.OnDemand}
	if w.Feed.Feed != "" {
		watch.Kind, watch.Run = "feed", s.feed(w)
	} else {
		watch.Kind, watch.Run = "mailbox", s.mailbox(w)
	}
	return watch
}

func (s *sources) feed(w watchSettings) *feed.Runner {
	return &feed.Runner{
		Name: w.Name, Topic: w.Topic, URL: w.Feed.Feed, Every: w.Every, Backfill: w.Backfill,
		UserAgent: userAgent(), Client: s.settings.client(w.Feed.Feed), States: s.states, Publisher: s.publisher,
		Logger: s.logger.With("component", "feed"), MaxData: int(s.settings.Limits.Event), Parsers: s.parsers,
	}
}

func (s *sources) mailbox(w watchSettings) *mailbox.Runner {
	address, _ := mailbox.ParseAddress(w.Mailbox.IMAP) // the configuration was checked
	return &mailbox.Runner{
		Name: w.Name, Topic: w.Topic, Address: address, Insecure: w.Mailbox.Insecure, Every: w.Every, Backfill: w.Backfill,
		Password: mailbox.PasswordIn(w.Mailbox.PasswordFile),
		Dial:     safedial.NewDial(s.settings.policy(w.Mailbox.IMAP), mailbox.Ports...), States: s.states, Publisher: s.publisher,
		Logger: s.logger.With("component", "mailbox"), MaxData: int(s.settings.Limits.Event), LogIns: s.logIns,
	}
}

func userAgent() string {
	return "Chappe/" + version + " (feed reader; +https://github.com/chappe/chappe)"
}
