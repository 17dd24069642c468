import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { get } from "node:https";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import tls from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Gateway } from "../src/gateway/gateway.ts";
import type { Server } from "../src/server/server.ts";
import { makeHello } from "./suites/client-hellos.ts";
import { brings, FunnelMesh, publicTcp } from "./suites/funnel-mesh.ts";

const WAIT = { timeout: 30_000, interval: 10 };
const NAME = "web.mesh.example";
const OWN = "control.example";
let mesh: FunnelMesh;
let server: Server;
let gateway: Gateway;

/** One process and one port for coordination, DERP and visitors; the policy has no word about who relays. */
beforeAll(async () => {
  mesh = await FunnelMesh.open({
    baseDomain: "mesh.example",
    serverUrl: `https://${OWN}`,
    policy: `{ "acls": [], "tagOwners": { "tag:web": [] }, "nodeAttrs": [{ "target": ["tag:web"], "attr": ["funnel"] }] }`,
    publicZone: { zone: "mesh.example", nameServer: "ns1.example", address: "127.0.0.1", port: 0 },
    relayAddresses: ["203.0.113.5", "2001:db8::5"],
    relay: { listeners: [{ address: "127.0.0.1", port: 0, publicPort: 443 }] },
  });
  ({ server } = mesh);
  gateway = await mesh.gateway({ controlUrl: `https://${OWN}`, connect: () => secured(OWN) });
}, 60_000);

afterAll(async () => {
  await mesh.close();
});

/** TLS through the one public port. */
async function secured(servername: string): Promise<tls.TLSSocket> {
  const socket = tls.connect({ host: "127.0.0.1", port: port(), servername, rejectUnauthorized: false });
  mesh.defer(() => socket.destroy());
  await once(socket, "secureConnect");
  return socket;
}

const port = (): number => server.relay!.ports[0]!;

test("the server's own name leads to coordination and DERP, over TLS", async () => {
  const ask = (path: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const options = { host: "127.0.0.1", port: port(), path, servername: OWN, rejectUnauthorized: false };
      get(options, async (response) => {
        let text = `${response.statusCode} `;
        for await (const chunk of response) text += String(chunk);
        resolve(text);
      }).on("error", reject);
    });
  expect(await ask("/key?v=100")).toMatch(/^200 \{.*"publicKey":"mkey:/);
  expect(await ask("/derp/probe")).toBe("200 ");
  expect(await ask("/generate_204")).toBe("204 ");
  expect(await ask("/nothing")).toMatch(/^404 /);
});

test.each([OWN, OWN.toUpperCase(), `${OWN}.`])(
  "an ingress's port hung under the server's own name where it had a certificate for it: %s",
  async (name) => {
    const socket = await secured(name);
    socket.end("GET /generate_204 HTTP/1.1\r\nHost: control.example\r\nConnection: close\r\n\r\n");
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 204 /);
  },
);

test("every other name leads to the ingress, which is nobody's peer but the node's that wants visitors", async () => {
  expect(gateway.node.map?.peers.size).toBe(0);
  await gateway.setServeConfig(publicTcp(NAME, 443, await mesh.echo()));
  await expect.poll(() => brings(server.relay!, NAME), WAIT).toBe(true);
  const hello = makeHello({ name: NAME });
  const socket = connect(port(), "127.0.0.1");
  mesh.defer(() => socket.destroy());
  socket.end(hello);
  const heard: Buffer[] = [];
  for await (const chunk of socket) heard.push(chunk as Buffer);
  expect(Buffer.concat(heard).toString("hex")).toBe(hello.toString("hex"));
  expect([...(gateway.node.map?.peers.values() ?? [])].map(({ Name }) => Name)).toEqual(["ingress.mesh.example."]);
});

test("the zone answers for public names and the ingress's own with the ingress's addresses, and for no other", async () => {
  const resolver = new Resolver();
  resolver.setServers([`127.0.0.1:${server.publicZone!.port}`]);
  expect(await resolver.resolve4(NAME, { ttl: true })).toEqual([{ address: "203.0.113.5", ttl: 15 }]);
  expect(await resolver.resolve6(NAME)).toEqual(["2001:db8::5"]);
  const noAddress = async (name: string): Promise<unknown> => resolver.resolve4(name).catch(({ code }) => code);
  expect(await resolver.resolve4("ingress.mesh.example")).toEqual(["203.0.113.5"]);
  expect(await noAddress("other.mesh.example")).toMatch(/^E(NODATA|NOTFOUND)$/);
  await gateway.setServeConfig({});
  await expect.poll(() => noAddress(NAME), WAIT).toBe("ENODATA");
});

test("FN-3 a node of which only another name is public was in DNS, and the relay brought its visitors as far as the node", async () => {
  await gateway.setServeConfig(publicTcp("shop.example.org", 443, await mesh.echo()));
  const seen = () => {
    const [node] = server.relay!.node.map?.peers.values() ?? [];
    return { wants: node?.Hostinfo?.IngressEnabled, names: server.relay!.names.size };
  };
  await expect.poll(seen, WAIT).toEqual({ wants: true, names: 0 }); // nobody granted the other
  const resolver = new Resolver();
  resolver.setServers([`127.0.0.1:${server.publicZone!.port}`]);
  await expect(resolver.resolve4(NAME)).rejects.toMatchObject({ code: "ENODATA" });
});
