"""A WSGI backend that knows its callers. It believes the headers because it listens on loopback only, where nobody but
the gateway can connect. Run it by `python3 examples/backend.py`."""

import json
import os
from email.header import decode_header, make_header
from wsgiref.simple_server import WSGIRequestHandler, make_server

CAPABILITY = "example.com/cap/app"


def application(environ, start_response):
    kind = environ.get("HTTP_SALLYPORT_CALLER_KIND")
    if kind is None:
        return reply(start_response, "403 Forbidden", {"error": "not through the gateway"})
    capabilities = json.loads(environ.get("HTTP_TAILSCALE_APP_CAPABILITIES", "{}"))
    caller = {
        "kind": kind,
        # Compared as it stands: a login that is not ASCII is an RFC 2047 word, and so should be what it is compared with.
        "login": environ.get("HTTP_TAILSCALE_USER_LOGIN", ""),
        # Decoded only to be shown.
        "name": str(make_header(decode_header(environ.get("HTTP_TAILSCALE_USER_NAME", "")))),
        "may": capabilities.get(CAPABILITY, []),
    }
    return reply(start_response, "200 OK", caller)


def reply(start_response, status, document):
    body = json.dumps(document).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


if __name__ == "__main__":
    with make_server("127.0.0.1", int(os.environ.get("PORT", "3000")), application, handler_class=Quiet) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
