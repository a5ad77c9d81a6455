// Package account is about who asks and what they may do: API tokens of
// programs, signed tokens and tickets of subscribers, public topics.
package account
