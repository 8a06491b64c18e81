"""Serves the function in function/handler.py where fwatchdog looks for it, at
upstream_url. How large a body may be, how long a call may take and who may
call is the watchdog's business.
"""

import json
import os
import signal
import socket
import sys
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qsl, unquote, urlsplit

from function import handler


class Call(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # header and body leave in one piece

    def answer(self):
        # This server cannot read chunks and would take them for the next
        # request; http_buffer_req_body=true gives every body a length.
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            return self.send(411, {}, "want a Content-Length: set http_buffer_req_body=true\n")
        path, _, query = self.path.partition("?")
        event = SimpleNamespace(
            body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
            headers=self.headers,
            method=self.command,
            path=path,
            query=dict(parse_qsl(query, keep_blank_values=True)),
        )
        try:
            result = handler.handle(event, SimpleNamespace(hostname=socket.gethostname()))
            if not (isinstance(result, dict) and "statusCode" in result):
                result = {"body": result}
            self.send(result.get("statusCode", 200), result.get("headers", {}), result.get("body", ""))
        except Exception:
            traceback.print_exc()
            self.send(500, {}, "the function failed\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def send(self, status, headers, body):
        content_type = "text/plain; charset=utf-8"
        if isinstance(body, bytes):
            content_type = "application/octet-stream"
        elif not isinstance(body, str):
            content_type, body = "application/json", json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        headers = {"Content-Type": content_type, **headers, "Content-Length": str(len(body))}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """The watchdog writes the access log."""

    def address_string(self):
        return "watchdog"


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def server_bind(self):
        # HTTPServer's own asks for the host's name, which may take seconds.
        if self.address_family == socket.AF_INET:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)


def main():
    # The watchdog sends this when no call is running any more.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    upstream = urlsplit(os.environ["upstream_url"])
    if upstream.scheme == "unix":
        Server.address_family = socket.AF_UNIX
        address = unquote(upstream.path)
        if os.path.exists(address):
            os.remove(address)  # left by a run that was killed
    else:
        address = (upstream.hostname, upstream.port or 80)
    Server(address, Call).serve_forever()


if __name__ == "__main__":
    main()
