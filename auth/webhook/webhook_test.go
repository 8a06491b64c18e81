package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// header returns "Name: value" lines as net/http has them.
func header(lines ...string) func(string) []string {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h.Values
}

func secrets(t testing.TB, lines ...string) Secrets {
	s, err := ParseSecrets([]byte(strings.Join(lines, "\n")))
	require.NoError(t, err)
	return s
}

func verify(v *Verifier, body string, lines ...string) error {
	s, err := v.Read(header(lines...))
	if err != nil {
		return err
	}
	return s.Verify([]byte(body))
}

func at(seconds int64) func() time.Time {
	return func() time.Time { return time.Unix(seconds, 0) }
}

const slackBody = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&" +
	"channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&" +
	"response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&" +
	"trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"

// What the providers print in their own documentation, and the vectors of
// RFC 4231 and RFC 2202 that have text for a key.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	const wanted = "what do ya want for nothing?"
	for _, c := range []struct {
		name    string
		config  Config
		secret  string
		body    string
		headers []string
	}{
		{"GitHub", Config{Scheme: GitHub}, "It's a Secret to Everybody", "Hello, World!",
			[]string{"X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}},
		{"Slack", Config{Scheme: Slack, Now: at(1531420618)}, "8f742231b10e8888abcd99yyyzzz85a5", slackBody,
			[]string{"X-Slack-Signature: v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503", "X-Slack-Request-Timestamp: 1531420618"}},
	} {
		c.config.Secrets = secrets(t, c.secret)
		v, err := New(c.config)
		require.NoError(t, err, c.name)
		require.NoError(t, verify(v, c.body, c.headers...), c.name)
		require.ErrorIs(t, verify(v, c.body+" ", c.headers...), ErrRefused, c.name)
		require.ErrorIs(t, verify(v, c.body), ErrMissing, c.name)
	}
	// RFC 4231, test case 2, and RFC 2202's for MD5 and SHA-1. Their key "Jefe" is
	// too short for a file.
	list := [][]byte{[]byte("Jefe")}
	for name, mac := range map[string]string{
		"md5":    "750c783e6ab0b503eaa86e310a5db738",
		"sha1":   "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
		"sha256": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
		"sha512": "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
	} {
		v, err := New(Config{Scheme: Generic, Header: "X-Signature", Hash: name, Secrets: Secrets{func() [][]byte { return list }}})
		require.NoError(t, err)
		raw, err := hex.DecodeString(mac)
		require.NoError(t, err)
		for _, value := range []string{mac, strings.ToUpper(mac), name + "=" + mac, base64.StdEncoding.EncodeToString(raw), name + "=" + base64.StdEncoding.EncodeToString(raw)} {
			require.NoError(t, verify(v, wanted, "x-signature: "+value), value)
		}
	}
}

// TestAgainstPython signs with Python's hmac and hashlib.
func TestAgainstPython(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	const program = `
import sys, hmac, hashlib, json, base64
out = []
for job in json.load(sys.stdin):
    mac = hmac.new(base64.b64decode(job["Secret"]), base64.b64decode(job["Signed"]), getattr(hashlib, job["Hash"]))
    out.append(mac.hexdigest())
json.dump(out, sys.stdout)`
	type job struct {
		Secret, Signed []byte
		Hash           string
	}
	const now = "1800000000"
	schemes := []struct {
		config  Config
		signed  string // %s is the body
		headers func(mac string) []string
	}{
		{Config{Scheme: GitHub}, "%s", func(mac string) []string { return []string{"X-Hub-Signature-256: sha256=" + mac} }},
		{Config{Scheme: Stripe}, now + ".%s", func(mac string) []string { return []string{"Stripe-Signature: t=" + now + ",v1=" + mac} }},
		{Config{Scheme: Slack}, "v0:" + now + ":%s", func(mac string) []string {
			return []string{"X-Slack-Signature: v0=" + mac, "X-Slack-Request-Timestamp: " + now}
		}},
	}
	for name := range hashes {
		schemes = append(schemes, schemes[0])
		schemes[len(schemes)-1].config = Config{Scheme: Generic, Header: "X-Sig", Hash: name}
		schemes[len(schemes)-1].headers = func(mac string) []string { return []string{"X-Sig: " + mac} }
	}
	keys := []string{"whsec_abcdefgh", strings.Repeat("k", 64), strings.Repeat("long", 50), "größe und spaces"}
	bodies := []string{"", "{}", "a\r\nb\x00\xff", strings.Repeat("x", 100_000)}
	var jobs []job
	for _, s := range schemes {
		for _, key := range keys {
			for _, body := range bodies {
				name := s.config.Hash
				if name == "" {
					name = "sha256"
				}
				jobs = append(jobs, job{[]byte(key), []byte(fmt.Sprintf(s.signed, body)), name})
			}
		}
	}
	input, err := json.Marshal(jobs)
	require.NoError(t, err)
	cmd := exec.Command(python, "-c", program)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	require.NoError(t, err)
	var macs []string
	require.NoError(t, json.Unmarshal(out, &macs))

	i := 0
	for _, s := range schemes {
		s.config.Now = at(1_800_000_000)
		for _, key := range keys {
			s.config.Secrets = secrets(t, "another secret", key, "a third one")
			v, err := New(s.config)
			require.NoError(t, err)
			s.config.Secrets = secrets(t, "another secret")
			other, err := New(s.config)
			require.NoError(t, err)
			for _, body := range bodies {
				require.NoError(t, verify(v, body, s.headers(macs[i])...))
				require.ErrorIs(t, verify(other, body, s.headers(macs[i])...), ErrRefused)
				i++
			}
		}
	}
	require.Equal(t, len(macs), i)
}

func TestNew(t *testing.T) {
	t.Parallel()
	some := secrets(t, "12345678")
	for _, c := range []Config{
		{Secrets: some},
		{Scheme: "GitHub", Secrets: some},
		{Scheme: GitHub},
		{Scheme: GitHub, Header: "X", Secrets: some},
		{Scheme: Stripe, Hash: "sha256", Secrets: some},
		{Scheme: Generic, Secrets: some},
		{Scheme: Generic, Header: "X", Hash: "SHA256", Secrets: some},
		{Scheme: Generic, Header: "X", Hash: "crc32", Secrets: some},
		{Scheme: Generic, Header: "X"},
	} {
		_, err := New(c)
		require.Error(t, err, "%+v", c)
	}
}

func TestParseSecrets(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"12345678":                        "12345678",
		"  12345678\t\r\n\r\n\nabcdefgh ": "12345678|abcdefgh",
		"It's a Secret to Everybody\n":    "It's a Secret to Everybody",
		"ключ ключ":                       "ключ ключ",
		strings.Repeat("x", 1024):         strings.Repeat("x", 1024),
		strings.Repeat("12345678\n", 16):  strings.Repeat("12345678|", 15) + "12345678",
	} {
		s, err := ParseSecrets([]byte(file))
		require.NoError(t, err)
		require.Equal(t, want, string(bytes.Join(s.keys(), []byte("|"))))
	}
	for file, want := range map[string]string{
		"":                               "no secret",
		" \n\r\n\t":                      "no secret",
		"\n1234567\n":                    "line 2 has 7 bytes",
		strings.Repeat("x", 1025):        "line 1 has 1025 bytes",
		"good enough\n\x7fELF\x02\x01":   "line 2 has bytes",
		"good enough\nh\x00u\x00n\x00t2": "line 2 has bytes",
		"\xff\xfehunter2hunter2":         "line 1 has bytes",
		"\xef\xbb\xbfhunter2hunter2":     "byte order mark",
		"hunter2\rhunter2":               "line 1 has bytes",
		strings.Repeat("hunter22\n", 17): "more than 16",
	} {
		_, err := ParseSecrets([]byte(file))
		require.ErrorContains(t, err, want, "%q", file)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	s := secrets(t, "hunter2hunter2")
	v, err := New(Config{Scheme: GitHub, Secrets: s})
	require.NoError(t, err)
	sig, err := v.Read(header("X-Hub-Signature-256: sha256=" + strings.Repeat("0", 64)))
	require.NoError(t, err)
	type private struct {
		s Secrets
		c Config
		v *Verifier
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, value := range []any{s, &s, v, sig, Config{Secrets: s}, []any{s}, private{s: s, c: Config{Secrets: s}, v: v}, errors.Join(sig.Verify(nil))} {
			shown := fmt.Sprintf(verb, value)
			require.NotContains(t, shown, "hunter2", verb)
			require.NotContains(t, strings.ToLower(shown), hex.EncodeToString([]byte("hunter2")), verb)
			require.NotContains(t, shown, "104 117 110 116", verb)
		}
	}
	b, err := json.Marshal(struct{ Secrets any }{s})
	require.NoError(t, err)
	require.Equal(t, `{"Secrets":{}}`, string(b))
}

func TestRotation(t *testing.T) {
	t.Parallel()
	old, young := secrets(t, "the old one"), secrets(t, "the young one")
	both := secrets(t, "the old one", "the young one")
	require.False(t, old.Equal(young))
	require.False(t, old.Equal(both))
	require.True(t, both.Equal(secrets(t, "the old one", "", " the young one\r")))
	v, err := New(Config{Scheme: GitHub, Secrets: old})
	require.NoError(t, err)
	byOld := "X-Hub-Signature-256: sha256=" + sign("sha256", "the old one", "body")
	byYoung := "X-Hub-Signature-256: sha256=" + sign("sha256", "the young one", "body")
	for _, c := range []struct {
		s          Secrets
		old, young bool
	}{{old, true, false}, {both, true, true}, {young, false, true}} {
		v.SetSecrets(c.s)
		require.Equal(t, c.old, verify(v, "body", byOld) == nil)
		require.Equal(t, c.young, verify(v, "body", byYoung) == nil)
	}
}

// sign is a HMAC by RFC 2104's own definition, without crypto/hmac.
func sign(hashName, secret, signed string) string {
	newHash := hashes[hashName]
	h := newHash()
	key := []byte(secret)
	if len(key) > h.BlockSize() {
		h.Write(key)
		key = h.Sum(nil)
	}
	key = append(key, make([]byte, newHash().BlockSize()-len(key))...)
	pad := func(b byte) []byte {
		p := bytes.Clone(key)
		for i := range p {
			p[i] ^= b
		}
		return p
	}
	inner, outer := newHash(), newHash()
	inner.Write(append(pad(0x36), signed...))
	outer.Write(append(pad(0x5c), inner.Sum(nil)...))
	return hex.EncodeToString(outer.Sum(nil))
}

func FuzzParseStripe(f *testing.F) {
	mac := strings.Repeat("ab", 32)
	f.Add("t=1800000000,v1=" + mac)
	f.Add("t=1,v0=x,v1=" + mac + ",v1=" + mac)
	f.Add("t=1,t=2,=,v1")
	f.Fuzz(func(t *testing.T, value string) {
		timestamp, macs, err := parseStripe(value)
		if err != nil {
			require.ErrorIs(t, err, ErrRefused)
			return
		}
		require.NotEmpty(t, macs)
		require.LessOrEqual(t, len(macs), maxMACs)
		require.Contains(t, ","+value+",", ",t="+timestamp+",")
		for _, mac := range macs {
			require.Len(t, mac, 32)
			require.Contains(t, strings.ToLower(value), hex.EncodeToString(mac))
		}
	})
}

func FuzzParseGeneric(f *testing.F) {
	for name := range hashes {
		f.Add(name+"="+sign(name, "secret", ""), name)
		f.Add(base64.StdEncoding.EncodeToString(make([]byte, hashes[name]().Size())), name)
	}
	f.Fuzz(func(t *testing.T, value, name string) {
		if hashes[name] == nil {
			return
		}
		size := hashes[name]().Size()
		macs, err := parseGeneric(value, name, size)
		if err != nil {
			require.ErrorIs(t, err, ErrRefused)
			return
		}
		require.Len(t, macs, 1)
		require.Len(t, macs[0], size)
		text := strings.TrimPrefix(value, name+"=")
		require.Contains(t, []string{hex.EncodeToString(macs[0]), base64.StdEncoding.EncodeToString(macs[0])},
			map[bool]string{true: strings.ToLower(text), false: text}[len(text) == 2*size])
	})
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"0", "1800000000", "-1", "+1", "1e9", "999999999999", "9999999999999", "01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := parseTime(s); ok {
			require.Equal(t, s, strconv.FormatInt(n, 10))
			require.Positive(t, n)
		}
	})
}

func FuzzParseSecrets(f *testing.F) {
	f.Add([]byte("12345678\r\n\n another secret \n"))
	f.Add([]byte("\xef\xbb\xbfx\x00"))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := ParseSecrets(file)
		if err != nil {
			require.Zero(t, s.Len())
			return
		}
		require.Positive(t, s.Len())
		require.LessOrEqual(t, s.Len(), MaxSecrets)
		for _, k := range s.keys() {
			require.GreaterOrEqual(t, len(k), minSecret)
			require.NotContains(t, string(k), "\n")
		}
		again, err := ParseSecrets(bytes.Join(s.keys(), []byte("\r\n")))
		require.NoError(t, err)
		require.True(t, s.Equal(again))
	})
}
