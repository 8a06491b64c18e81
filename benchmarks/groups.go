//go:build linux

package main

import (
	"fmt"
	"path/filepath"
)

const (
	ours     = "fwatchdog, auth"
	oursOpen = "fwatchdog, no auth"
	oursUnix = "fwatchdog, auth, function on a Unix socket"
	theirs   = "of-watchdog, auth"
	nginx    = "nginx, no auth"
	haproxy  = "HAProxy jwt_verify"
	function = "the function itself"
)

// groups are all rows, and how each series is measured.
func (b *bench) groups() []group {
	http, httpOpen := b.watchdog(true, true, "http"), b.watchdog(true, false, "http")
	theirHTTP, theirOpen := b.watchdog(false, true, "http"), b.watchdog(false, false, "http")
	plain := b.before(b.raw, b.nginx)
	return []group{
		{
			series: append(b.many("calls/s", b.saturated(32), map[string]starter{
				ours: http, oursOpen: httpOpen, oursUnix: b.watchdog(true, true, "http", "unix"), theirs: theirHTTP,
				"of-watchdog, no auth": theirOpen, haproxy: b.before(b.raw, b.haproxy), nginx: plain, function: b.raw,
			}), series{Name: "the function itself, by wrk", Unit: "calls/s", trial: b.with(b.raw, b.wrk)}),
			rows: []row{
				{Name: "invoke/of-watchdog", What: "authenticated invoke, http mode, 32 connections: calls/s ÷ of-watchdog's", Ours: ours, Peer: theirs, Goal: 6},
				{Name: "invoke/haproxy", What: "… ÷ HAProxy with `jwt_verify`, two threads", Ours: ours, Peer: haproxy, Goal: 3},
				{Name: "invoke/nginx", What: "… ÷ nginx as a plain proxy without auth", Ours: ours, Peer: nginx, Goal: 0.9},
				{Name: "invoke/no-auth", What: "auth ÷ no auth, ours", Ours: ours, Peer: oursOpen, Goal: 0.95},
				{Name: "invoke/function", What: "auth ÷ the function itself, the limit", Ours: ours, Peer: function},
				{Name: "invoke/unix", What: "auth, the function on a Unix socket ÷ on TCP", Ours: oursUnix, Peer: ours},
				{Name: "invoke/open-of-watchdog", What: "no auth ÷ of-watchdog without auth", Ours: oursOpen, Peer: "of-watchdog, no auth"},
				{Name: "load", What: "the function itself: our load generator's calls/s ÷ wrk's (one thread)", Ours: function, Peer: "the function itself, by wrk"},
			},
		},
		{
			series: b.many("µs", b.cpuOfCall, map[string]starter{
				"CPU, " + ours: http, "CPU, " + oursOpen: httpOpen, "CPU, " + theirs: theirHTTP,
				"CPU, " + haproxy: b.before(b.raw, b.haproxy), "CPU, " + nginx: plain,
			}),
			rows: []row{
				{Name: "cpu/of-watchdog", What: "CPU time of an authenticated call, without the function's ÷ of-watchdog's", Ours: "CPU, " + ours, Peer: "CPU, " + theirs, AtMost: true},
				{Name: "cpu/haproxy", What: "… ÷ HAProxy's with `jwt_verify`", Ours: "CPU, " + ours, Peer: "CPU, " + haproxy, AtMost: true},
				{Name: "cpu/nginx", What: "… ÷ nginx' as a plain proxy without auth", Ours: "CPU, " + ours, Peer: "CPU, " + nginx, AtMost: true},
				{Name: "cpu/no-auth", What: "… ÷ ours without auth", Ours: "CPU, " + ours, Peer: "CPU, " + oursOpen, AtMost: true},
			},
		},
		{
			series: b.many("µs", b.latency, map[string]starter{"p50, " + ours: http, "p50, " + nginx: plain, "p50, " + function: b.raw}),
			rows: []row{
				{Name: "latency/p50", What: "p50 at 1 connection: auth ÷ nginx plain", Ours: "p50, " + ours, Peer: "p50, " + nginx, Goal: 1.2, AtMost: true},
				{Name: "latency/p50-function", What: "… ÷ the function itself", Ours: "p50, " + ours, Peer: "p50, " + function, AtMost: true},
			},
		},
		{
			series: []series{
				{Name: "p99, " + ours, Unit: "µs", trial: b.tail(http, http, plain)},
				{Name: "p99, " + nginx, Unit: "µs", trial: b.tail(plain, http, plain)},
			},
			rows: []row{{Name: "latency/p99", What: "p99 at half of the saturation rate, 32 connections: auth ÷ nginx plain", Ours: "p99, " + ours, Peer: "p99, " + nginx, Goal: 1.5, AtMost: true}},
		},
		{
			series: b.many("calls/s", b.cold, map[string]starter{"new tokens, " + ours: http, "new tokens, " + theirs: theirHTTP}),
			rows:   []row{{Name: "cold", What: "every call with a new token, cache cold, 32 connections ÷ of-watchdog", Ours: "new tokens, " + ours, Peer: "new tokens, " + theirs, Goal: 1.8}},
		},
		{
			series: append(b.many("calls/s", b.forked, map[string]starter{
				"streaming, fwatchdog": b.watchdog(true, false, "streaming"), "streaming, of-watchdog": b.watchdog(false, false, "streaming"),
				"serializing, fwatchdog": b.watchdog(true, false, "serializing"), "serializing, of-watchdog": b.watchdog(false, false, "serializing"),
			}), series{Name: "posix_spawn loop", Unit: "calls/s", trial: b.spawned}),
			rows: []row{
				{Name: "fork/streaming", What: "`cat`, 4 connections, streaming ÷ of-watchdog", Ours: "streaming, fwatchdog", Peer: "streaming, of-watchdog", Goal: 1.3},
				{Name: "fork/serializing", What: "… serializing ÷ of-watchdog", Ours: "serializing, fwatchdog", Peer: "serializing, of-watchdog", Goal: 1.3},
				{Name: "fork/streaming-spawn", What: "… streaming ÷ a bare posix_spawn loop", Ours: "streaming, fwatchdog", Peer: "posix_spawn loop", Goal: 0.8},
				{Name: "fork/serializing-spawn", What: "… serializing ÷ a bare posix_spawn loop", Ours: "serializing, fwatchdog", Peer: "posix_spawn loop", Goal: 0.8},
			},
		},
		{
			series: b.many("calls/s", b.saturated(32), map[string]starter{
				"gateway → fwatchdog, auth": b.gateway, "nginx → of-watchdog, auth": b.before(theirHTTP, b.nginx),
			}),
			rows: []row{{Name: "gateway", What: "gateway → watchdog → function, auth, 32 connections ÷ nginx → of-watchdog → function, auth", Ours: "gateway → fwatchdog, auth", Peer: "nginx → of-watchdog, auth", Goal: 3.5}},
		},
		{
			series: []series{
				{Name: "CPU of an exchange", Unit: "µs", trial: b.with(b.gateway, b.exchanges)},
				{Name: "CPU of one ES256 verify + one sign", Unit: "µs", trial: b.signatures},
			},
			rows: []row{{Name: "exchange", What: "token exchange, ES256, each of a new subject token: the gateway's CPU time ÷ one ES256 verify + one sign", Ours: "CPU of an exchange", Peer: "CPU of one ES256 verify + one sign", Goal: 2, AtMost: true}},
		},
		{
			series: []series{
				{Name: "up, " + ours, Unit: "MiB/s", trial: b.with(http, b.up)}, {Name: "up, " + nginx, Unit: "MiB/s", trial: b.with(plain, b.up)},
				{Name: "down, " + ours, Unit: "MiB/s", trial: b.with(http, b.down)}, {Name: "down, " + nginx, Unit: "MiB/s", trial: b.with(plain, b.down)},
				{Name: "peak RSS", Unit: "MiB", trial: b.with(http, b.peak)},
			},
			rows: []row{
				{Name: "bulk/up", What: size(b.bulk) + " up, auth ÷ nginx plain", Ours: "up, " + ours, Peer: "up, " + nginx, Goal: 0.9},
				{Name: "bulk/down", What: size(b.bulk) + " down, auth ÷ nginx plain", Ours: "down, " + ours, Peer: "down, " + nginx, Goal: 0.9},
				{Name: "bulk/memory", What: "… peak RSS after both, in MiB", Ours: "peak RSS", Goal: 32, AtMost: true},
			},
		},
		{
			series: append(b.many("MiB", idle, map[string]starter{"idle RSS, fwatchdog": http, "idle RSS, of-watchdog": theirHTTP}),
				series{Name: "size, fwatchdog", Unit: "MiB", trial: fileSize(filepath.Join(b.binaries, "fwatchdog"))},
				series{Name: "size, of-watchdog", Unit: "MiB", trial: fileSize(b.upstream)}),
			rows: []row{
				{Name: "idle", What: "idle RSS, http mode, auth ÷ of-watchdog", Ours: "idle RSS, fwatchdog", Peer: "idle RSS, of-watchdog", Goal: 1, AtMost: true},
				{Name: "size", What: "binary size ÷ of-watchdog", Ours: "size, fwatchdog", Peer: "size, of-watchdog", Goal: 1, AtMost: true},
			},
		},
		{
			series: []series{
				{Name: "start, fwatchdog", Unit: "ms", trial: starts(b.watchdog(true, false, "streaming"))},
				{Name: "start, of-watchdog", Unit: "ms", trial: starts(b.watchdog(false, false, "streaming"))},
			},
			rows: []row{{Name: "start", What: "process start to the first 200 of `/_/health` ÷ of-watchdog", Ours: "start, fwatchdog", Peer: "start, of-watchdog", Goal: 0.8, AtMost: true}},
		},
		{
			series: b.many("KiB", b.idleConnections, map[string]starter{"RSS of an idle connection, fwatchdog": http, "RSS of an idle connection, of-watchdog": theirHTTP}),
			rows: []row{
				{Name: "connections", What: fmt.Sprintf("%d idle keep-alive connections, auth: RSS of each, in KiB", b.settings.idle), Ours: "RSS of an idle connection, fwatchdog", Goal: 8, AtMost: true},
				{Name: "connections/of-watchdog", What: "… ÷ of-watchdog", Ours: "RSS of an idle connection, fwatchdog", Peer: "RSS of an idle connection, of-watchdog", AtMost: true},
			},
		},
	}
}
