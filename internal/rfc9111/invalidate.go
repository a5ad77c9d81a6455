package rfc9111

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// Invalidates tells whether a response means that what is stored of its URI may
// be out of date (RFC 9111 §4.4): that to a method which is not known to be safe,
// unless it is an error.
func Invalidates(method string, status int) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace,
		"PROPFIND", "QUERY", "REPORT", "SEARCH": // safe in IANA's registry
		return false
	}
	return status >= 200 && status <= 399
}

// AlsoInvalidated are the URIs in Location and Content-Location, if they are of
// the target's origin: no site may empty another's cache (RFC 9111 §4.4).
func AlsoInvalidated(target *url.URL, h http.Header) []*url.URL {
	var also []*url.URL
	for _, name := range []string{"Location", "Content-Location"} {
		value := h.Get(name)
		if value == "" {
			continue
		}
		u, err := target.Parse(value)
		if err != nil || origin(u) == "" || origin(u) != origin(target) {
			continue
		}
		u.Fragment, u.RawFragment, u.User = "", "", nil
		if !slices.ContainsFunc(also, func(v *url.URL) bool { return *v == *u }) {
			also = append(also, u)
		}
	}
	return also
}

// origin is what two URIs have in common that are of the same one (RFC 9110
// §4.3.1), "" for those that are of none.
func origin(u *url.URL) string {
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := map[string]string{"http": ":80", "https": ":443"}[scheme]; port != "" {
		return scheme + "://" + strings.TrimSuffix(host, port)
	}
	return ""
}

const (
	maxGroups = 32 // of so many characters: what RFC 9875 §2 wants at least
	maxTags   = 64
	maxTag    = 256 // bytes
)

// Groups are the groups that the response is in (RFC 9875 §2).
func Groups(h http.Header) []string { return stringsOf(h.Values("Cache-Groups")) }

// GroupInvalidation is the groups that the response to an unsafe request makes
// stale (RFC 9875 §3).
func GroupInvalidation(h http.Header) []string {
	return stringsOf(h.Values("Cache-Group-Invalidation"))
}

// stringsOf reads a list of strings, none at all if it has other members. Those
// beyond our limits are left out.
func stringsOf(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	var groups []string
	for _, member := range list {
		item, _ := member.(httpsfv.Item)
		group, ok := item.Value.(string)
		if !ok {
			return nil
		}
		groups = appendBounded(groups, group, maxGroups, maxGroups)
	}
	return groups
}

// Tags are the names by which the operator may remove the response: those of
// Surrogate-Key, which are between spaces, and of Cache-Tag, between commas.
func Tags(h http.Header) []string {
	var tags []string
	for _, line := range h.Values("Surrogate-Key") {
		for tag := range strings.FieldsSeq(line) {
			tags = appendBounded(tags, tag, maxTags, maxTag)
		}
	}
	for _, line := range h.Values("Cache-Tag") {
		for tag := range strings.SplitSeq(line, ",") {
			tags = appendBounded(tags, trim(tag), maxTags, maxTag)
		}
	}
	return tags
}

// appendBounded adds s unless it is empty, longer than size, there already, or
// one too many.
func appendBounded(list []string, s string, count, size int) []string {
	if s == "" || len(s) > size || len(list) == count || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
