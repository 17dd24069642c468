/**
 * What stands behind the gateway: node funnel-backend.ts <http port> <echo port>
 * Every answer says what was asked; `/events` and every WebSocket tick until they are left; the echo says what it is told.
 */
import { createServer, type ServerResponse } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { WebSocketServer } from "ws";

const [httpPort, echoPort] = [Number(process.argv[2]), Number(process.argv[3])];
const TICK_MS = 100;

/** For a browser: what it got by fetch, EventSource and WebSocket stands in its title. */
const PAGE = `<!doctype html><title>…</title><script type="module">
const { promise: ticked, resolve: tick } = Promise.withResolvers();
new EventSource("/events").onmessage = ({ data }) => tick(data);
const { promise: echoed, resolve: echo } = Promise.withResolvers();
const socket = new WebSocket("wss://" + location.host + "/socket");
socket.onopen = () => socket.send("from the page");
socket.onmessage = ({ data }) => data === "tick" || echo(data);
const headers = await (await fetch("/headers")).json();
const protocol = performance.getEntriesByType("navigation")[0].nextHopProtocol;
document.title = [protocol, headers["tailscale-funnel-request"], await ticked, await echoed].join(" ");
</script>`;

let open = 0;

function events(response: ServerResponse): void {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  let ticks = 0;
  const timer = setInterval(() => response.write(`data: ${ticks++}\n\n`), TICK_MS);
  open++;
  response.on("close", () => {
    open--;
    clearInterval(timer);
  });
}

const http = createServer((request, response) => {
  if (request.url === "/page") return response.setHeader("Content-Type", "text/html").end(PAGE);
  if (request.url === "/open") return response.end(String(open));
  if (request.url === "/big") return response.end(Buffer.alloc(8 << 20, "x"));
  if (request.url === "/events") return events(response);
  // Not before all of it is here: curl 7.88 waits for ever where the answer to an upload by HTTP/2 comes first.
  request.resume().on("end", () => {
    response.end(JSON.stringify({ ...request.headers, method: request.method, url: request.url }));
  });
});
new WebSocketServer({ server: http }).on("connection", (socket) => {
  const timer = setInterval(() => socket.send("tick"), TICK_MS);
  socket.on("message", (data) => socket.send(data.toString()));
  socket.on("error", () => undefined).on("close", () => clearInterval(timer));
});
const echo = createTcpServer((socket) => socket.on("error", () => undefined).pipe(socket));
http.listen(httpPort, "127.0.0.1", () => echo.listen(echoPort, "127.0.0.1", () => console.log("ready")));
