package dashboard

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const (
	// renewBefore is how long before its end an API token is replaced.
	renewBefore = 30 * time.Second
	// renewalPause is the time between two attempts.
	renewalPause = 5 * time.Second
	// renewalPatience is how long an attempt may take.
	renewalPatience = 15 * time.Second
)

// renewal is one attempt to get another API token for a session. All requests of the
// session share it: a refresh token may be good only once.
type renewal struct {
	done  chan struct{} // closed when the attempt has ended
	err   error         // read it after done
	ended time.Time     // guarded by the session's mu; zero = the attempt is under way
}

// renew replaces an API token that ends soon. The request waits for the new one only
// if the old one has ended already.
func (v *visit) renew() error {
	s, now := v.session, v.d.config.Now()
	c, err := s.current()
	if err != nil || c.until.IsZero() || now.Before(c.until.Add(-renewBefore)) {
		return err
	}
	good := now.Before(c.until)
	if c.refresh == "" {
		if good {
			return nil
		}
		return errLoggedOut
	}
	r := v.d.joinRenewal(context.WithoutCancel(v.r.Context()), s, c)
	if good {
		return nil
	}
	select {
	case <-r.done:
	case <-v.r.Context().Done():
		return &refusal{http.StatusServiceUnavailable, "The gateway is stopping. Try again in a moment."}
	}
	if r.err != nil {
		return errLoggedOut
	}
	_, err = s.current()
	return err
}

// joinRenewal returns the attempt to replace the session's credential c: the one that
// is under way, one that has just failed while c is still good, or a new one.
func (d *Dashboard) joinRenewal(ctx context.Context, s *session, c credential) *renewal {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := d.config.Now()
	if last := s.renewal; last != nil {
		replaced := s.credential.token != c.token // since the caller has looked
		tooSoon := now.Before(c.until) && now.Sub(last.ended) < renewalPause
		if last.ended.IsZero() || replaced || tooSoon {
			return last
		}
	}
	r := &renewal{done: make(chan struct{})}
	s.renewal = r
	go func() {
		bounded, cancel := context.WithTimeout(ctx, renewalPatience)
		defer cancel()
		fresh, err := d.refresh(bounded, s, c)
		if err != nil {
			d.config.Log.Info().Str("subject", s.subject).Msgf("dashboard: the session cannot be renewed: %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil && !s.ended { // a session that has ended stays so
			s.credential = fresh
		}
		r.err, r.ended = err, d.config.Now()
		close(r.done)
	}()
	return r
}

// refresh gets a new credential by the refresh token of c.
func (d *Dashboard) refresh(ctx context.Context, s *session, c credential) (credential, error) {
	client, err := d.party.get(ctx)
	if err != nil {
		return credential{}, err
	}
	tokens, err := client.Refresh(ctx, c.refresh, c.origin)
	if err != nil {
		return credential{}, err
	}
	if tokens.ID == "" {
		return credential{}, errors.New("the provider gives no ID token for a refresh token")
	}
	fresh, err := d.exchange(ctx, tokens)
	if err != nil {
		return credential{}, err
	}
	id, err := d.config.Identify(ctx, []byte(fresh.token))
	if err != nil {
		return credential{}, err
	}
	if subject, issuer := id.Subject(); subject != s.subject || issuer != s.issuer {
		return credential{}, errors.New("the provider's new ID token is somebody else's")
	}
	if fresh.refresh == "" {
		fresh.refresh = c.refresh
	}
	return fresh, nil
}
