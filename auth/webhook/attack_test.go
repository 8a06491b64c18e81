package webhook

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The reasons for which a signature is refused.
const (
	why       = "the webhook's signature is refused: "
	noPrefix  = why + "it does not begin with sha256="
	noV0      = why + "it does not begin with v0="
	notHex    = why + "it is not 64 hexadecimal digits"
	notSize   = why + "it is not a signature by this hash in hexadecimal or padded base64"
	wrong     = why + "it is not the body's by any of the secrets"
	twice     = why + "a header came more than once"
	badTime   = why + "the timestamp is not a plain number of seconds"
	tooOld    = why + "the timestamp is more than 5 minutes old"
	tooNew    = why + "the timestamp is more than 5 minutes ahead"
	noTime    = why + "there is no X-Slack-Request-Timestamp"
	oneT      = why + "there is not exactly one t"
	noV1      = why + "there is no v1"
	manyV1    = why + "there are too many v1"
	tooLong   = why + "the header is too long"
	badElem   = why + "an element is not name=value"
	noHeader  = "the webhook's signature is missing: want "
	letIn     = ""
	secret    = "a shared secret"
	theBody   = `{"zen":"Half measures are as bad as nothing at all."}`
	nowText   = "1800000000"
	nowNumber = 1_800_000_000
)

// TestAttacks has every header signed with the right secret, unless the attack is
// about the signature, so that only what its name says can be what refuses it.
func TestAttacks(t *testing.T) {
	t.Parallel()
	type attack struct {
		name    string
		body    string
		headers []string
		want    string
	}
	h := func(lines ...string) []string { return lines }
	count := 0
	check := func(c Config, attacks []attack) {
		t.Helper()
		c.Secrets, c.Now = secrets(t, "not this one", secret), at(nowNumber)
		v, err := New(c)
		require.NoError(t, err)
		names := map[string]bool{}
		for _, a := range attacks {
			name := string(c.Scheme) + ": " + a.name
			require.False(t, names[name], name)
			names[name] = true
			err := verify(v, a.body, a.headers...)
			count++
			switch {
			case a.want == letIn:
				require.NoError(t, err, name)
			case a.want == noHeader:
				require.ErrorIs(t, err, ErrMissing, name)
				require.EqualError(t, err, noHeader+v.Header(), name)
			default:
				require.ErrorIs(t, err, ErrRefused, name)
				require.EqualError(t, err, a.want, name)
			}
		}
	}

	// GitHub.
	mac := sign("sha256", secret, theBody)
	raw, _ := hex.DecodeString(mac)
	hub := "X-Hub-Signature-256: "
	check(Config{Scheme: GitHub}, []attack{
		{"good", theBody, h(hub + "sha256=" + mac), letIn},
		{"good, header in lower case", theBody, h("x-hub-signature-256: sha256=" + mac), letIn},
		{"good, digits in upper case", theBody, h(hub + "sha256=" + strings.ToUpper(mac)), letIn},
		{"good, old SHA-1 header beside it", theBody, h(hub+"sha256="+mac, "X-Hub-Signature: sha1=00"), letIn},
		{"good, empty body", "", h(hub + "sha256=" + sign("sha256", secret, "")), letIn},
		{"no header", theBody, nil, noHeader},
		{"SHA-1 header alone", theBody, h("X-Hub-Signature: sha1=" + sign("sha1", secret, theBody)), noHeader},
		{"header with underscores", theBody, h("X_Hub_Signature_256: sha256=" + mac), noHeader},
		{"another scheme's header", theBody, h("X-Slack-Signature: v0=" + mac), noHeader},
		{"empty header", theBody, h(hub), noPrefix},
		{"prefix alone", theBody, h(hub + "sha256="), notHex},
		{"no prefix", theBody, h(hub + mac), noPrefix},
		{"prefix in upper case", theBody, h(hub + "SHA256=" + mac), noPrefix},
		{"downgrade to SHA-1", theBody, h(hub + "sha1=" + sign("sha1", secret, theBody)), noPrefix},
		{"SHA-1 under SHA-256's name", theBody, h(hub + "sha256=" + sign("sha1", secret, theBody)), notHex},
		{"SHA-512", theBody, h(hub + "sha256=" + sign("sha512", secret, theBody)), notHex},
		{"base64", theBody, h(hub + "sha256=" + base64.StdEncoding.EncodeToString(raw)), notHex},
		{"last digit cut off", theBody, h(hub + "sha256=" + mac[:63]), notHex},
		{"last byte cut off", theBody, h(hub + "sha256=" + mac[:62]), notHex},
		{"first byte alone", theBody, h(hub + "sha256=" + mac[:2]), notHex},
		{"a byte more", theBody, h(hub + "sha256=" + mac + "00"), notHex},
		{"not hexadecimal", theBody, h(hub + "sha256=" + mac[:63] + "g"), notHex},
		{"0x before it", theBody, h(hub + "sha256=0x" + mac[2:]), notHex},
		{"space before it", theBody, h(hub + "sha256= " + mac), notHex},
		{"space before all", theBody, h(hub + " sha256=" + mac), noPrefix},
		{"space after it", theBody, h(hub + "sha256=" + mac + " "), notHex},
		{"NUL after it", theBody, h(hub + "sha256=" + mac + "\x00"), notHex},
		{"full-width digits", theBody, h(hub + "sha256=" + strings.Repeat("０", 64)), notHex},
		{"zeros", theBody, h(hub + "sha256=" + strings.Repeat("0", 64)), wrong},
		{"last bit flipped", theBody, h(hub + "sha256=" + flip(mac)), wrong},
		{"another secret", theBody, h(hub + "sha256=" + sign("sha256", "another secret", theBody)), wrong},
		{"empty secret", theBody, h(hub + "sha256=" + sign("sha256", "", theBody)), wrong},
		{"secret with its line end", theBody, h(hub + "sha256=" + sign("sha256", secret+"\n", theBody)), wrong},
		{"both secrets in one", theBody, h(hub + "sha256=" + sign("sha256", "not this one\n"+secret, theBody)), wrong},
		{"a byte of the body changed", strings.Replace(theBody, "H", "h", 1), h(hub + "sha256=" + mac), wrong},
		{"a byte appended", theBody + "\n", h(hub + "sha256=" + mac), wrong},
		{"body cut off", theBody[:len(theBody)-1], h(hub + "sha256=" + mac), wrong},
		{"body left out", "", h(hub + "sha256=" + mac), wrong},
		{"empty body's signature", theBody, h(hub + "sha256=" + sign("sha256", secret, "")), wrong},
		{"two headers, both good", theBody, h(hub+"sha256="+mac, hub+"sha256="+mac), twice},
		{"two headers, a bad one first", theBody, h(hub+"sha256="+flip(mac), hub+"sha256="+mac), twice},
		{"two headers in different case", theBody, h(hub+"sha256="+mac, "x-hub-signature-256: sha256="+flip(mac)), twice},
		{"two values joined", theBody, h(hub + "sha256=" + flip(mac) + ",sha256=" + mac), notHex},
		{"two values joined, good one first", theBody, h(hub + "sha256=" + mac + ", sha256=" + mac), notHex},
		{"a megabyte", theBody, h(hub + "sha256=" + strings.Repeat("0", 1<<20)), notHex},
	})

	// Stripe.
	stripe := func(timestamp, body string) string { return sign("sha256", secret, timestamp+"."+body) }
	sig := stripe(nowText, theBody)
	line := func(timestamp string) []string {
		return h("Stripe-Signature: t=" + timestamp + ",v1=" + stripe(timestamp, theBody))
	}
	many := func(n int) string { return strings.Repeat(",v1="+flip(sig), n) }
	check(Config{Scheme: Stripe}, []attack{
		{"good", theBody, line(nowText), letIn},
		{"good, with a v0", theBody, h("Stripe-Signature: t=" + nowText + ",v1=" + sig + ",v0=" + flip(sig)), letIn},
		{"good, v1 first", theBody, h("Stripe-Signature: v1=" + sig + ",t=" + nowText), letIn},
		{"good, the second of two", theBody, h("Stripe-Signature: t=" + nowText + ",v1=" + flip(sig) + ",v1=" + sig), letIn},
		{"good, the last of 16", theBody, h("Stripe-Signature: t=" + nowText + many(15) + ",v1=" + sig), letIn},
		{"good, 5 minutes old", theBody, line("1799999700"), letIn},
		{"good, 5 minutes ahead", theBody, line("1800000300"), letIn},
		{"the last of 17", theBody, h("Stripe-Signature: t=" + nowText + many(16) + ",v1=" + sig), manyV1},
		{"no header", theBody, nil, noHeader},
		{"empty header", theBody, h("Stripe-Signature: "), badElem},
		{"replayed", theBody, line("1799999699"), tooOld},
		{"signed ahead", theBody, line("1800000301"), tooNew},
		{"1970", theBody, line("1"), tooOld},
		{"milliseconds", theBody, line("1800000000000"), badTime},
		{"timestamp exchanged", theBody, h("Stripe-Signature: t=1799999999,v1=" + sig), wrong},
		{"plus sign", theBody, line("+1800000000"), badTime},
		{"minus sign", theBody, line("-1800000000"), badTime},
		{"space before the digits", theBody, line(" 1800000000"), badTime},
		{"space after the digits", theBody, line("1800000000 "), badTime},
		{"leading zero", theBody, line("01800000000"), badTime},
		{"hexadecimal", theBody, line("0x6b49d200"), badTime},
		{"exponent", theBody, line("18e8"), badTime},
		{"fraction", theBody, line("1800000000.0"), badTime},
		{"digit separators", theBody, line("1_800_000_000"), badTime},
		{"full-width digits", theBody, line("１８００００００００"), badTime},
		{"64 bits overflow to now", theBody, line("18446744075509551616"), badTime},
		{"a thousand digits", theBody, line(strings.Repeat("9", 1000)), badTime},
		{"empty timestamp", theBody, line(""), badTime},
		{"no t", theBody, h("Stripe-Signature: v1=" + sig), oneT},
		{"two t", theBody, h("Stripe-Signature: t=1,t=" + nowText + ",v1=" + sig), oneT},
		{"t twice the same", theBody, h("Stripe-Signature: t=" + nowText + ",t=" + nowText + ",v1=" + sig), oneT},
		{"T", theBody, h("Stripe-Signature: T=" + nowText + ",v1=" + sig), oneT},
		{"v0 alone", theBody, h("Stripe-Signature: t=" + nowText + ",v0=" + sig), noV1},
		{"V1", theBody, h("Stripe-Signature: t=" + nowText + ",V1=" + sig), noV1},
		{"spaces between", theBody, h("Stripe-Signature: t=" + nowText + ", v1=" + sig), noV1},
		{"v1 cut off", theBody, h("Stripe-Signature: t=" + nowText + ",v1=" + sig[:62]), notHex},
		{"empty v1", theBody, h("Stripe-Signature: t=" + nowText + ",v1="), notHex},
		{"a bad v1 beside a good one", theBody, h("Stripe-Signature: t=" + nowText + ",v1=x,v1=" + sig), notHex},
		{"comma at the end", theBody, h("Stripe-Signature: t=" + nowText + ",v1=" + sig + ","), badElem},
		{"element without a name", theBody, h("Stripe-Signature: t=" + nowText + ",=x,v1=" + sig), badElem},
		{"too long", theBody, h("Stripe-Signature: t=" + nowText + ",v1=" + sig + ",x=" + strings.Repeat("x", 4096)), tooLong},
		{"body without its timestamp", theBody, h("Stripe-Signature: t=" + nowText + ",v1=" + sign("sha256", secret, theBody)), wrong},
		{"a dot moved from timestamp to body", "0." + theBody, h("Stripe-Signature: t=180000000,v1=" + stripe("180000000", "0."+theBody)), tooOld},
		{"body changed", theBody + " ", line(nowText), wrong},
		{"two headers", theBody, append(line(nowText), line(nowText)...), twice},
	})

	// Slack.
	slack := func(timestamp string) []string {
		return h("X-Slack-Signature: v0="+sign("sha256", secret, "v0:"+timestamp+":"+theBody), "X-Slack-Request-Timestamp: "+timestamp)
	}
	good := slack(nowText)
	check(Config{Scheme: Slack}, []attack{
		{"good", theBody, good, letIn},
		{"good, 5 minutes old", theBody, slack("1799999700"), letIn},
		{"replayed", theBody, slack("1799999699"), tooOld},
		{"ahead", theBody, slack("1800000301"), tooNew},
		{"no header", theBody, nil, noHeader},
		{"timestamp alone", theBody, good[1:], noHeader},
		{"signature alone", theBody, good[:1], noTime},
		{"two timestamps", theBody, append(slack(nowText), good[1]), twice},
		{"two timestamps, the old one first", theBody, h(good[0], "X-Slack-Request-Timestamp: 1", good[1]), twice},
		{"two signatures", theBody, append(slack(nowText), good[0]), twice},
		{"empty timestamp", theBody, slack(""), badTime},
		{"sign", theBody, slack("+1800000000"), badTime},
		{"timestamps joined", theBody, slack("1800000000, 1800000000"), badTime},
		{"timestamp exchanged", theBody, h(good[0], "X-Slack-Request-Timestamp: 1800000001"), wrong},
		{"a colon in the timestamp", theBody, slack("1800000000:"), badTime},
		{"v1", theBody, h(strings.Replace(good[0], "v0=", "v1=", 1), good[1]), noV0},
		{"V0", theBody, h(strings.Replace(good[0], "v0=", "V0=", 1), good[1]), noV0},
		{"no version", theBody, h(strings.Replace(good[0], "v0=", "", 1), good[1]), noV0},
		{"cut off", theBody, h(good[0][:len(good[0])-2], good[1]), notHex},
		{"empty", theBody, h("X-Slack-Signature: v0=", good[1]), notHex},
		{"body changed", theBody + " ", good, wrong},
		{"body empty", "", good, wrong},
	})

	// Generic.
	for name, newHash := range hashes {
		mac := sign(name, secret, theBody)
		raw, _ := hex.DecodeString(mac)
		other := "sha256"
		if name == other {
			other = "sha512"
		}
		b64 := base64.StdEncoding.EncodeToString(raw)
		x := "X-Shop-Hmac: "
		check(Config{Scheme: Generic, Header: "x-shop-hmac", Hash: name}, []attack{
			{"hexadecimal", theBody, h(x + mac), letIn},
			{"upper case", theBody, h(x + strings.ToUpper(mac)), letIn},
			{"prefixed", theBody, h(x + name + "=" + mac), letIn},
			{"base64", theBody, h(x + b64), letIn},
			{"prefixed base64", theBody, h(x + name + "=" + b64), letIn},
			{"no header", theBody, nil, noHeader},
			{"empty", theBody, h(x), notSize},
			{"prefix alone", theBody, h(x + name + "="), notSize},
			{"two prefixes", theBody, h(x + name + "=" + name + "=" + mac), notSize},
			{"another hash' prefix", theBody, h(x + other + "=" + mac), notSize},
			{"another hash", theBody, h(x + sign(other, secret, theBody)), notSize},
			{"base64 without padding", theBody, h(x + strings.TrimRight(b64, "=")), notSize},
			{"base64 with a line end", theBody, h(x + b64[:len(b64)-1] + "\n"), notSize},
			{"base64 with stray bits", theBody, h(x + stray(b64)), notSize},
			{"base64 of the hexadecimal", theBody, h(x + base64.StdEncoding.EncodeToString([]byte(mac))), notSize},
			{"cut off", theBody, h(x + mac[:len(mac)-2]), notSize},
			{"last bit flipped", theBody, h(x + flip(mac)), wrong},
			{"zeros", theBody, h(x + strings.Repeat("0", 2*newHash().Size())), wrong},
			{"body changed", theBody + " ", h(x + mac), wrong},
			{"two headers", theBody, h(x+mac, x+b64), twice},
			{"joined", theBody, h(x + mac + "," + mac), notSize},
		})
	}
	require.GreaterOrEqual(t, count, 150)
}

// flip flips the last bit of a hexadecimal number.
func flip(mac string) string {
	raw, err := hex.DecodeString(mac)
	if err != nil {
		panic(err)
	}
	raw[len(raw)-1] ^= 1
	return fmt.Sprintf("%x", raw)
}

// stray sets a bit of base64 that decodes to nothing.
func stray(b64 string) string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	i := strings.IndexByte(b64, '=') - 1
	return b64[:i] + string(digits[strings.IndexByte(digits, b64[i])|1]) + b64[i+1:]
}
