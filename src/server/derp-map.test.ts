import { once } from "node:events";
import tls from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { freePorts } from "../../test/suites/free-ports.ts";
import { systemClock } from "../base/clock.ts";
import { memoryStore } from "../base/store.ts";
import { LocalCa } from "../certs/local-ca.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { connectRegion } from "../mesh/derp/derp-connection.ts";
import { ownDerpMap } from "./derp-map.ts";
import { Server } from "./server.ts";

test("where only the port of all names was open, nobody had a relay: it is there under the server's own name", async () => {
  const ca = await LocalCa.create(systemClock);
  const { key, certificate: cert } = await ca.issue(["localhost"]);
  const [port = 0, closed = 0] = await freePorts(2);
  const server = await Server.open({
    ...{ store: new MemoryCoordinationStore(), state: memoryStore(), baseDomain: "tail.test" },
    serverUrl: `https://localhost:${port}`,
    relay: { listeners: [{ address: "127.0.0.1", port }], certificate: { key, cert } },
  });
  onTestFinished(() => server.close());
  const trusted = tls.getCACertificates();
  onTestFinished(() => tls.setDefaultCACertificates(trusted));
  tls.setDefaultCACertificates([...trusted, ca.export().certificate]);
  const [first, second] = server.derpMap.Regions!["900"]!.Nodes!;
  const region = { ...server.derpMap.Regions!["900"]!, Nodes: [{ ...first!, DERPPort: closed }, second!] };
  const stream = await connectRegion(region, AbortSignal.timeout(20_000));
  const said = once(stream, "data");
  stream.resume();
  const [frame] = (await said) as [Buffer];
  expect(frame.subarray(5, 13).toString("utf8")).toBe("DERP🔑"); // the server's key, which DERP begins with
  stream.destroy();
});

const facts = { address: "203.0.113.5", derpPort: 3340, stunPort: 3478, digest: "ab".repeat(32) };
const pinned = { HostName: "203.0.113.5", DERPPort: 3340, STUNPort: 3478, CertName: `sha256-raw:${facts.digest}` };

test.each<[string, string | undefined, object[]]>([
  ["no certificate of its own", undefined, []],
  ["its own name", "https://mesh.example.com", [{ HostName: "mesh.example.com", DERPPort: 443, STUNPort: 3478 }]],
  ["on another port", "https://mesh.example.com:8444/", [{ HostName: "mesh.example.com", DERPPort: 8444 }]],
  ["no TLS", "http://mesh.example.com:8080", []],
  ["an address", "https://203.0.113.5", []],
  ["an address of IPv6", "https://[2001:db8::5]", []],
])("nodes are told of the relay: %s", (_, url, others) => {
  const { Regions } = ownDerpMap({ ...facts, ...(url === undefined ? {} : { url }) });
  const nodes = Regions!["900"]!.Nodes!;
  expect(nodes).toMatchObject([pinned, ...others]);
  for (const node of nodes.slice(1)) expect(Object.keys(node)).not.toContain("CertName");
  expect(new Set(nodes.map(({ Name }) => Name)).size).toBe(nodes.length);
});
