import { createInterface } from "node:readline";
import type { UdpIo } from "../src/base/packet.ts";
import { memoryStore } from "../src/base/store.ts";
import { MemoryCoordinationStore } from "../src/coordination/store/memory-store.ts";
import { MeshNode } from "../src/mesh/node.ts";
import { Server } from "../src/server/server.ts";

// Argument: the address to listen on. Our own coordination server, for whoever is measured.
// "key" on a line is answered with an auth key; "crowd 98" lets so many nodes join that never say a word to the others.
const LOGIN = "bench@example.com";
const server = await Server.open({
  store: new MemoryCoordinationStore(),
  state: memoryStore(),
  address: process.argv[2]!,
  baseDomain: "bench.test",
});
await server.coordinator.createUser({ login: LOGIN }, "bench");
console.log(JSON.stringify({ url: server.url }));

async function key(): Promise<string> {
  return (await server.coordinator.createAuthKey({ user: LOGIN }, "bench")).key;
}

const deaf: UdpIo = {
  port: 9,
  start: () => {},
  claim: () => undefined,
  onWritable: () => {},
  flush: () => {},
  close: async () => {},
};

async function join(number: number): Promise<void> {
  const node = await MeshNode.open({
    controlUrl: server.url,
    authKey: await key(),
    hostname: `crowd${number}`,
    store: memoryStore(),
    openUdp: async () => deaf,
    connectDerp: () => new Promise(() => {}),
    localAddresses: () => [`10.95.${number >> 8}.${number & 255}`],
  });
  await node.ready(AbortSignal.timeout(20_000));
}

for await (const line of createInterface({ input: process.stdin })) {
  const [, count] = /^crowd (\d+)$/.exec(line) ?? [];
  if (count === undefined) console.log(JSON.stringify({ key: await key() }));
  else {
    for (let i = 1; i <= Number(count); i++) await join(i);
    console.log(JSON.stringify({ joined: Number(count) }));
  }
}
