package event

import "time"

// Rule says how the topics that match are kept and who may read them. Of
// several rules the first that matches holds.
type Rule struct {
	// Match is the pattern of the rule's topics.
	Match Pattern `yaml:"match"`
	// Public lets anyone read, without a token.
	Public bool `yaml:"public"`
	// Ephemeral topics are handed to who is connected and not kept: no cursor, no resume.
	Ephemeral bool `yaml:"ephemeral"`
	// Publish lets Centrifuge clients publish to what they may read.
	Publish bool `yaml:"publish"`
	// Presence tells Centrifuge clients who else is subscribed to a channel that they may read.
	Presence bool `yaml:"presence"`
	// JoinLeave tells the Centrifuge subscribers of a channel who comes and goes, up to 1,000 of them.
	JoinLeave bool `yaml:"join_leave"`
	// Keep bounds what each of the topics keeps; what is not given is as for topics without a rule.
	Keep Keep `yaml:"keep"`
}

// Keep bounds what one topic keeps; the first bound that is reached holds.
type Keep struct {
	// Events is how many events are kept.
	Events int64 `yaml:"events"`
	// Age is how long an event is kept after its commit.
	Age time.Duration `yaml:"age"`
	// Bytes is how much data is kept; 0 is no bound.
	Bytes ByteSize `yaml:"bytes"`
}

// DefaultKeep holds for topics that no rule bounds: 1,000 events, 30 days.
func DefaultKeep() Keep { return Keep{Events: 1000, Age: 720 * time.Hour} }

// Rules are the topic rules in the order of the file.
type Rules []Rule

// For returns the rule that holds for t, with every bound filled in. Topics
// without a rule share one whose Match is "**".
func (rs Rules) For(t Topic) Rule {
	for _, r := range rs {
		if r.Match.Matches(t) {
			return r.withDefaults()
		}
	}
	return Rule{Match: "**", Keep: DefaultKeep()}
}

// Public reports whether anyone may read all topics of p.
func (rs Rules) Public(p Pattern) bool {
	return rs.All(p, func(r *Rule) bool { return r.Public })
}

// All reports whether the rules say something of all topics of p: a rule that
// does covers it, and no earlier rule takes some of its topics away.
func (rs Rules) All(p Pattern, says func(*Rule) bool) bool {
	for i := range rs {
		r := &rs[i]
		if says(r) && r.Match.Covers(p) {
			return true
		}
		if !says(r) && r.Match.Overlaps(p) {
			return false
		}
	}
	return false
}

func (r Rule) withDefaults() Rule {
	d := DefaultKeep()
	if r.Keep.Events == 0 {
		r.Keep.Events = d.Events
	}
	if r.Keep.Age == 0 {
		r.Keep.Age = d.Age
	}
	return r
}

// Validate refuses what contradicts itself.
func (r Rule) Validate() error {
	switch {
	case r.Match == "":
		return invalid("match", "it is missing; name the topics that the rule is for, like mail/**")
	case r.Ephemeral && r.Keep != Keep{}:
		return invalid("keep", "ephemeral topics keep nothing; remove keep or ephemeral")
	case r.Keep.Events < 0 || r.Keep.Age < 0 || r.Keep.Bytes < 0:
		return invalid("keep", "a bound is negative; give how much is to be kept")
	}
	return nil
}
