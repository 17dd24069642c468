import { X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import type { ReachablePebble } from "./reachable-pebble.ts";
import { ServerMesh } from "./server-mesh.ts";
import { type Answer, ok as exitsWell, type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "pebble", "ip", "curl");

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `certificates of stock clients on our server${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new ServerMesh();
    let pebble: ReachablePebble;
    let alice: StockNode;
    let bob: StockNode;

    const ok = (answer: Promise<Answer>): Promise<string> => exitsWell(answer, () => pebble.log());
    const file = (name: string): string => `${lab.scratch}/${name}`;
    const issued = (name: string): X509Certificate => new X509Certificate(readFileSync(file(name)));

    beforeAll(async () => {
      pebble = await lab.openServerAndCa({
        policy: `{
          "grants": [{ "src": ["*"], "dst": ["*"], "ip": ["*"] }],
          "nodeAttrs": [{ "target": ["bob@example.com"], "attr": ["dns-subdomain-resolve"] }],
        }`,
      });
      const env = { TS_DEBUG_ACME_DIRECTORY_URL: pebble.directory, SSL_CERT_FILE: pebble.listenerRoot };
      alice = await lab.stock("alice", "tun", env);
      bob = await lab.stock("bob", "userspace", env);
      await lab.up(alice, await lab.keyFor("alice@example.com"));
      await lab.up(bob, await lab.keyFor("bob@example.com"));
    }, 90_000);

    afterAll(() => lab.close());

    const cert = (node: StockNode, name: string) => {
      const base = file(`${node.name}-${name.replace("*", "any")}`);
      return node.cli("cert", "--cert-file", `${base}.crt`, "--key-file", `${base}.key`, name);
    };

    test("`tailscale cert` gets one for the node's own name", { timeout: 90_000 }, async () => {
      const status = JSON.parse(await ok(alice.cli("status", "--json"))) as { readonly CertDomains: readonly string[] };
      expect(status.CertDomains).toEqual(["alice.tail.mesh.example"]);
      await ok(cert(alice, "alice.tail.mesh.example"));
      const leaf = issued("alice-alice.tail.mesh.example.crt");
      expect(leaf.subjectAltName).toBe("DNS:alice.tail.mesh.example");
      expect(leaf.issuer).toContain("Pebble");
    });

    test("a wildcard below its name, where its attribute allows it", { timeout: 90_000 }, async ({ skip }) => {
      const minor = Number(/^1\.(\d+)/.exec(await ok(bob.cli("version")))?.[1]);
      skip(minor < 100, "this client knows no wildcards");
      await ok(cert(bob, "*.bob.tail.mesh.example"));
      const names = issued("bob-any.bob.tail.mesh.example.crt").subjectAltName;
      expect(names?.split(", ").toSorted()).toEqual(["DNS:*.bob.tail.mesh.example", "DNS:bob.tail.mesh.example"]);
      expect((await cert(alice, "*.alice.tail.mesh.example")).code).not.toBe(0);
    });

    test("nobody gets one for another's name, nor for the domain", { timeout: 60_000 }, async () => {
      for (const name of ["bob.tail.mesh.example", "tail.mesh.example", "nobody.tail.mesh.example"]) {
        expect((await cert(alice, name)).code, name).not.toBe(0);
      }
    });

    test("`tailscale serve` answers HTTPS, and a stock client trusts it", { timeout: 90_000 }, async () => {
      mkdirSync(file("site"));
      writeFileSync(file("site/index.html"), "hello over https");
      await ok(bob.cli("serve", "--bg", file("site")));
      const address = (await ok(bob.cli("ip", "-4"))).trim();
      const url = "https://bob.tail.mesh.example/";
      const resolve = ["--resolve", `bob.tail.mesh.example:443:${address}`];
      const page = () => alice.run("curl", "-sS", "--max-time", "20", "--cacert", file("root.pem"), ...resolve, url);
      const answer = await until("the page", page, ({ stdout }) => stdout === "hello over https", 60_000);
      expect(answer.stderr).toBe("");
    });
  },
);
