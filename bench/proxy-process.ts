import { createServer } from "node:net";
import { createSecureContext } from "node:tls";
import { systemClock } from "../src/base/clock.ts";
import type { Proof } from "../src/base/conn.ts";
import { silentLog } from "../src/base/log.ts";
import type { Caller, Callers } from "../src/identity/caller.ts";
import { ReverseProxy } from "../src/proxy/proxy.ts";
import { SocketConn } from "./socket-conn.ts";

// Arguments: the port to listen on, the backend's URL. The whole request path with identity headers, no mesh below.
const [port, backend] = process.argv.slice(2);
const address = "100.64.0.2";
const caller: Caller = {
  kind: "user",
  nodeKey: "aa",
  nodeName: "alice.bench.test",
  login: "alice@example.com",
  displayName: "Alice",
  profilePicture: "",
  address,
};
const callers: Callers = {
  of: () => caller,
  capabilities: () => undefined,
  epoch: 0,
  revoked: () => new AbortController().signal,
};
const config = {
  TCP: { 80: { HTTP: true } },
  Web: { "gw.bench.test:80": { Handlers: { "/": { Proxy: backend! } } } },
};
const proxy = new ReverseProxy({
  config: () => config,
  selfName: () => "gw.bench.test",
  callers,
  secureContext: async () => createSecureContext(),
  log: silentLog,
  clock: systemClock,
});
const server = createServer({ allowHalfOpen: true }, (socket) => {
  const proof: Proof = {
    kind: "mesh",
    nodeKey: "aa",
    source: { address, port: socket.remotePort ?? 0 },
    destination: { address: "100.64.0.1", port: 80 },
  };
  proxy.accept(new SocketConn(socket, proof), 80);
});
server.listen(Number(port), "127.0.0.1", () => console.log("{}"));
