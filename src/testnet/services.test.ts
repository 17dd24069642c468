import { expect, onTestFinished, test } from "vitest";
import { createTestnet } from "../testnet.ts";

const POLICY = `{
  "tagOwners": { "tag:host": [] },
  "autoApprovers": { "services": { "svc:echo": ["tag:host"] } },
  "grants": [{ "src": ["alice@example.com"], "dst": ["svc:echo"], "ip": ["tcp:7"] }],
}`;
const ECHO = { Name: "svc:echo", Ports: ["tcp:7"], Active: true };

test("a node of ours calls a service of ours by name, is known there, and is served by the next host when one goes", {
  timeout: 60_000,
}, async () => {
  const net = await createTestnet({ users: ["alice@example.com", "bob@example.com"], policy: POLICY });
  onTestFinished(() => net.close());
  const { ipv4 } = await net.coordinator.createService("svc:echo", "test");
  const hosts = [await net.node({ tags: ["tag:host"], hostname: "one" }), await net.node({ tags: ["tag:host"] })];
  const seen: unknown[] = [];
  for (const host of hosts) {
    host.listen(7, (stream) => {
      seen.push([host.name, stream.localAddress, host.whois(stream).caller]);
      stream.pipe(stream);
    });
    host.mesh.tell({ services: [ECHO] });
  }
  const [alice, bob] = [await net.node({ user: "alice@example.com" }), await net.node({ user: "bob@example.com" })];
  await net.advance(5000);
  const hello = async (): Promise<string> => {
    const stream = await alice.dial({ address: "echo", port: 7 });
    stream.end("hello");
    return Buffer.concat(await net.until(stream.toArray())).toString();
  };
  expect(await hello()).toBe("hello");
  expect(seen).toEqual([["one.tail.test", ipv4, expect.objectContaining({ login: "alice@example.com" })]]);
  await expect(bob.dial({ address: "echo", port: 7 })).rejects.toMatchObject({ code: "MESH_UNKNOWN_NAME" });
  await expect(bob.dial({ address: ipv4, port: 7 })).rejects.toMatchObject({ code: "MESH_NO_PEER" });
  hosts[0]!.mesh.tell({ services: [{ ...ECHO, Active: false }] });
  await net.advance(5000);
  expect(await hello()).toBe("hello");
  expect(seen).toHaveLength(2);
  expect((seen[1] as unknown[])[0]).toBe(hosts[1]!.name);
});
