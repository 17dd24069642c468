"""One HTTP server of many, that says what it was asked: `echo-server.py KIND`, which prints its port when it listens.

Each request is logged as "METHOD TARGET |NAME=VALUE|... LENGTH:SHA1-OF-BODY" (see `echo-line.ts`), which is the answer's
body as well; "/log" gives what was logged since it was last asked. Of a path that begins with /ignored the body is not read.
"""

import asyncio
import hashlib
import socket
import sys
import threading

FIELDS = ["host", "cookie", "x", "x-forwarded-for", "tailscale-user-login"]

log: list[str] = []
lock = threading.Lock()


def entry(method: str, target: str, values, body: bytes) -> bytes:
    """`values`: of a field's name, all that it has."""
    if target == "/log":
        with lock:
            text = "\n".join(log)
            log.clear()
        return text.encode("latin1")
    fields = "|".join(f"{name}={','.join(values(name))}" for name in FIELDS)
    line = f"{method} {target} |{fields} {len(body)}:{hashlib.sha1(body).hexdigest()}"
    with lock:
        log.append(line)
    return line.encode("latin1")


def is_ignored(target: str) -> bool:
    return target.startswith("/ignored")


def wsgi(environ, start_response):
    """Raw targets have many names, and none in PEP 3333."""
    target = environ.get("REQUEST_URI") or environ.get("RAW_URI") or environ.get("RAW_PATH_INFO") or environ["PATH_INFO"]
    if "?" not in target and environ.get("QUERY_STRING"):
        target += "?" + environ["QUERY_STRING"]

    def values(name: str) -> list[str]:
        return [environ.get("HTTP_" + name.upper().replace("-", "_")) or ""]

    # gevent takes what follows an offer to switch for its body.
    body = b"" if is_ignored(target) or "HTTP_UPGRADE" in environ else environ["wsgi.input"].read()
    text = entry(environ["REQUEST_METHOD"], target, values, body)
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] != "http":
        return
    query = scope["query_string"].decode("latin1")
    target = scope["raw_path"].decode("latin1").partition("?")[0] + ("?" + query if query else "")

    def values(name: str) -> list[str]:
        return [value.decode("latin1") for key, value in scope["headers"] if key.decode("latin1").lower() == name]

    body = b""
    while not is_ignored(target):
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    text = entry(scope["method"], target, values, body)
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def listening() -> tuple[socket.socket, int]:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", 0))
    found.listen(64)
    return found, found.getsockname()[1]


def ready(port: int) -> None:
    print(port, flush=True)


def run_stdlib() -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def read_body(self) -> bytes:
            if is_ignored(self.path):
                self.close_connection = True
                return b""
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                assert self.rfile.readline() == b"\r\n"
            assert self.rfile.readline() == b"\r\n"
            return body

        def answer(self) -> None:
            text = entry(self.command, self.path, lambda name: self.headers.get_all(name, []), self.read_body())
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def __getattr__(self, name: str):
            if name.startswith("do_"):
                return self.answer
            raise AttributeError(name)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    ready(server.server_port)
    server.serve_forever()


def run_gunicorn() -> None:
    from gunicorn.app.base import BaseApplication

    _, port = listening()
    _.close()

    class Application(BaseApplication):
        def load_config(self) -> None:
            settings = {
                "bind": f"127.0.0.1:{port}",
                "worker_class": "gthread",
                "threads": 8,
                "keepalive": 30,
                "loglevel": "critical",
                "post_worker_init": lambda _worker: ready(port),
            }
            for name, value in settings.items():
                self.cfg.set(name, value)

        def load(self):
            return wsgi

    Application().run()


def run_waitress() -> None:
    from waitress.server import create_server

    server = create_server(wsgi, host="127.0.0.1", port=0, threads=8)
    ready(server.effective_port)
    server.run()


def run_cheroot() -> None:
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", 0), wsgi, numthreads=8)
    server.error_log = lambda *_, **__: None
    server.prepare()
    ready(server.bind_addr[1])
    server.serve()


def run_uvicorn(http: str = "h11") -> None:
    import uvicorn

    sock, port = listening()
    server = uvicorn.Server(uvicorn.Config(asgi, http=http, ws="none", log_level="critical", lifespan="off"))
    ready(port)
    asyncio.run(server.serve(sockets=[sock]))


def run_httptools() -> None:
    run_uvicorn("httptools")


def run_hypercorn() -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    sock, port = listening()
    config = Config()
    config.bind = [f"fd://{sock.fileno()}"]
    config.loglevel = "CRITICAL"
    ready(port)
    asyncio.run(serve(asgi, config))


def run_aiohttp() -> None:
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        target = request.raw_path

        def values(name: str) -> list[str]:
            found = request.headers.getall(name, [])
            return [value.encode("utf-8", "surrogateescape").decode("latin1") for value in found]

        body = b"" if is_ignored(target) else await request.read()
        return web.Response(body=entry(request.method, target, values, body))

    async def main() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{any:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ready(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


def run_tornado() -> None:
    import logging

    from tornado import web

    logging.disable()

    class Handler(web.RequestHandler):
        def prepare(self) -> None:
            request = self.request
            body = b"" if is_ignored(request.uri) else request.body
            self.finish(entry(request.method, request.uri, request.headers.get_list, body))

    async def main() -> None:
        sock, port = listening()
        sock.setblocking(False)
        from tornado.httpserver import HTTPServer

        HTTPServer(web.Application([(".*", Handler)])).add_sockets([sock])
        ready(port)
        await asyncio.Event().wait()

    asyncio.run(main())


def run_gevent() -> None:
    from gevent import pywsgi

    server = pywsgi.WSGIServer(("127.0.0.1", 0), wsgi, log=None, error_log=None)
    server.start()
    ready(server.server_port)
    server.serve_forever()


def run_eventlet() -> None:
    import eventlet
    from eventlet import wsgi as eventlet_wsgi

    sock = eventlet.listen(("127.0.0.1", 0))
    ready(sock.getsockname()[1])
    eventlet_wsgi.server(sock, wsgi, log_output=False, debug=False)


def run_granian() -> None:
    """hyper, in Rust."""
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    sock, port = listening()
    sock.close()

    async def main() -> None:
        server = Server(asgi, address="127.0.0.1", port=port, interface=Interfaces.ASGI, http=HTTPModes.http1, log_enabled=False)
        task = asyncio.create_task(server.serve())
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.01)
        ready(port)
        await task

    asyncio.run(main())


def run_twisted() -> None:
    from twisted.internet import reactor
    from twisted.web import server

    class Request(server.Request):
        def process(self) -> None:
            target = self.uri.decode("latin1")

            def values(name: str) -> list[str]:
                return [value.decode("latin1") for value in self.requestHeaders.getRawHeaders(name.encode(), [])]

            body = b"" if is_ignored(target) else self.content.read()
            text = entry(self.method.decode("latin1"), target, values, body)
            self.setHeader(b"content-length", str(len(text)).encode())
            if self.method != b"HEAD":
                self.write(text)
            self.finish()

    site = server.Site(None)
    site.requestFactory = Request
    ready(reactor.listenTCP(0, site, interface="127.0.0.1").getHost().port)
    reactor.run()


globals()[f"run_{sys.argv[1]}"]()
