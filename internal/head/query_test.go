package head_test

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/chappe/chappe/internal/head"
)

func TestQuery(t *testing.T) {
	tests := []struct {
		query string
		want  []string
		ok    bool
	}{
		{"", nil, true},
		{"a=b&c=d", []string{"a", "b", "c", "d"}, true},
		{"a=b=c&a&=d&&", []string{"a", "b=c", "a", "", "", "d"}, true},
		{"a%3D=%41+b%2b", []string{"a=", "A b+"}, true},
		{"a=1;b=2&c=3", []string{"c", "3"}, false},
		{"a=%zz&b=%4&c=%&%=d&e=f", []string{"e", "f"}, false},
	}
	for _, tt := range tests {
		var got []string
		err := head.Query([]byte(tt.query), func(name, value []byte) bool {
			got = append(got, string(name), string(value))
			return true
		})
		if diff := cmp.Diff(tt.want, got); diff != "" || (err == nil) != tt.ok {
			t.Errorf("Query(%q): %v (-want +got):\n%s", tt.query, err, diff)
		}
	}
}

func TestQueryStops(t *testing.T) {
	calls := 0
	err := head.Query([]byte("a=b&c=d&%"), func(_, _ []byte) bool {
		calls++
		return false
	})
	if calls != 1 || err != nil {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestQueryAllocates(t *testing.T) {
	query := []byte("topic=news&format=json&since=2026-11-22T10:00:00Z")
	var found int
	allocs := testing.AllocsPerRun(100, func() {
		_ = head.Query(query, func(name, value []byte) bool {
			found += len(name) + len(value)
			return true
		})
	})
	if allocs != 0 || found == 0 {
		t.Errorf("Query allocates %v times", allocs)
	}
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"a=b&c=d", "a%3D=%41+b%2b", "a=1;b=2&c=3", "a=%zz&b=%4&c=%", "&&=&=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if len(query) > 8<<10 {
			return // net/url has a limit of pairs, Parse one of length
		}
		got := url.Values{}
		err := head.Query([]byte(query), func(name, value []byte) bool {
			got.Add(string(name), string(value))
			return true
		})
		want, wantErr := url.ParseQuery(query)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || (err == nil) != (wantErr == nil) {
			t.Errorf("Query(%q): %v, net/url %v (-want +got):\n%s", query, err, wantErr, diff)
		}
	})
}
