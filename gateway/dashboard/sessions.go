package dashboard

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"net/url"
	"sync"
	"time"

	"github.com/gatehound/gatehound/auth/login"
)

// maxSessions bounds the memory that sessions take: the one that was idle for the
// longest time makes room. maxOfOne bounds those of one person: they would else
// log all others out by logging in often.
const (
	maxSessions = 10_000
	maxOfOne    = 100
)

// keepEnded is how long a session is kept that has ended, without its credential: a
// form may still be sent in it.
const keepEnded = 7 * 24 * time.Hour

// session is what we know of a browser somebody has logged in with.
type session struct {
	// csrf is in each of our forms, and in no page of others.
	csrf string
	// subject and issuer are whose it is; issuer is "" for who has a password.
	subject, issuer string
	begun           time.Time

	mu         sync.Mutex
	credential credential
	renewal    *renewal // the last one, which may be under way; nil = none yet
	ended      bool     // it must be logged in anew; what was typed is kept for that
	notice     string   // for the next page
	draft      *draft   // for the page that it is of
	streams    int      // that are open
}

// credential is what the API knows a person by.
type credential struct {
	// authorization is the header for the API; "" = none is needed.
	authorization string
	token         string         // the API token that is in it; "" = none
	until         time.Time      // when that ends; zero = never
	refresh       string         // gets another; "" = nothing does
	claims        map[string]any // of the ID token; nil = none
	origin        login.Origin   // the login that the refresh token came from
}

// draft is a form that was sent when its session had ended.
type draft struct {
	page   string // which shows the form
	values url.Values
}

// sessionKey is what a session is found by: the hash of its ID, so that neither
// the time that a look-up takes nor a copy of our memory gives IDs away.
type sessionKey [sha256.Size]byte

func keyOf(id string) sessionKey { return sha256.Sum256([]byte(id)) }

// sessions are all there are. They are not shared between gateways.
type sessions struct {
	idle, lifetime time.Duration
	now            func() time.Time
	most, ofOne    int // see maxSessions and maxOfOne

	mu    sync.Mutex
	byKey map[sessionKey]*list.Element
	order *list.List // *entry, the one last used in front
	// sweep calls sweepUp at next, when a session ends or is forgotten; zero = none does.
	sweep *time.Timer
	next  time.Time
}

type entry struct {
	key     sessionKey
	used    time.Time
	session *session
}

func newSessions(idle, lifetime time.Duration, now func() time.Time) *sessions {
	return &sessions{idle: idle, lifetime: lifetime, now: now, most: maxSessions, ofOne: maxOfOne, byKey: map[sessionKey]*list.Element{}, order: list.New()}
}

// begin returns the ID of a new session. It is always a new one: an ID that was
// planted in a browser before its owner logged in is worth nothing (session
// fixation).
func (s *sessions) begin(subject, issuer string, c credential) (id string, begun *session) {
	id = rand.Text() + rand.Text() // 260 bits
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	begun = &session{csrf: rand.Text(), subject: subject, issuer: issuer, begun: now, credential: c}
	key := keyOf(id)
	it := &entry{key, now, begun}
	s.byKey[key] = s.order.PushFront(it)
	s.sweepAt(s.ends(it))
	theirs := 0
	for e := s.order.Front(); e != nil; {
		next := e.Next()
		if e.Value.(*entry).session.isOf(subject, issuer) {
			if theirs++; theirs > s.ofOne {
				s.remove(e)
			}
		}
		e = next
	}
	for s.order.Len() > s.most {
		s.remove(s.order.Back())
	}
	return id, begun
}

// ends is when a session ends if it is not used again.
func (s *sessions) ends(e *entry) time.Time {
	idle, whole := e.used.Add(s.idle), e.session.begun.Add(s.lifetime)
	if whole.Before(idle) {
		return whole
	}
	return idle
}

// sweepUp ends the sessions whose time is over, also those that nobody comes back to,
// so that their credentials are not kept. s.mu is held.
func (s *sessions) sweepUp() {
	now := s.now()
	s.next = time.Time{}
	for e := s.order.Front(); e != nil; {
		it, following := e.Value.(*entry), e.Next()
		end := s.ends(it)
		if !now.Before(end) {
			it.session.end()
			end = it.used.Add(keepEnded)
		}
		if now.Before(end) {
			s.sweepAt(end)
		} else {
			s.remove(e)
		}
		e = following
	}
}

// sweepAt has sweepUp called at a time, unless it will be called earlier. s.mu is held.
func (s *sessions) sweepAt(at time.Time) {
	if !s.next.IsZero() && !at.Before(s.next) {
		return
	}
	if s.sweep != nil {
		s.sweep.Stop()
	}
	s.next = at
	s.sweep = time.AfterFunc(max(at.Sub(s.now()), time.Second), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sweepUp()
	})
}

// find returns a session, which may have ended; nil = there is none.
func (s *sessions) find(key sessionKey) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.byKey[key]
	if !found {
		return nil
	}
	it, now := e.Value.(*entry), s.now()
	if now.Before(s.ends(it)) {
		it.used = now
	} else {
		it.session.end()
	}
	s.order.MoveToFront(e)
	return it.session
}

// knows reports whether there is a session, be it one that has ended.
func (s *sessions) knows(key sessionKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.byKey[key]
	return found
}

// lives reports whether a session goes on, without that counting as its use.
func (s *sessions) lives(key sessionKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.byKey[key]
	if !found {
		return false
	}
	it := e.Value.(*entry)
	return !it.session.hasEnded() && s.now().Before(s.ends(it))
}

// forget takes a session away.
func (s *sessions) forget(key sessionKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, found := s.byKey[key]; found {
		s.remove(e)
	}
}

// forgetAll takes all sessions of a person away.
func (s *sessions) forgetAll(subject, issuer string) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.byKey {
		if e.Value.(*entry).session.isOf(subject, issuer) {
			s.remove(e)
			count++
		}
	}
	return count
}

func (s *session) isOf(subject, issuer string) bool {
	return s.subject == subject && s.issuer == issuer
}

func (s *sessions) remove(e *list.Element) {
	it := s.order.Remove(e).(*entry)
	it.session.end() // for the requests that have it
	delete(s.byKey, it.key)
}

// end drops the credentials.
func (s *session) end() {
	s.mu.Lock()
	s.ended, s.credential = true, credential{}
	s.mu.Unlock()
}

func (s *session) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// current returns the credential, unless the session has ended.
func (s *session) current() (credential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return credential{}, errLoggedOut
	}
	return s.credential, nil
}

// keep keeps a form that came too late.
func (s *session) keep(d *draft) {
	s.mu.Lock()
	s.draft = d
	s.mu.Unlock()
}

// inherit takes over what somebody has typed in an earlier session of theirs.
func (s *session) inherit(from *session) {
	if from == nil || !from.isOf(s.subject, s.issuer) {
		return
	}
	from.mu.Lock()
	d := from.draft
	from.mu.Unlock()
	s.keep(d)
}

// takeDraft returns what was typed into a page's form, once; nil = nothing.
func (s *session) takeDraft(page string) url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draft == nil || s.draft.page != page {
		return nil
	}
	values := s.draft.values
	s.draft = nil
	return values
}

func (s *session) say(notice string) {
	s.mu.Lock()
	s.notice = notice
	s.mu.Unlock()
}

func (s *session) takeNotice() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	notice := s.notice
	s.notice = ""
	return notice
}
