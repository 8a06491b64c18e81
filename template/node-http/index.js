'use strict'

// Serves the function in function/handler.js where fwatchdog looks for it, at
// upstream_url. How large a body may be, how long a call may take and who may
// call is the watchdog's business.

const http = require('node:http')
const handler = require('./function/handler')

async function answer (req, res) {
  const chunks = []
  for await (const chunk of req) chunks.push(chunk)
  const [path, query = ''] = req.url.split(/\?(.*)/s)
  const event = {
    body: Buffer.concat(chunks).toString(),
    headers: req.headers,
    method: req.method,
    path,
    query: Object.fromEntries(new URLSearchParams(query))
  }
  if (/^application\/json\b/i.test(req.headers['content-type'] ?? '') && event.body !== '') {
    try {
      event.body = JSON.parse(event.body)
    } catch {
      return send(res, 400, {}, 'the body is not JSON\n')
    }
  }

  let status = 200
  let headers = {}
  let done
  const context = {
    status (code) { status = code; return context },
    headers (fields) { headers = fields; return context },
    succeed (body) { done = { body } },
    fail (error) { done = { error: error ?? new Error('fail() without a reason') } }
  }
  const returned = await handler(event, context)
  if (done?.error) throw done.error
  send(res, status, headers, done ? done.body : returned)
}

function send (res, status, headers, body) {
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value)
  body ??= ''
  if (typeof body !== 'string' && !Buffer.isBuffer(body)) {
    body = JSON.stringify(body)
    if (!res.hasHeader('Content-Type')) res.setHeader('Content-Type', 'application/json')
  }
  if (!res.hasHeader('Content-Type')) res.setHeader('Content-Type', 'text/plain; charset=utf-8')
  res.statusCode = status
  res.end(body)
}

const server = http.createServer((req, res) => {
  answer(req, res).catch(error => {
    console.error(error)
    if (res.headersSent) return res.destroy()
    for (const name of res.getHeaderNames()) res.removeHeader(name)
    send(res, 500, {}, 'the function failed\n')
  })
})
// The watchdog keeps connections for the next call; it closes them, not we.
server.keepAliveTimeout = 0
server.requestTimeout = 0

process.on('SIGTERM', () => {
  server.close(() => process.exit(0))
  server.closeIdleConnections()
})

const upstream = new URL(process.env.upstream_url)
if (upstream.protocol === 'unix:') {
  require('node:fs').rmSync(upstream.pathname, { force: true }) // left by a run that was killed
  server.listen(decodeURIComponent(upstream.pathname))
} else {
  server.listen(Number(upstream.port || 80), upstream.hostname)
}
