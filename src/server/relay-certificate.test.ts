import { spawn, spawnSync } from "node:child_process";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { memoryStore } from "../base/store.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { Server } from "./server.ts";

const isMissing = spawnSync("openssl", ["version"]).status !== 0;
const name = "the relay presents its pinned certificate alone: clients of 1.82 refuse a second one, and had no relay";

test.skipIf(isMissing)(`${name}${isMissing ? " (openssl is not installed)" : ""}`, async () => {
  const store = new MemoryCoordinationStore();
  const server = await Server.open({ store, state: memoryStore(), baseDomain: "tail.test" });
  onTestFinished(() => server.close());
  const [relay] = Object.values(server.derpMap.Regions ?? {})[0]?.Nodes ?? [];
  expect(relay?.CertName).toMatch(/^sha256-raw:[0-9a-f]{64}$/);
  // Node's own `tls` shows only the certificates that issued one another.
  const client = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${relay!.DERPPort}`, "-showcerts"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  expect((await text(client.stdout)).match(/BEGIN CERTIFICATE/g)).toHaveLength(1);
});
