// Package account is about who asks and what they may do: API tokens of
// programs, signed tokens and tickets of subscribers, the application's own
// cookie or token (Hook), public topics.
package account
