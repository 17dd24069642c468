import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { memoryStore } from "../../src/base/store.ts";
import { dnsClient } from "../../src/certs/challenges/dns-client.ts";
import { recordsOf } from "../../src/certs/challenges/dns-lookup.ts";
import { dnsSolver } from "../../src/certs/challenges/dns-solver.ts";
import { setDnsProvider } from "../../src/certs/challenges/providers/set-dns.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { Gateway } from "../../src/gateway/gateway.ts";
import { txtPublisher } from "../../src/mesh/control/node-requests.ts";
import { Server } from "../../src/server/server.ts";
import { RECORD } from "../../src/wire/dns.ts";
import { readText } from "../../src/wire/dns-data.ts";

const never = new AbortController().signal;

describe("our node on our server", () => {
  let server: Server;
  let gateway: Gateway;
  beforeAll(async () => {
    server = await Server.open({
      store: new MemoryCoordinationStore(),
      state: memoryStore(),
      baseDomain: "mesh.example",
      publicZone: { zone: "mesh.example", nameServer: "ns1.mesh.example", address: "127.0.0.1", port: 0 },
    });
    await server.coordinator.createUser({ login: "alice@example.com" }, "test");
    const { key } = await server.coordinator.createAuthKey({ user: "alice@example.com" }, "test");
    gateway = await Gateway.open({ controlUrl: server.url, authKey: key, hostname: "gw", store: memoryStore() });
    await gateway.node.ready(AbortSignal.timeout(60_000));
  }, 90_000);
  afterAll(async () => {
    await gateway?.close();
    await server?.close();
  });

  const solver = () =>
    dnsSolver({
      provider: setDnsProvider(txtPublisher(gateway.node)),
      ...{ id: "set-dns", lookup: dnsClient({ servers: [] }), clock: systemClock, log: silentLog },
    });
  const present = (name: string) =>
    solver().present({ type: "dns-01", name, record: `_acme-challenge.${name}`, value: "proof" }, never);

  test("CS-17 proves its own name over set-dns, and the world sees it at once", { timeout: 60_000 }, async () => {
    await present("gw.mesh.example");
    const lookup = dnsClient({ servers: [`127.0.0.1:${server.publicZone!.port}`] });
    const message = await lookup.ask("_acme-challenge.gw.mesh.example", RECORD.TXT, { signal: never });
    const texts = recordsOf(message, "_acme-challenge.gw.mesh.example", RECORD.TXT).map(({ data }) => readText(data));
    expect(texts).toEqual(["proof"]);
    expect(gateway.node.map?.dns?.CertDomains).toEqual(["gw.mesh.example"]);
  });

  test("CS-17 not another's, and it hears why", { timeout: 60_000 }, async () => {
    await expect(present("other.mesh.example")).rejects.toMatchObject({
      code: "CONTROL_STATUS",
      hint: expect.stringContaining("only the challenge of the node's own certificate name"),
    });
  });
});
