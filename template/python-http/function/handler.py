def handle(event, context):
    """Answers one call. event has body (bytes), headers, method, path and
    query. What is returned becomes the body of the answer, or, as here, says
    the status and headers too. Calls run in threads, several at once.
    """
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "text/plain; charset=utf-8"},
        "body": f"Hello! You sent {event.method} {event.path}\n{event.body.decode()}",
    }
