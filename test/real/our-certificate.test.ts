import { X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryStore } from "../../src/base/store.ts";
import { meshFetch } from "../../src/mesh/fetch.ts";
import { MeshNode } from "../../src/mesh/node.ts";
import { findPeer, isRoot, peersOrSkip } from "../peers.ts";
import type { ReachablePebble } from "./reachable-pebble.ts";
import { ServerMesh } from "./server-mesh.ts";
import { type Answer, ok as exitsWell, type OurNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("pebble", "ip", "curl");
const hasStock = findPeer("tailscaled") !== undefined && findPeer("tailscale") !== undefined;
const NAME = "gate.tail.mesh.example";

/** Nothing is configured but the CA: the name is proved through the coordination server, which answers for its own zone. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `certificates of our gateway on our server${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new ServerMesh();
    let pebble: ReachablePebble;
    let gate: OurNode;
    let client: MeshNode;
    const file = (name: string): string => `${lab.scratch}/${name}`;
    const ok = (answer: Promise<Answer>): Promise<string> => exitsWell(answer, () => gate.log());
    const read = (name: string): X509Certificate => new X509Certificate(readFileSync(file(name)));

    beforeAll(async () => {
      pebble = await lab.openServerAndCa({
        policy: `{
          "grants": [{ "src": ["*"], "dst": ["*"], "ip": ["*"] }],
          "nodeAttrs": [{ "target": ["alice@example.com"], "attr": ["dns-subdomain-resolve"] }],
        }`,
      });
      const authority = ["--cert-authority", pebble.directory, "--cert-authority-bundle", pebble.listenerRoot];
      gate = await lab.ours("gate", await lab.keyFor("alice@example.com"), ...authority);
      client = await MeshNode.open({
        controlUrl: lab.url,
        authKey: await lab.keyFor("alice@example.com"),
        hostname: "client",
        store: memoryStore(),
      });
      lab.defer(() => client.close());
    }, 90_000);

    afterAll(() => lab.close());

    test("`serve` answers HTTPS with the CA's certificate, ordered ahead", { timeout: 90_000 }, async () => {
      await ok(gate.cli("serve", "--bg", "text:hello over https"));
      const list = () => gate.cli("cert", "list", "--json");
      const answer = await until("the certificate", list, ({ stdout }) => stdout.includes('"valid"'), 60_000);
      expect(JSON.parse(answer.stdout)).toMatchObject([{ state: "none" }, { names: [NAME], state: "valid" }]);
      const ca = readFileSync(file("root.pem"), "utf8");
      const web = meshFetch({ dial: (to, how) => client.dial(to, how), ca });
      const page = await web.fetch(`https://${NAME}/`);
      expect(await page.text()).toBe("hello over https");
      await web.close();
    });

    test("`status` and the metrics show what was observed", { timeout: 60_000 }, async () => {
      expect(await ok(gate.cli("status"))).toMatch(
        /# Certificates:\n[\s\S]*# {5}- gate\.tail\.mesh\.example: valid until 20\d\d-\d\d-\d\d by \S+, seen 20/,
      );
      const metrics = await ok(gate.cli("metrics"));
      expect(metrics).toMatch(/sallyport_certificate_orders_total\{authority="\S+",outcome="issued"\} 1\n/);
    });

    test.skipIf(!hasStock)("a stock client and curl trust it", { timeout: 90_000 }, async () => {
      const alice = await lab.stock("alice", "tun", { SSL_CERT_FILE: pebble.listenerRoot });
      await lab.up(alice, await lab.keyFor("alice@example.com"));
      const address = (await ok(gate.cli("ip", "-4"))).trim();
      const where = ["--resolve", `${NAME}:443:${address}`, `https://${NAME}/`];
      const page = () => alice.run("curl", "-sS", "--max-time", "20", "--cacert", file("root.pem"), ...where);
      const answer = await until("the page", page, ({ stdout }) => stdout === "hello over https", 60_000);
      expect(answer.stderr).toBe("");
    });

    test("`cert` writes a pair, and what it says is upstream's", { timeout: 60_000 }, async () => {
      const [crt, keyFile] = [file("gate.crt"), file("gate.key")];
      const cert = () => gate.cli("cert", "--cert-file", crt, "--key-file", keyFile, NAME);
      expect(await ok(cert())).toBe(`Wrote public cert to ${crt}\nWrote private key to ${keyFile}\n`);
      expect(await ok(cert())).toBe(`Public cert unchanged at ${crt}\nPrivate key unchanged at ${keyFile}\n`);
      expect([statSync(crt).mode & 0o777, statSync(keyFile).mode & 0o777]).toEqual([0o644, 0o600]);
      expect(read("gate.crt").subjectAltName).toBe(`DNS:${NAME}`);
      const stranger = await gate.cli("cert", "--cert-file", "-", "other.tail.mesh.example");
      expect([stranger.code, stranger.stdout]).toEqual([1, ""]);
      expect(stranger.stderr).toMatch(/^500 Internal Server Error: .*does not serve it/);
    });

    test("`cert roll-key` gives the account a new key, and renewals go on", { timeout: 120_000 }, async () => {
      const certificates = JSON.parse(await ok(gate.cli("cert", "list", "--json"))) as { authority?: string }[];
      const { authority = "" } = certificates.find((one) => one.authority !== undefined)!;
      expect(await ok(gate.cli("cert", "roll-key", authority))).toBe(`The account at ${authority} has a new key\n`);
      expect(await ok(gate.cli("cert", "renew", NAME))).toMatch(/^New certificate/);
      const stranger = await gate.cli("cert", "roll-key", "nobody");
      expect([stranger.code, stranger.stderr]).toEqual([1, expect.stringContaining(`this gateway uses ${authority}`)]);
    });

    test("a wildcard below its name, where its attribute allows it", { timeout: 90_000 }, async () => {
      await ok(gate.cli("cert", "--cert-file", file("any.crt"), `*.${NAME}`));
      expect(read("any.crt").subjectAltName?.split(", ").toSorted()).toEqual([`DNS:*.${NAME}`, `DNS:${NAME}`]);
      expect((await gate.cli("cert", "--cert-file", "-", "*.tail.mesh.example")).code).toBe(1);
    });

    test("`cert renew`, `export`, `budget`, `doctor` and `revoke`", { timeout: 120_000 }, async () => {
      const before = read("gate.crt").serialNumber;
      expect(await ok(gate.cli("cert", "renew", NAME))).toMatch(/^New certificate for gate\.tail\.mesh\.example, good/);
      await ok(gate.cli("cert", "export", NAME, file("out")));
      const renewed = read("out/fullchain.pem");
      expect(renewed.serialNumber).not.toBe(before);
      expect(readFileSync(file("out/privkey.pem"), "utf8")).toMatch(/^-----BEGIN PRIVATE KEY-----/);
      expect(await ok(gate.cli("cert", "budget"))).toMatch(/^CA +LIMIT +OF +LEFT +NEXT FREE\n/);
      // Nobody has said what this CA is called in CAA records.
      expect(await ok(gate.cli("cert", "doctor"))).toMatch(/^gate\.tail\.mesh\.example\n {2}.*its documentation says/m);
      expect(await ok(gate.cli("metrics"))).toMatch(
        /sallyport_certificate_expiry_timestamp_seconds\{name="gate\.tail\.mesh\.example",authority="[^"]+"\} 1\d{9}/,
      );
      expect(await ok(gate.cli("cert", "revoke", NAME))).toMatch(/^Revoked/);
      const next = () => gate.cli("cert", "--cert-file", file("next.crt"), NAME);
      await until("another one", next, ({ code }) => code === 0, 60_000);
      expect(read("next.crt").serialNumber).not.toBe(renewed.serialNumber);
    });

    test("after a restart the same certificate is served: nothing is ordered anew", { timeout: 60_000 }, async () => {
      await gate.restart();
      const cert = () => gate.cli("cert", "--cert-file", file("again.crt"), NAME);
      await until("the certificate", cert, ({ code }) => code === 0, 30_000);
      expect(read("again.crt").serialNumber).toBe(read("next.crt").serialNumber);
    });
  },
);
