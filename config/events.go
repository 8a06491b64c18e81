package config

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Events says which events the gateway records, and where they go.
type Events struct {
	// Auditing has an event for each request to /system/ (auditing, false) with
	// one of AuditingVerbs (auditing_http_verbs; PUT, POST and DELETE).
	Auditing      bool
	AuditingVerbs []string
	// AuditingMandatory has such requests refused while no event can be kept
	// (auditing_mandatory, false).
	AuditingMandatory bool
	// Metering has an event for each function call (metering, false) but those in
	// the namespaces MeteringExclude (metering_exclude_namespaces).
	Metering        bool
	MeteringExclude []string
	// MeteringDefaultRAM stands for the memory of functions without a limit, in
	// bytes (metering_default_ram, 512Mi).
	MeteringDefaultRAM int64

	// URL is the webhook (events_url); nil = they are written to File.
	URL *url.URL
	// SecretFile holds the key of the signatures (events_secret_file).
	SecretFile string
	// File is appended to (events_file); "-" = stdout.
	File string
	// Timeout bounds one delivery (events_timeout, 30s).
	Timeout time.Duration
	// Batch and BatchWait are how many events are delivered at once at most, and
	// how long the first waits for others (events_batch, 1000; events_batch_wait,
	// 1s).
	Batch     int
	BatchWait time.Duration
	// SpoolBytes bounds what is kept of each type until it is delivered
	// (events_spool_bytes, 256Mi).
	SpoolBytes int64
}

// events reads what is recorded. Without a place for it nothing would be, and who
// has set auditing takes it for granted that something is.
func (e *env) events() Events {
	c := Events{
		Auditing:           e.boolean(false, "auditing"),
		AuditingVerbs:      e.verbs("PUT,POST,DELETE", "auditing_http_verbs"),
		AuditingMandatory:  e.boolean(false, "auditing_mandatory"),
		Metering:           e.boolean(false, "metering"),
		MeteringExclude:    e.namespaces("metering_exclude_namespaces"),
		MeteringDefaultRAM: e.bytes(512<<20, 1, "metering_default_ram"),
		URL:                e.httpURL("events_url"),
		SecretFile:         e.str("", "events_secret_file"),
		File:               e.str("", "events_file"),
		Timeout:            e.duration(30*time.Second, "events_timeout"),
		Batch:              e.integer(1000, 1, 100_000, "events_batch"),
		BatchWait:          e.duration(time.Second, "events_batch_wait"),
		SpoolBytes:         e.bytes(256<<20, 1<<20, "events_spool_bytes"),
	}
	if c.AuditingMandatory && !c.Auditing {
		e.bad("auditing_mandatory", "true", "nothing without auditing=true")
	}
	if c.URL != nil && c.URL.Fragment != "" {
		e.bad("events_url", c.URL.Scheme+"://"+c.URL.Host+"/[hidden]", "a URL without a fragment")
	}
	switch webhook := e.str("", "events_url") != ""; {
	case webhook && c.File != "":
		e.bad("events_file", c.File, "nothing while events_url is set: events go to one place")
	case webhook && c.SecretFile == "":
		e.bad("events_secret_file", "", "a file with the secret that signs what is sent to events_url")
	case !webhook && c.SecretFile != "":
		e.bad("events_secret_file", c.SecretFile, "nothing without events_url")
	case !webhook && c.File == "" && (c.Auditing || c.Metering):
		e.bad("events_url", "", "a webhook for the events of auditing and metering, or events_file, where - is stdout")
	}
	if c.Timeout == 0 {
		e.bad("events_timeout", e.values["events_timeout"], "more than 0s")
	}
	if c.BatchWait == 0 {
		e.bad("events_batch_wait", e.values["events_batch_wait"], "more than 0s")
	}
	return c
}

// list returns what stands between commas.
func (e *env) list(fallback, name string) []string {
	var all []string
	for part := range strings.SplitSeq(e.str(fallback, name), ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

func (e *env) verbs(fallback, name string) []string {
	verbs := e.list(fallback, name)
	if len(verbs) == 0 {
		e.bad(name, e.values[name], "at least one HTTP method, as in PUT,POST,DELETE")
	}
	for i, v := range verbs {
		verbs[i] = strings.ToUpper(v)
		if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, verbs[i]) {
			e.bad(name, e.values[name], "HTTP methods with commas between them, as in PUT,POST,DELETE")
		}
	}
	return verbs
}

func (e *env) namespaces(name string) []string {
	namespaces := e.list("", name)
	for _, n := range namespaces {
		if !ValidName(n) {
			e.bad(name, e.values[name], "namespaces with commas between them")
		}
	}
	return namespaces
}

// bytes takes what Kubernetes does for memory, without fractions: 512Mi, 1G,
// 1048576.
func (e *env) bytes(fallback, low int64, name string) int64 {
	_, v, ok := e.lookup(name)
	if !ok {
		return fallback
	}
	n, err := parseBytes(v)
	if err != nil || n < low {
		e.bad(name, v, fmt.Sprintf("a number of bytes such as 256Mi, at least %d", low))
		return fallback
	}
	return n
}

func parseBytes(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTik")
	unit, known := map[string]int64{
		"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
	}[s[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || !known || int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is no number of bytes", s)
	}
	return int64(n) * unit, nil
}
