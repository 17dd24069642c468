"""One HTTP server of many, that says what it was asked: `echo-server.py KIND`, which prints its port when it listens.

Each request is logged as "METHOD QUERY LENGTH:SHA1-OF-BODY", which is the answer's body as well; "/log" gives what was
logged since it was last asked.
"""

import asyncio
import hashlib
import socket
import sys
import threading

log: list[str] = []
lock = threading.Lock()


def entry(method: str, path: str, query: str, body: bytes) -> bytes:
    if path == "/log":
        with lock:
            text = "\n".join(log)
            log.clear()
        return text.encode("latin1")
    line = f"{method} {query} {len(body)}:{hashlib.sha1(body).hexdigest()}"
    with lock:
        log.append(line)
    return line.encode("latin1")


def wsgi(environ, start_response):
    body = environ["wsgi.input"].read()
    text = entry(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], body)
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    text = entry(scope["method"], scope["path"], scope["query_string"].decode("latin1"), body)
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
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                assert self.rfile.readline() == b"\r\n"
            assert self.rfile.readline() == b"\r\n"
            return body

        def answer(self) -> None:
            path, _, query = self.path.partition("?")
            text = entry(self.command, path, query, self.read_body())
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
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


def run_uvicorn() -> None:
    import uvicorn

    sock, port = listening()
    server = uvicorn.Server(uvicorn.Config(asgi, http="h11", log_level="critical", lifespan="off"))
    ready(port)
    asyncio.run(server.serve(sockets=[sock]))


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
        query = request.raw_path.partition("?")[2]
        return web.Response(body=entry(request.method, request.path, query, await request.read()))

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
            path, _, query = self.request.uri.partition("?")
            self.finish(entry(self.request.method, path, query, self.request.body))

    async def main() -> None:
        sock, port = listening()
        sock.setblocking(False)
        from tornado.httpserver import HTTPServer

        HTTPServer(web.Application([(".*", Handler)])).add_sockets([sock])
        ready(port)
        await asyncio.Event().wait()

    asyncio.run(main())


globals()[f"run_{sys.argv[1]}"]()
