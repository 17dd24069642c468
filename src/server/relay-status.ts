import { createServer } from "node:http";
import { collectDefaultMetrics, Registry } from "prom-client";
import { listenPrivately } from "./private-socket.ts";
import type { Relay } from "./relay.ts";
import { registerRelayMetrics } from "./relay-metrics.ts";

/** Health and metrics of an ingress, as a gateway's and a server's, on a unix socket that only the owner of the process may open. */
export async function openRelayStatus(relay: Relay, socketPath: string): Promise<{ close(): Promise<void> }> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  registerRelayMetrics(registry, relay);
  const http = createServer(async ({ method, url, headers }, response) => {
    // A page in a browser has no business here, however it found the socket (matrix CF-5).
    const isPage = headers.origin !== undefined || headers.referer !== undefined;
    if (method !== "GET" || isPage || (url !== "/healthz" && url !== "/metrics")) {
      response.writeHead(isPage ? 403 : 404).end();
    } else if (url === "/metrics") {
      response.writeHead(200, { "Content-Type": registry.contentType }).end(await registry.metrics());
    } else {
      const { isHealthy, problems } = relay.health;
      response.writeHead(isHealthy ? 200 : 503, { "Content-Type": "application/json" });
      response.end(JSON.stringify({ status: isHealthy ? "ok" : "failing", problems }));
    }
  });
  return { close: await listenPrivately(http, socketPath) };
}
