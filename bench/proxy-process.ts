import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createSecureContext } from "node:tls";
import { systemClock } from "../src/base/clock.ts";
import type { Proof } from "../src/base/conn.ts";
import { silentLog } from "../src/base/log.ts";
import type { Caller, Callers } from "../src/identity/caller.ts";
import { ReverseProxy } from "../src/proxy/proxy.ts";
import { SocketConn } from "./socket-conn.ts";

// Arguments: the plain port, the port with TLS, the backend's URL, that of its port with TLS, a file with key and certificate.
// The whole request path with identity headers, no mesh below.
const [plainPort, securePort, backend, secureBackend, pemFile] = process.argv.slice(2);
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
const kept = { "/kept/": { Proxy: `${backend!}/kept/` } };
const handlers = { Handlers: { "/": { Proxy: backend! }, "/tls/": { Proxy: `${secureBackend!}/tls/` }, ...kept } };
const config = {
  TCP: { 80: { HTTP: true }, 443: { HTTPS: true } },
  Web: {
    "gw.bench.test:80": handlers,
    "gw.bench.test:443": handlers,
  },
};
const pem = readFileSync(pemFile!);
const context = createSecureContext({ key: pem, cert: pem });
const proxy = new ReverseProxy({
  config: () => config,
  selfName: () => "gw.bench.test",
  callers,
  secureContext: async () => context,
  rulesOf: ({ mount }) => (mount === "/kept/" ? { keepAliveAfterBody: kept[mount].Proxy } : undefined),
  log: silentLog,
  clock: systemClock,
});
for (const [listening, port] of [
  [plainPort, 80],
  [securePort, 443],
] as const) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const proof: Proof = {
      kind: "mesh",
      nodeKey: socket.remoteAddress ?? "", // each address is a peer
      source: { address, port: socket.remotePort ?? 0 },
      destination: { address: "100.64.0.1", port },
    };
    proxy.accept(new SocketConn(socket, proof), port);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(Number(listening), "127.0.0.1", () => resolve());
  await promise;
}
process.on("SIGTERM", () => process.exit());
console.log("{}");
