import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { memoryStore } from "../src/base/store.ts";
import { MemoryCoordinationStore } from "../src/coordination/store/memory-store.ts";
import { Gateway } from "../src/gateway/gateway.ts";
import { Relay } from "../src/server/relay.ts";
import { Server } from "../src/server/server.ts";
import { makeHello } from "./suites/client-hellos.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.mesh.example";
const HELLO = makeHello({ name: NAME });
const POLICY = `{
  "tagOwners": { "tag:relay": [], "tag:web": [] },
  "acls": [],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["tag:web"], "attr": ["funnel"] },
  ],
}`;

/** A visitor who goes where the zone says, in its order. */
async function visited(addresses: readonly string[], portOf: (address: string) => number): Promise<string> {
  for (const address of addresses) {
    const socket = net.connect(portOf(address), address);
    onTestFinished(() => void socket.destroy());
    const heard = await new Promise<string>((resolve) => {
      socket.on("error", () => resolve("refused"));
      socket.on("data", (chunk: Buffer) => resolve(chunk.equals(HELLO) ? address : "something else"));
      socket.on("close", () => resolve("closed"));
      socket.write(HELLO);
    });
    socket.destroy();
    if (heard !== "refused") return heard;
  }
  return "nobody";
}

test("FN-13 the zone leads to the ingresses that are here: to all, not to one that drains, not to one that is gone", async () => {
  const server = await Server.open({
    ...{ store: new MemoryCoordinationStore(), state: memoryStore(), baseDomain: "mesh.example", policy: POLICY },
    publicZone: { zone: "mesh.example", nameServer: "ns1.example", address: "127.0.0.1", port: 0 },
    relayAddresses: ["127.0.0.5", "127.0.0.6"],
  });
  onTestFinished(() => server.close());
  const member = async (tag: string, address: string) => ({
    ...{ controlUrl: server.url, localAddresses: () => [address], store: memoryStore() },
    authKey: (await server.coordinator.createAuthKey({ tags: [tag] }, "test")).key,
  });
  const open = async (address: string): Promise<Relay> => {
    const listeners = [{ address, port: 0, publicPort: 443 }];
    const relay = await Relay.open({ ...(await member("tag:relay", address)), hostname: "ingress", listeners });
    onTestFinished(() => relay.close());
    return relay;
  };
  const [first, second] = [await open("127.0.0.5"), await open("127.0.0.6")];
  const gateway = await Gateway.open({
    ...(await member("tag:web", "127.0.0.1")),
    ...{ hostname: "web", allowsLoopbackVisitors: true },
  });
  onTestFinished(() => gateway.close());
  await Promise.all([first.node.ready(), second.node.ready(), gateway.node.ready()]);
  const echo = net.createServer((socket) => void socket.on("error", () => undefined).pipe(socket));
  echo.listen(0, "127.0.0.1");
  await once(echo, "listening");
  onTestFinished(() => void echo.close());
  await gateway.setServeConfig({
    TCP: { 443: { TCPForward: `127.0.0.1:${(echo.address() as AddressInfo).port}` } },
    AllowFunnel: { [`${NAME}:443`]: true },
  });
  for (const relay of [first, second])
    await expect.poll(() => relay.names.find(NAME, 443)?.peerApi !== undefined, WAIT).toBe(true);

  const resolver = new Resolver();
  resolver.setServers([`127.0.0.1:${server.publicZone!.port}`]);
  const named = async (): Promise<readonly string[]> => (await resolver.resolve4(NAME)).toSorted();
  const portOf = (address: string): number => (address === "127.0.0.5" ? first : second).ports[0]!;
  await expect.poll(named, WAIT).toEqual(["127.0.0.5", "127.0.0.6"]);
  for (const address of await named()) expect(await visited([address], portOf)).toBe(address);

  const here = net.connect(portOf("127.0.0.5"), "127.0.0.5");
  onTestFinished(() => void here.destroy());
  here.write(HELLO);
  await once(here, "data");
  const drained = first.drain(3_600_000);
  await expect.poll(named, WAIT).toEqual(["127.0.0.6"]);
  expect(await visited(["127.0.0.5", ...(await named())], portOf)).toBe("127.0.0.6");
  here.write("still here");
  expect(String((await once(here, "data"))[0])).toBe("still here");
  here.end();
  await drained;
  await first.close();

  const third = await open("127.0.0.5"); // the new one
  await third.node.ready();
  await expect.poll(named, WAIT).toEqual(["127.0.0.5", "127.0.0.6"]);
  await second.close();
  await expect.poll(named, WAIT).toEqual(["127.0.0.5"]);
});
