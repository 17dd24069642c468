import { request } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { memoryStore } from "../base/store.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { ServerMetrics } from "./metrics.ts";
import { Relay } from "./relay.ts";
import { openRelayStatus } from "./relay-status.ts";
import { Server } from "./server.ts";

test("an ingress tells its health and counts, and no name of anybody, by its own socket and by the server's", async () => {
  const server = await Server.open({
    ...{ store: new MemoryCoordinationStore(), state: memoryStore(), baseDomain: "tail.test" },
    relay: { listeners: [{ address: "127.0.0.1", port: 0, publicPort: 443 }] },
  });
  onTestFinished(() => server.close());
  const relay = server.relay!;
  const socketPath = path.join(tmpdir(), `sp-${process.pid}-relay.sock`);
  const status = await openRelayStatus(relay, socketPath);
  onTestFinished(() => status.close());
  const ask = (url: string, method = "GET", headers = {}): Promise<[number | undefined, string]> =>
    new Promise((resolve, reject) => {
      request({ socketPath, path: url, method, headers }, async (answer) =>
        resolve([answer.statusCode, await text(answer)]),
      )
        .once("error", reject)
        .end();
    });
  await relay.node.ready();
  await expect.poll(() => ask("/healthz"), { timeout: 30_000 }).toEqual([200, '{"status":"ok","problems":[]}']);
  expect((await ask("/healthz", "GET", { Origin: "https://evil.test" }))[0]).toBe(403);
  for (const [url, method] of [
    ["/", "GET"],
    ["/metrics", "POST"],
    ["/localapi/v0/status", "GET"],
  ] as const) {
    expect((await ask(url, method))[0]).toBe(404);
  }
  relay.ingress.counts.delivered = 3;
  relay.ingress.traffic.sent = 4096;
  for (const body of [(await ask("/metrics"))[1], await new ServerMetrics(server).text()]) {
    const lines = body.split("\n").filter((line) => line.startsWith("sallyport_ingress_"));
    expect(lines).toEqual(
      [
        ...[
          "running 1",
          "control_connected 1",
          "map_age_seconds 0",
          "names 0",
          "leases 0",
          "leases_shut 0",
          "draining 0",
        ],
        ...['visitors{state="pending"} 0', 'visitors{state="open"} 0'],
        ...["delivered 3", "unknown_name 0", "away 0", "no_hello 0", "over_limit 0", "own_name 0", "redirected 0"].map(
          (event) => `events_total{event="${event.split(" ")[0]}"} ${event.split(" ")[1]}`,
        ),
        ...['bytes_total{direction="received"} 0', 'bytes_total{direction="sent"} 4096'],
      ].map((line) => `sallyport_ingress_${line}`),
    );
    expect(body).toMatch(/^process_resident_memory_bytes \d+$/m);
  }
  expect(await server.problems()).toEqual([]);
  await relay.drain(0);
  expect(await server.problems()).toEqual([expect.stringContaining("draining")]);
  const [code, body] = await ask("/healthz");
  expect([code, JSON.parse(body)]).toEqual([
    503,
    { status: "failing", problems: ["The ingress is draining: it takes no new visitors, 0 are left."] },
  ]);
  expect((await ask("/metrics"))[1]).toMatch(/^sallyport_ingress_draining 1$/m);
});

test("a node that the policy does not make an ingress says so", async () => {
  const server = await Server.open({
    ...{ store: new MemoryCoordinationStore(), state: memoryStore(), baseDomain: "tail.test" },
    policy: `{ "tagOwners": { "tag:relay": [] } }`,
  });
  onTestFinished(() => server.close());
  const relay = await Relay.open({
    ...{ controlUrl: server.url, store: memoryStore(), listeners: [], localAddresses: () => ["127.0.0.1"] },
    authKey: (await server.coordinator.createAuthKey({ tags: ["tag:relay"] }, "test")).key,
  });
  onTestFinished(() => relay.close());
  await relay.node.ready();
  const { isHealthy, problems } = relay.health;
  expect([isHealthy, problems[0]]).toEqual([false, expect.stringContaining('"sallyport.dev/ingress"')]);
  const policy = `{ "tagOwners": { "tag:relay": [] }, "nodeAttrs": [{ "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] }] }`;
  await server.setPolicy(policy, "test");
  await expect.poll(() => relay.health.isHealthy, { timeout: 30_000 }).toBe(true);
});
