package basicauth

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"hash/maphash"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// How many wrong passwords may be tried at once, and how long each counts: from one
// address, from all that one host passes on, and from all.
const (
	addressBurst, addressEach = 10, time.Second
	proxyBurst, proxyEach     = 50, time.Second / 5
	allBurst, allEach         = 100, time.Second / 10
)

// rightFor is how long an address that had the right password is bound with others
// that had it, and no longer with all.
const rightFor = 24 * time.Hour

// PassHeader is how the dashboard shows the API that a request is its own. Such a
// request is not counted again, and says in X-Forwarded-For who sits at the browser.
// Its value is the Pass.
const PassHeader = "X-Gatehound-Pass"

// Guesses bounds how fast passwords can be guessed, at all places where they are
// asked for. Its memory is fixed. Make one with NewGuesses; it is safe for
// concurrent use.
//
// Beyond the bound the right password is refused, too: else a guesser could go on
// and see which one is taken. So whoever shares an address with a guesser has to try
// again, and gets in a second after the guesser stops.
type Guesses struct {
	pass  string
	now   func() time.Time
	began time.Time
	seed  maphash.Seed

	mu sync.Mutex
	// all is everybody's pace but of those who had the right password, who have one of
	// their own: that a plugin let somebody pass need not mean that it knows them.
	all, allKnown pace
	// slots are those of addresses, by their hash. Two addresses may share one. The
	// bound on all keeps a crowd from using up many of them.
	slots [4096]slot
	// proxies are those of hosts that pass requests on, or say so. Else the addresses
	// that one host makes up could keep everybody out.
	proxies [1024]pace
}

type slot struct {
	pace  pace
	wrong uint64        // hash of the last wrong password
	right uint64        // hash of the last address that had the right one
	until time.Duration // when that is forgotten: see rightFor
}

// pace is when a bound has its full burst again, as the time since the beginning.
type pace time.Duration

func (p pace) allows(now time.Duration, burst int, each time.Duration) bool {
	return time.Duration(p)-now <= time.Duration(burst-1)*each
}

func (p *pace) take(now, each time.Duration) { *p = max(*p, pace(now)) + pace(each) }

// NewGuesses returns one that has seen none. now is the clock; nil = time.Now.
func NewGuesses(now func() time.Time) *Guesses {
	if now == nil {
		now = time.Now
	}
	return &Guesses{pass: rand.Text(), now: now, began: now(), seed: maphash.MakeSeed()}
}

// Pass is a secret that only this process knows: see PassHeader.
func (g *Guesses) Pass() string { return g.pass }

// IsPass reports whether a PassHeader's value is the Pass.
func (g *Guesses) IsPass(value []byte) bool {
	return subtle.ConstantTimeCompare(value, []byte(g.pass)) == 1
}

// MayTell counts an Authorization header from an Address. It reports whether the
// sender may be told if that is right; if not, the sender is to try again in a second.
func (g *Guesses) MayTell(address string, authorization []byte, right bool) bool {
	who, what := maphash.String(g.seed, address), maphash.Bytes(g.seed, authorization)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now().Sub(g.began) // by the clock that nobody sets
	s := &g.slots[who%uint64(len(g.slots))]
	if !right && what == s.wrong {
		// It was told before. Else a program that goes on with an old password would
		// keep out others at its address.
		return true
	}
	all, proxy := &g.all, new(pace) // which bounds nothing
	if s.right == who && now < s.until {
		all = &g.allKnown
	} else if host, _, passedOn := strings.Cut(address, " "); passedOn {
		proxy = g.proxy(host)
	}
	if !s.pace.allows(now, addressBurst, addressEach) || !all.allows(now, allBurst, allEach) || !proxy.allows(now, proxyBurst, proxyEach) {
		return false
	}
	if right {
		s.right, s.until = who, now+rightFor
		return true
	}
	s.pace.take(now, addressEach)
	proxy.take(now, proxyEach)
	all.take(now, allEach)
	s.wrong = what
	return true
}

// proxy is the pace of a host. Two hosts may share one.
func (g *Guesses) proxy(host string) *pace {
	return &g.proxies[maphash.String(g.seed, host)%uint64(len(g.proxies))]
}

// Address is what guesses are counted by: where a request comes from and, if it has
// X-Forwarded-For headers, the address that the proxy in front says it is for. Else
// all behind a proxy would be one, and a stranger among them could keep out the
// others. Whoever makes that header up meets the bound on what one host passes on.
func Address(remoteAddr string, forwardedFor []string) string {
	host, _, _ := net.SplitHostPort(remoteAddr)
	address := network(host)
	if last, forwarded := lastForwarded(forwardedFor); forwarded {
		address += " " + network(last)
	}
	return address
}

// lastForwarded returns the last address of X-Forwarded-For headers, which is the nearest
// proxy's; callers can make up those before it. false = there is none.
func lastForwarded(forwardedFor []string) (address string, found bool) {
	if len(forwardedFor) == 0 {
		return "", false
	}
	last := forwardedFor[len(forwardedFor)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]), true
}

// network is an IPv4 address as it is, and of an IPv6 address the /64, which one
// customer has.
func network(host string) string {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if withPort, is := netip.ParseAddrPort(host); is == nil { // as some proxies say it
		ip, err = withPort.Addr(), nil
	}
	if err != nil {
		return host
	}
	if ip.Is4() || ip.Is4In6() {
		return ip.String()
	}
	prefix, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return host
	}
	return prefix.String()
}

// Sent returns the Authorization header with a name and a password; nil = there is
// none, or several headers, which are never right.
func Sent(authorization [][]byte) []byte {
	if len(authorization) != 1 {
		return nil
	}
	if scheme, _, _ := bytes.Cut(authorization[0], []byte(" ")); !bytes.EqualFold(scheme, []byte("Basic")) {
		return nil
	}
	return authorization[0]
}

// SentSomehow is Sent for who does not judge himself: another program may take the
// first or the last of several headers, and a tab for a space.
func SentSomehow(authorization [][]byte) []byte {
	for _, value := range authorization {
		if value = bytes.TrimSpace(value); len(value) >= 5 && bytes.EqualFold(value[:5], []byte("Basic")) {
			return bytes.Join(authorization, []byte("\n"))
		}
	}
	return nil
}
