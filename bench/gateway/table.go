package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// table prints rows as servers are measured. What a row's measure fails with
// stands in the row, and fails the run at its end.
type table struct {
	r       *run
	part    string
	columns int
	goal    string
}

// newTable prints the head: the columns between the server and the goal.
func (r *run) newTable(part, goal string, columns ...string) *table {
	fmt.Printf("| server | %s | goal |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)+2))
	return &table{r: r, part: part, columns: len(columns), goal: goal}
}

// each measures those servers of the list that were asked for. It ends early only with ctx.
func (t *table) each(ctx context.Context, servers []string, measure func(server string) (cells []string, err error)) error {
	for _, name := range servers {
		if !slices.Contains(t.r.servers, name) {
			continue
		}
		cells, err := measure(name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t.row(name, cells, err)
	}
	return nil
}

func (t *table) row(name string, cells []string, err error) {
	if err != nil {
		reason := err.Error()
		if errors.Is(err, exec.ErrNotFound) {
			reason = "not measured: " + reason
		} else {
			reason = "failed: " + reason
			t.r.failed = append(t.r.failed, t.part+": "+name+": "+err.Error())
		}
		cells = []string{strings.NewReplacer("\n", "; ", "|", "/").Replace(reason)}
	}
	for len(cells) < t.columns {
		cells = append(cells, "")
	}
	goal := ""
	if strings.HasPrefix(name, "chappe") {
		goal = t.goal
	}
	fmt.Printf("| %s | %s | %s |\n", name, strings.Join(cells, " | "), goal)
}

// quantile of values, which it sorts: 0.5 is the median, 1 the largest.
func quantile[T cmp.Ordered](values []T, q float64) (v T) {
	if len(values) == 0 {
		return v
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}

// ms writes milliseconds with a digit after the point, or two where there are few.
func ms(d time.Duration) string {
	digits := 1
	if d < 10*time.Millisecond {
		digits = 2
	}
	return fmt.Sprintf("%.*f ms", digits, float64(d)/float64(time.Millisecond))
}

func mib(bytes int) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }
