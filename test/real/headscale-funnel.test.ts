import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryStore } from "../../src/base/store.ts";
import { Relay } from "../../src/server/relay.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { type Answer, type Machine, type OurNode, StockMesh, until } from "./stock-mesh.ts";

const { missing } = peersOrSkip("headscale", "derper", "ip", "curl");
const whyNot = isRoot ? missing : "needs root";

const POLICY = {
  tagOwners: { "tag:ingress": ["bob@"], "tag:web": ["bob@"] },
  acls: [{ action: "accept", src: ["tag:web"], dst: ["tag:ingress:9"] }], // they see each other, and that is all
};

/** Headscale knows no Funnel: the gateway says whom it trusts, the ingress believes nodes that say they want visitors. */
describe.skipIf(whyNot !== undefined)(`Funnel on Headscale${whyNot ? ` (${whyNot})` : ""}`, () => {
  let lab: StockMesh;
  let relay: Relay;
  let web: OurNode;
  let other: OurNode;
  let visitor: Machine;
  const visit = (name: string): Promise<Answer> =>
    visitor.run(
      ...(["curl", "-sS", "--max-time", "20", "--cacert", `${lab.scratch}/${name}.ca`] as const),
      ...["--resolve", `${name}.tail.test:443:${lab.address}`, `https://${name}.tail.test/`],
    );

  const declare = (funnel: unknown): void => {
    const raw = { target: "tcp://127.0.0.1:1", lease: true };
    const endpoints = { "tcp:443": { listen: "https", target: "text:hello", funnel }, "tcp:2222": raw };
    writeFileSync(`${lab.scratch}/services.hujson`, JSON.stringify({ version: "0.0.1", node: { endpoints } }));
  };

  beforeAll(async () => {
    lab = await StockMesh.open(POLICY);
    relay = await Relay.open({
      controlUrl: lab.url,
      authKey: await lab.key("--tags", "tag:ingress"),
      hostname: "ingress",
      store: memoryStore(),
      listeners: [{ address: lab.address, port: 443 }],
      hostinfoPorts: [443],
      leases: { ranges: [{ first: 2222, last: 2222 }], address: lab.address },
    });
    visitor = lab.machine("visitor");
    declare(true);
    const config = ["--config", `${lab.scratch}/services.hujson`];
    web = await lab.ours("web", await lab.key("--tags", "tag:web"), ...config, "--trust-ingress", "tag:ingress");
    other = await lab.ours("other", await lab.key("--tags", "tag:web"), ...config);
    for (const node of [web, other]) writeFileSync(`${lab.scratch}/${node.name}.ca`, (await node.cli("ca")).stdout);
  }, 120_000);

  afterAll(async () => {
    await relay?.close();
    lab?.close();
  });

  test("a visitor reaches the gateway that trusts the ingress by its tag", { timeout: 90_000 }, async () => {
    const answer = await until(
      "a public answer",
      () => visit("web"),
      ({ code }) => code === 0,
      60_000,
    );
    expect(answer.stdout).toBe("hello");
  });

  test("a raw port is let by the nodes' own word, to one of them", { timeout: 90_000 }, async () => {
    await until(
      "the port",
      async () => relay.leasedPorts,
      (ports) => ports.includes(2222),
    );
    // Both nodes ask for it; what stands behind it is not there, so whoever comes is cut.
    const line = `exec 3<>/dev/tcp/${lab.address}/2222 && cat <&3`;
    expect((await visitor.run("bash", "-c", line)).stderr).toMatch(/reset by peer/);
  });

  test("FN-10 whom the owner keeps out stays out, though Headscale tells the ingress nothing of it", {
    timeout: 120_000,
  }, async () => {
    declare({ deny: [visitor.ipv4] });
    await web.restart();
    await until(
      "a refusal",
      () => visit("web"),
      ({ stderr }) => /unrecognized name/.test(stderr),
      60_000,
    );
    declare({ allow: [`${visitor.ipv4}/32`], limits: { visitorConnections: 5 } });
    await web.restart();
    await until(
      "a public answer",
      () => visit("web"),
      ({ stdout }) => stdout === "hello",
      60_000,
    );
  });

  test("FN-4 a gateway that trusts nobody takes nobody, though it says that it wants visitors", {
    timeout: 90_000,
  }, async () => {
    await until(
      "the name",
      async () => relay.names.named("other.tail.test"),
      (found) => found?.peerApi !== undefined,
    );
    expect((await visit("other")).stderr).toMatch(/unrecognized name/);
  });
});
