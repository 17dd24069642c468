import { createInterface } from "node:readline";
import type { UdpIo } from "../src/base/packet.ts";
import { memoryStore } from "../src/base/store.ts";
import { MemoryCoordinationStore } from "../src/coordination/store/memory-store.ts";
import { MeshNode } from "../src/mesh/node.ts";
import { Server } from "../src/server/server.ts";

// Arguments: the address to listen on, and a policy, where not everybody may reach everybody. Our own coordination
// server, for whoever is measured. "key" on a line is answered with an auth key, "key tag:web" with one for that tag; "crowd 98" lets so many nodes join that never say a word to the others.
const LOGIN = "bench@example.com";
const server = await Server.open({
  store: new MemoryCoordinationStore(),
  state: memoryStore(),
  address: process.argv[2]!,
  baseDomain: "bench.test",
  ...(process.argv[3] === undefined ? {} : { policy: process.argv[3] }),
});
await server.coordinator.createUser({ login: LOGIN }, "bench");
console.log(JSON.stringify({ url: server.url }));

async function key(tag: string | undefined): Promise<string> {
  const owner = tag === undefined ? { user: LOGIN } : { tags: [tag] };
  return (await server.coordinator.createAuthKey(owner, "bench")).key;
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
    authKey: await key(undefined),
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
  if (count === undefined) console.log(JSON.stringify({ key: await key(/^key (tag:\w+)$/.exec(line)?.[1]) }));
  else {
    for (let i = 1; i <= Number(count); i++) await join(i);
    console.log(JSON.stringify({ joined: Number(count) }));
  }
}
