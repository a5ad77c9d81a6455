// Command webmail is a small site with a log-in of its own, and a page that
// shows how many mails are unread. It is the application that Chappe stands
// beside: who may follow which mailbox is asked of its /whoami (access.hook).
package main

import (
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

const (
	cookieName = "webmail"
	logInTime  = 8 * time.Hour
	askAgain   = time.Hour // a page that stays open learns of a log-out by then
)

var (
	//go:embed page.html
	pageText string
	//go:embed before.html
	beforeText string
	//go:embed login.html
	logInText string

	page   = template.Must(template.New("page").Parse(pageText))
	before = template.Must(template.New("before").Parse(beforeText))
	logIn  = template.Must(template.New("login").Parse(logInText))
)

func main() {
	listen := flag.String("listen", "127.0.0.1:6543", "address of the site")
	server := flag.String("imap", "127.0.0.1:143", "address of the IMAP server, on this machine")
	flag.Parse()
	s := &site{imap: *server, people: map[string]person{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.show(page))
	mux.HandleFunc("GET /before", s.show(before))
	mux.HandleFunc("POST /login", s.logIn)
	mux.HandleFunc("POST /logout", s.logOut)
	mux.HandleFunc("GET /whoami", s.whoami)
	mux.HandleFunc("GET /new_mails", s.newMails)
	fmt.Fprintf(os.Stderr, "webmail on http://%s\n", *listen)
	log.Fatal(http.ListenAndServe(*listen, http.NewCrossOriginProtection().Handler(mux)))
}

// person is somebody who has logged in.
type person struct {
	Name     string
	password string
	until    time.Time
}

type site struct {
	imap   string
	mu     sync.Mutex
	people map[string]person // by cookie
}

// who returns the person that the request's cookie stands for.
func (s *site) who(r *http.Request) (p person, ok bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return person{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok = s.people[cookie.Value]
	return p, ok && time.Now().Before(p.until)
}

// unread asks the mailbox how many mails nobody has read.
func (s *site) unread(p person) (uint32, error) {
	client, err := imapclient.DialInsecure(s.imap, nil)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	if err := client.Login(p.Name, p.password).Wait(); err != nil {
		return 0, err
	}
	status, err := client.Status("INBOX", &imap.StatusOptions{NumUnseen: true}).Wait()
	if err != nil || status.NumUnseen == nil {
		return 0, errors.Join(errors.New("the mailbox does not say how many mails are unread"), err)
	}
	return *status.NumUnseen, nil
}

// show answers with the page, or with the form to log in.
func (s *site) show(page *template.Template) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		p, ok := s.who(r)
		if !ok {
			_ = logIn.Execute(w, "") // the browser may have gone
			return
		}
		n, err := s.unread(p)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = page.Execute(w, map[string]any{"Name": p.Name, "Unread": n})
	}
}

// logIn takes the name and password of a mailbox.
func (s *site) logIn(w http.ResponseWriter, r *http.Request) {
	p := person{Name: strings.ToLower(r.PostFormValue("name")), // as in the topic of the watch
		password: r.PostFormValue("password"), until: time.Now().Add(logInTime)}
	if _, err := s.unread(p); err != nil {
		w.WriteHeader(http.StatusForbidden)
		_ = logIn.Execute(w, "The mail server does not take this name and password, or is not there.")
		return
	}
	cookie := rand.Text()
	s.mu.Lock()
	s.people[cookie] = p
	s.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(logInTime.Seconds())})
	http.Redirect(w, r, ".", http.StatusSeeOther)
}

func (s *site) logOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		delete(s.people, cookie.Value)
		s.mu.Unlock()
	}
	http.Redirect(w, r, ".", http.StatusSeeOther)
}

// whoami is what Chappe asks: whose cookie it is, what that person may follow,
// and until when.
func (s *site) whoami(w http.ResponseWriter, r *http.Request) {
	p, ok := s.who(r)
	if !ok {
		http.Error(w, "nobody is logged in", http.StatusUnauthorized)
		return
	}
	expires := time.Now().Add(askAgain)
	if p.until.Before(expires) {
		expires = p.until
	}
	answer(w, map[string]any{"user": p.Name, "topics": []string{"mail/" + p.Name + "/**"}, "expires": expires.Unix()})
}

// newMails is what the page asked every 30 seconds, before.
func (s *site) newMails(w http.ResponseWriter, r *http.Request) {
	p, ok := s.who(r)
	if !ok {
		http.Error(w, "nobody is logged in", http.StatusUnauthorized)
		return
	}
	n, err := s.unread(p)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	answer(w, map[string]any{"unread": n})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // whoever asked may have gone
}
