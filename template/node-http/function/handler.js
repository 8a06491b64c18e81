'use strict'

// Answers one call. event has body (parsed if it is JSON), headers, method,
// path and query; what is returned becomes the body of the answer.
module.exports = async (event, context) => {
  return context
    .status(200)
    .headers({ 'Content-Type': 'text/plain; charset=utf-8' })
    .succeed(`Hello! You sent ${event.method} ${event.path}\n${event.body}`)
}
