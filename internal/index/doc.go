// Package index numbers strings that many small things share, so that these
// hold a number of four bytes instead of the string, and finds patterns by the
// topics that they match.
package index
