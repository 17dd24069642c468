/**
 * An ingress that was broken into: node hostile-relay.ts CONTROL KEY NAME PORT…; writes which of these ports of NAME's node
 * it reaches within 3 s, and whom it knows, as JSON.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { asDuplex } from "../../src/base/duplex.ts";
import { memoryStore } from "../../src/base/store.ts";
import { Relay } from "../../src/server/relay.ts";

const [controlUrl = "", authKey = "", name = "", ...ports] = process.argv.slice(2);
const WAIT_MS = 3000;

const relay = await Relay.open({ controlUrl, authKey, hostname: "hostile", store: memoryStore(), listeners: [] });
const peerApi = () => relay.names.find(name, 443)?.peerApi;
while (peerApi() === undefined) await sleep(50);
const { address, port: own } = peerApi()!;
asDuplex(await relay.node.dial({ address, port: own })).destroy(); // the path is there: what is silent is shut
const signal = AbortSignal.timeout(WAIT_MS);
const reached = async (port: string): Promise<readonly string[]> =>
  relay.node.dial({ address, port: Number(port) }, { signal }).then(
    () => [port],
    () => [],
  );
const open = (await Promise.all(ports.map(reached))).flat();
console.log(JSON.stringify({ open, peers: [...relay.node.map!.peers.values()].map(({ Name }) => Name) }));
process.exit(0);
