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

// How many wrong passwords are told at once, and after how long one more is: of
// one address, of all that one host passes on, and of all.
const (
	addressBurst, addressEach = 10, time.Second
	proxyBurst, proxyEach     = 50, time.Second / 5
	allBurst, allEach         = 100, time.Second / 10
)

// rightFor is how long an address that had the right password is not kept out by
// what others try.
const rightFor = 24 * time.Hour

// PassHeader has the Pass in requests of those who count what is tried themselves.
const PassHeader = "X-Gatehound-Pass"

// Guesses bounds how fast passwords can be guessed, at all places where they are
// asked for. It takes the same memory whatever comes. Make one with NewGuesses; it
// is safe for concurrent use.
//
// Beyond the bound nobody is told whether a password is right, not even by its
// being taken: who guesses would then only have to go on. So whoever shares an
// address with a guesser has to try again, too, and gets in within the second that
// comes after him.
type Guesses struct {
	pass  string
	now   func() time.Time
	began time.Time
	seed  maphash.Seed

	mu sync.Mutex
	// all is everybody's pace but of those who had the right password, who have one of
	// their own: that a plugin has let somebody pass need not mean that it knows them.
	all, allKnown pace
	// slots are the addresses', by their hash: two may share one. How many a crowd
	// can use up at a time is bounded by all.
	slots [4096]slot
	// proxies are the hosts' that pass requests on, or say so: the addresses that one
	// makes up would else be enough to keep everybody out.
	proxies [1024]pace
}

type slot struct {
	pace  pace
	wrong uint64        // the hash of what was last told to be wrong
	right uint64        // and of the address that was last right
	until time.Duration // for so long: see rightFor
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

// Pass is a secret of this process: see PassHeader.
func (g *Guesses) Pass() string { return g.pass }

// IsPass reports whether a PassHeader's value is the Pass.
func (g *Guesses) IsPass(value []byte) bool {
	return subtle.ConstantTimeCompare(value, []byte(g.pass)) == 1
}

// Tell reports whether the sender of an Authorization header, at an Address, may be
// told whether that is right. Where not, he is to try again in a second.
func (g *Guesses) Tell(address string, authorization []byte, right bool) bool {
	who, what := maphash.String(g.seed, address), maphash.Bytes(g.seed, authorization)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now().Sub(g.began) // by the clock that nobody sets
	s := &g.slots[who%uint64(len(g.slots))]
	if !right && what == s.wrong {
		// He was told before. A program that has an old password, and does not stop,
		// would else keep out those beside it.
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

// proxy is the bound of a host, which another may share.
func (g *Guesses) proxy(host string) *pace {
	return &g.proxies[maphash.String(g.seed, host)%uint64(len(g.proxies))]
}

// Address is what is counted by: where a request comes from, and where a proxy in
// front says that it had it from, the last of its X-Forwarded-For headers. Behind a
// proxy all would else be one, and a stranger keep the others out. Who makes that
// header up is bounded with all that his host passes on. Of an IPv6 address it is the /64, which is
// one customer's.
func Address(remoteAddr string, forwardedFor []string) string {
	host, _, _ := net.SplitHostPort(remoteAddr)
	address := network(host)
	if len(forwardedFor) > 0 {
		last := forwardedFor[len(forwardedFor)-1]
		address += " " + network(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
	}
	return address
}

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

// Sent returns the Authorization header that has a name and a password; nil = there
// is none, or one that could never be right.
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
