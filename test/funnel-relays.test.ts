import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import net from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { memoryStore } from "../src/base/store.ts";
import { MemoryCoordinationStore } from "../src/coordination/store/memory-store.ts";
import type { Relay } from "../src/server/relay.ts";
import { Server } from "../src/server/server.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { brings, FunnelMesh, funnelPolicy, publicTcp } from "./suites/funnel-mesh.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.mesh.example";
const HELLO = makeHello({ name: NAME });

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
  const mesh = await FunnelMesh.open({
    baseDomain: "mesh.example",
    publicZone: { zone: "mesh.example", nameServer: "ns1.example", address: "127.0.0.1", port: 0 },
    relayAddresses: ["127.0.0.5", "127.0.0.6"],
  });
  onTestFinished(() => mesh.close());
  const open = (address: string): Promise<Relay> => {
    const listeners = [{ address, port: 0, publicPort: 443 }];
    return mesh.relay({ hostname: "ingress", localAddresses: () => [address], listeners });
  };
  const [first, second] = [await open("127.0.0.5"), await open("127.0.0.6")];
  const gateway = await mesh.gateway();
  await gateway.setServeConfig(publicTcp(NAME, 443, await mesh.echo()));
  for (const relay of [first, second]) await expect.poll(() => brings(relay, NAME), WAIT).toBe(true);

  const resolver = new Resolver();
  resolver.setServers([`127.0.0.1:${mesh.server.publicZone!.port}`]);
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

  await open("127.0.0.5"); // the new one
  await expect.poll(named, WAIT).toEqual(["127.0.0.5", "127.0.0.6"]);
  await second.close();
  await expect.poll(named, WAIT).toEqual(["127.0.0.5"]);
});

test("FN-13 behind a translator the server's own ingress was not in the zone any more once there was a second one", async () => {
  const listeners = [{ address: "127.0.0.1", port: 0, publicPort: 443 }];
  const mesh = await FunnelMesh.open({
    baseDomain: "mesh.example",
    relayAddresses: ["203.0.113.5", "127.0.0.6"],
    relay: { listeners, publicAddresses: ["203.0.113.5"] },
  });
  onTestFinished(() => mesh.close());
  await mesh.relay({
    listeners: [{ address: "127.0.0.6", port: 0, publicPort: 443 }],
    localAddresses: () => ["127.0.0.6"],
  });
  const named = (): readonly string[] => mesh.server.coordinator.relayAddresses().toSorted();
  await expect.poll(named, WAIT).toEqual(["127.0.0.6", "203.0.113.5"]);
});

test("a name below a public wildcard was not in the zone, and the names above public ones were denied", async () => {
  const app =
    '"app": { "sallyport.dev/domains": [{ "names": ["*.shop.example.org", "a.deep.example.org", "*.example.org"] }] }';
  const mesh = await FunnelMesh.open({
    policy: funnelPolicy(`"attr": ["funnel"], ${app}`),
    baseDomain: "mesh.example.org",
    publicZone: {
      ...{ zone: "example.org", address: "127.0.0.1", port: 0 },
      ...{ nameServer: "ns1.example.org", nameServerAddresses: ["192.0.2.53"] },
    },
    relayAddresses: ["127.0.0.1"],
  });
  onTestFinished(() => mesh.close());
  const relay = await mesh.relay();
  const gateway = await mesh.gateway();
  const { TCP = {} } = publicTcp("", 443, await mesh.echo());
  const names = ["*.shop.example.org", "a.deep.example.org", "*.example.org"];
  await gateway.setServeConfig({ TCP, AllowFunnel: Object.fromEntries(names.map((name) => [`${name}:443`, true])) });
  for (const name of ["x.shop.example.org", "a.deep.example.org"])
    await expect.poll(() => brings(relay, name), WAIT).toBe(true);
  expect(brings(relay, "ns1.example.org")).toBe(false);

  const resolver = new Resolver();
  resolver.setServers([`127.0.0.1:${mesh.server.publicZone!.port}`]);
  const asked = (name: string) =>
    resolver.resolve4(name).then(
      ([address]) => address,
      ({ code }: NodeJS.ErrnoException) => code,
    );
  const wanted = {
    "x.shop.example.org": "127.0.0.1",
    "X.Shop.Example.ORG": "127.0.0.1",
    "y.x.shop.example.org": "ENOTFOUND",
    "shop.example.org": "ENODATA", // there are names below it (RFC 8020)
    "deep.example.org": "ENODATA",
    "a.deep.example.org": "127.0.0.1",
    "b.deep.example.org": "ENOTFOUND",
    "else.example.org": "127.0.0.1",
    "ns1.example.org": "192.0.2.53", // what is there by itself is no name of a wildcard (RFC 4592)
    "mesh.example.org": "ENODATA",
  };
  for (const [name, answer] of Object.entries(wanted)) expect([name, await asked(name)]).toEqual([name, answer]);
});

test("FN-13 a server that was restarted made public names away until their nodes had come back to it", async () => {
  const kept = {
    store: Object.assign(new MemoryCoordinationStore(), { close: async () => undefined }), // as a disk outlives the process
    state: memoryStore(),
  };
  const mesh = await FunnelMesh.open(kept);
  onTestFinished(() => mesh.close());
  const { port } = new URL(mesh.server.url);
  const relay = await mesh.relay();
  const path = {
    isOpen: true,
    async connect({ hostname, port: to }: URL): Promise<net.Socket> {
      if (!path.isOpen) throw new Error("the way to the server is closed");
      const socket = net.connect(Number(to), hostname);
      await once(socket, "connect");
      return socket;
    },
  };
  const gateway = await mesh.gateway({ connect: path.connect });
  await gateway.setServeConfig(publicTcp("web.tail.test", 443, await mesh.echo()));
  await expect.poll(() => brings(relay, "web.tail.test"), WAIT).toBe(true);
  const hello = makeHello({ name: "web.tail.test" });
  const visit = async (): Promise<boolean> => {
    const socket = net.connect(relay.ports[0]!, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.write(hello);
    const [heard] = (await once(socket, "data")) as [Buffer];
    return heard.equals(hello);
  };
  expect(await visit()).toBe(true);
  path.isOpen = false;
  await mesh.server.close();
  const again = await Server.open({ ...kept, baseDomain: "tail.test", policy: funnelPolicy(), port: Number(port) });
  onTestFinished(() => again.close());
  const online = () => [...(relay.node.map?.peers.values() ?? [])].map(({ Online }) => Online);
  await expect.poll(online, WAIT).toEqual([false]);
  await expect.poll(visit, WAIT).toBe(true); // their way past the server's relay may not be found yet
});
