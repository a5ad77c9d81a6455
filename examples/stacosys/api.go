// Command stacosys stands for a slow API of comments: GET /comments/count?url=
// takes 300 ms, POST /comments?url= adds a comment and, with CHAPPE_TOKEN,
// publishes it.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	var mu sync.Mutex
	counts := map[string]int{}
	http.HandleFunc("GET /comments/count", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock() // one at a time, like the database behind it
		time.Sleep(300 * time.Millisecond)
		n := counts[r.FormValue("url")]
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"count": %d}`, n)
	})
	http.HandleFunc("POST /comments", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		counts[r.FormValue("url")]++
		mu.Unlock()
		publish(r.FormValue("url"))
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8100", nil))
}

func publish(url string) {
	event := fmt.Sprintf(`{"topic": "comments/new", "data": {"url": %q}}`, url)
	r, _ := http.NewRequest(http.MethodPost, "http://127.0.0.1:8080/v1/events", strings.NewReader(event))
	r.Header.Set("Authorization", "Bearer "+os.Getenv("CHAPPE_TOKEN"))
	if res, err := new(http.Client).Do(r); err != nil {
		log.Print(err)
	} else {
		res.Body.Close()
	}
}
