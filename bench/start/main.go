// Command start measures how soon chappe serve is ready on an empty data
// folder, how much memory it takes when idle, and how large the binary is.
package main

import (
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"github.com/chappe/chappe/bench/serverproc"
)

func main() {
	dir, err := os.MkdirTemp("", "chappe-bench-")
	check(err)
	defer os.RemoveAll(dir)
	binary, err := serverproc.Build(dir)
	check(err)
	info, err := os.Stat(binary)
	check(err)
	var ready []time.Duration
	var rss []int
	for i := range 11 {
		p, err := serverproc.Start(binary, dir, "--data", fmt.Sprintf("data-%d", i))
		check(err)
		time.Sleep(2 * time.Second) // idle
		kib, err := p.RSS()
		check(err)
		check(p.Stop())
		ready, rss = append(ready, p.Ready), append(rss, kib)
	}
	slices.Sort(ready)
	slices.Sort(rss)
	fmt.Printf("| what | median of 11 | largest | goal |\n|---|---|---|---|\n")
	fmt.Printf("| ready on an empty folder | %v | %v | <= 150 ms |\n", ready[5].Round(time.Millisecond), ready[10].Round(time.Millisecond))
	fmt.Printf("| idle RSS | %.1f MB | %.1f MB | <= 40 MB |\n", float64(rss[5])/1024, float64(rss[10])/1024)
	fmt.Printf("| binary | %.1f MB | | <= 45 MB |\n", float64(info.Size())/(1<<20))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
