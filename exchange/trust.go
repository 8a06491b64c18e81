package exchange

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/jwks"
	"github.com/gatehound/gatehound/exchange/issuer"
)

// trust is one set of objects with the keys of its issuers, by iss. It does
// not change.
type trust struct {
	set  *iam.Set
	keys map[string]*remote
}

// remote is a trusted issuer's keys and where they are from.
type remote struct {
	*jwks.Remote
	authority string
	stop      context.CancelFunc // of the background fetches; nil = there are none
}

// own is the key set of our own issuer, as it was last published.
type own struct {
	mu       sync.Mutex
	document string
	keys     *jwks.Remote
}

// current returns the keys that verify what i signs: those that it publishes at
// this moment, so that a key that is withdrawn is so here first.
func (o *own) current(i *issuer.Issuer) (*jwks.Remote, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	document := i.JWKS()
	if o.keys != nil && string(document) == o.document {
		return o.keys, nil
	}
	keys, _, err := jwks.Parse(document)
	if err != nil {
		return nil, fmt.Errorf("exchange: our own keys: %w", err)
	}
	o.document, o.keys = string(document), jwks.NewStatic(i.URL(), keys)
	return o.keys, nil
}

// Run keeps the keys of all trusted issuers fresh until ctx ends. Without it
// they are fetched when a token needs them. It must run once at a time.
func (e *Exchanger) Run(ctx context.Context) {
	e.mu.Lock()
	e.running = ctx
	for _, r := range e.trust.keys {
		e.start(r)
	}
	e.mu.Unlock()

	// The objects are looked at even while nobody asks for a token: who was
	// just trusted gets its keys fetched, who no longer is, is left alone.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		e.current()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}

	e.mu.Lock()
	e.running = nil
	e.mu.Unlock()
	e.tasks.Wait()
}

// current returns the objects in force. When they have changed, it makes key
// sets for new issuers and for those that moved, and drops those that left;
// the others keep theirs, with all keys fetched so far.
func (e *Exchanger) current() trust {
	e.mu.Lock()
	defer e.mu.Unlock()
	set := e.c.Objects()
	if set == e.trust.set {
		return e.trust
	}
	next := trust{set: set, keys: make(map[string]*remote)}
	for _, i := range set.Issuers() {
		e.c.Issuer.Outlive(i.Spec.Expiry())
		iss := i.Spec.Iss
		authority := cmp.Or(i.Spec.IssInternal, iss)
		if r := e.trust.keys[iss]; r != nil && r.authority == authority {
			next.keys[iss] = r
			continue
		}
		if iss == e.c.Issuer.URL() {
			continue // see own
		}
		keys, err := e.remoteKeys(i, authority)
		if err != nil {
			e.c.Warnf("JwtIssuer %s: %v", i.Metadata.Name, err)
			continue
		}
		r := &remote{Remote: keys, authority: authority}
		e.start(r)
		next.keys[iss] = r
	}
	for iss, r := range e.trust.keys {
		if next.keys[iss] != r && r.stop != nil {
			r.stop()
		}
	}
	e.trust = next
	e.warnOfAnyIssuer(next)
	return next
}

// warnOfAnyIssuer tells of roles that a further issuer has opened to its
// subjects: they were good while there was one. It says so once, until they
// change. e.mu is held.
func (e *Exchanger) warnOfAnyIssuer(t trust) {
	const most = 5
	warning := ""
	if roles := t.set.RolesOfAnyIssuer(); len(t.keys) > 1 && len(roles) > 0 {
		shown := strings.Join(roles[:min(len(roles), most)], ", ")
		if more := len(roles) - most; more > 0 {
			shown += fmt.Sprintf(" and %d more", more)
		}
		warning = fmt.Sprintf("%d JwtIssuers are trusted, and roles do not say whose subjects they are for, and so are for those of each: "+
			"add StringEqual on jwt:iss to the condition of %s", len(t.keys), shown)
	}
	if warning != e.warned && warning != "" {
		e.c.Warnf("%s", warning)
	}
	e.warned = warning
}

// remoteKeys returns the keys of i, to be fetched from authority.
func (e *Exchanger) remoteKeys(i *iam.JwtIssuer, authority string) (*jwks.Remote, error) {
	where, err := url.Parse(authority)
	if err != nil {
		return nil, err
	}
	client := *e.c.Client
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	if e.c.Cluster != nil && where.Scheme == "https" && e.c.Cluster.is(where) {
		client.Transport = clusterTransport{e.c.Cluster, client.Transport}
	}
	if i.Spec.IssInternal != "" {
		if client.Transport, err = newInternalTransport(i.Spec.Iss, i.Spec.IssInternal, client.Transport); err != nil {
			return nil, err
		}
	}
	about := fmt.Sprintf("JwtIssuer %s (%s): ", i.Metadata.Name, i.Spec.Iss)
	named := func(logf func(string, ...any)) func(string, ...any) {
		return func(format string, args ...any) { logf("%s%s", about, fmt.Sprintf(format, args...)) }
	}
	return jwks.NewRemote(jwks.Config{
		Authority: authority, Issuer: i.Spec.Iss, Client: &client, Logf: named(e.c.Logf), Warnf: named(e.c.Warnf),
	})
}

// start fetches r's keys in the background while Run runs. e.mu is held.
func (e *Exchanger) start(r *remote) {
	if e.running == nil {
		return
	}
	ctx, stop := context.WithCancel(e.running)
	r.stop = stop
	e.tasks.Go(func() { r.Run(ctx) })
}
