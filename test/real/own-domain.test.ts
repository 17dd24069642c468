import { writeFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { asDuplex } from "../../src/base/duplex.ts";
import { memoryStore } from "../../src/base/store.ts";
import { MeshNode } from "../../src/mesh/node.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { freePorts } from "./processes.ts";
import { type ReachablePebble, startReachablePebble } from "./reachable-pebble.ts";
import { ServerMesh } from "./server-mesh.ts";
import { type OurNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("pebble", "pebble-challtestsrv", "ip");
const OWN = "gate.tail.test";

/** Domains of the operator's, whose ports 80 and 443 lead to the gateway's machine from outside of the mesh. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `domains of one's own${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new ServerMesh();
    let pebble: ReachablePebble;
    let gate: OurNode;
    let client: MeshNode;
    let root = "";
    const file = (name: string): string => `${lab.scratch}/${name}`;
    beforeAll(async () => {
      await lab.openServer({ policy: `{ "grants": [{ "src": ["*"], "dst": ["*"], "ip": ["*"] }] }` });
      const [port = "", management = ""] = await freePorts(lab.address, 2);
      const off = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""];
      const at = ["-dns01", `${lab.address}:${port}`, "-management", `${lab.address}:${management}`];
      lab.onHost("pebble-challtestsrv", [...at, ...off]);
      pebble = await startReachablePebble({
        folder: file("pebble"),
        address: lab.address,
        dnsServer: `${lab.address}:${port}`,
      });
      lab.defer(() => pebble.stop());
      writeFileSync(
        file("services.hujson"),
        JSON.stringify({
          version: "0.0.1",
          certificates: {
            authority: { directory: pebble.directory, caBundle: pebble.listenerRoot },
            challenges: [
              { type: "http-01", for: ["app.example.com"], listen: ":5002" },
              { type: "tls-alpn-01", for: ["tls.example.com"], listen: ":5001" },
            ],
          },
          node: {
            endpoints: {
              "tcp:443": {
                target: "text:the node itself",
                hosts: { "app.example.com": "text:by http", "tls.example.com": "text:by tls" },
                redirectHttp: true,
              },
            },
          },
        }),
      );
      gate = await lab.ours(
        "gate",
        undefined,
        "--config",
        file("services.hujson"),
        "--auth-key",
        await lab.keyFor("alice@example.com"),
      );
      const init = { method: "POST", body: JSON.stringify({ ip: gate.ipv4 }) };
      const told = () => fetch(`http://${lab.address}:${management}/set-default-ipv4`, init).catch(() => undefined);
      await until("the DNS", told, (answer) => answer?.ok === true, 30_000);
      client = await MeshNode.open({
        controlUrl: lab.url,
        authKey: await lab.keyFor("alice@example.com"),
        hostname: "client",
        store: memoryStore(),
      });
      lab.defer(() => client.close());
      await client.ready(AbortSignal.timeout(60_000));
      root = await pebble.issuedRoot();
    }, 120_000);

    afterAll(() => lab.close());

    const dial = async (port: number) => {
      const address = (await gate.cli("ip", "-4")).stdout.trim();
      return asDuplex(await client.dial({ address, port }));
    };

    const get = async (servername: string, ca: string): Promise<string> => {
      const secure = tls.connect({ socket: await dial(443), servername, ca });
      secure.end(`GET / HTTP/1.1\r\nHost: ${servername}\r\nConnection: close\r\n\r\n`);
      return text(secure).then(
        (all) => all.slice(all.indexOf("\r\n\r\n") + 4),
        (error: Error) => error.message,
      );
    };

    test.each([
      ["app.example.com", "by http"],
      ["tls.example.com", "by tls"],
    ])("%s is proved and served over the mesh", { timeout: 120_000 }, async (name, content) => {
      const list = () => gate.cli("cert", "list", "--json");
      const isValid = ({ stdout }: { readonly stdout: string }): boolean => {
        const found = JSON.parse(stdout || "[]") as { readonly names: readonly string[]; readonly state: string }[];
        return found.some(({ names, state }) => names.includes(name) && state === "valid");
      };
      await until(`${name}: ${gate.log().slice(-1000)}`, list, isValid, 90_000);
      expect(await get(name, root)).toBe(content);
    });

    test("the node's own name, which no CA can be shown, comes from the local CA", { timeout: 60_000 }, async () => {
      const { stdout: ca } = await gate.cli("ca");
      expect(await get(OWN, ca)).toBe("the node itself");
      expect(await get("stranger.example.com", ca)).toMatch(/unrecognized name/);
    });

    test("port 80 leads to the full HTTPS name", { timeout: 60_000 }, async () => {
      for (const [host, place] of [
        ["app.example.com", "https://app.example.com/a?b"],
        ["gate", `https://${OWN}/a?b`],
      ]) {
        const plain = await dial(80);
        plain.end(`GET /a?b HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
        expect(await text(plain)).toMatch(
          new RegExp(`^HTTP/1.1 308 [\\s\\S]*Location: ${place!.replace("?", "\\?")}\r\n`),
        );
      }
    });
  },
);
