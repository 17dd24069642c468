import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryStore } from "../../src/base/store.ts";
import { Relay } from "../../src/server/relay.ts";
import type { Server } from "../../src/server/server.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { makeHello } from "../suites/client-hellos.ts";
import { ServerMesh } from "./server-mesh.ts";
import { type Answer, type Machine, ok, type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "pebble", "ip", "curl");
const NAME = "web.tail.mesh.example";

const BACKEND = `
require("node:http").createServer((request, response) => response.end(JSON.stringify(request.headers)))
  .listen(3000, "127.0.0.1", () => console.log("ready"));
require("node:net").createServer((socket) => socket.on("error", () => undefined).pipe(socket)).listen(4000, "127.0.0.1");
`;

const policy = (attr: readonly string[]): string =>
  JSON.stringify({
    tagOwners: { "tag:ingress": [] },
    grants: [{ src: ["*"], dst: ["*"], ip: ["*"] }],
    nodeAttrs: [
      { target: ["tag:ingress"], attr: ["sallyport.dev/ingress"] },
      { target: ["autogroup:member"], attr },
    ],
  });

/** The vendor's words and the vendor's client; server and ingress are ours, and so is the zone that the CA asks. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `\`tailscale funnel\` on our server${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new ServerMesh();
    let server: Server;
    let relay: Relay;
    let web: StockNode;
    let visitor: Machine;

    const visit = (port: number, ...more: readonly string[]): Promise<Answer> =>
      visitor.run(
        "curl",
        ...["-sS", "--max-time", "20", "--cacert", `${lab.scratch}/root.pem`],
        ...["--resolve", `${NAME}:${port}:${lab.address}`],
        ...[...more, `https://${NAME}:${port}/`],
      );

    beforeAll(async () => {
      const pebble = await lab.openServerAndCa({ policy: policy(["funnel"]) });
      ({ server } = lab);
      relay = await Relay.open({
        controlUrl: server.url,
        authKey: await lab.keyFor("tag:ingress"),
        hostname: "ingress",
        store: memoryStore(),
        listeners: [443, 8443, 10000].map((port) => ({ address: lab.address, port })),
      });
      lab.defer(() => relay.close());
      const env = { TS_DEBUG_ACME_DIRECTORY_URL: pebble.directory, SSL_CERT_FILE: pebble.listenerRoot };
      web = await lab.stock("web", "userspace", env);
      await lab.up(web, await lab.keyFor("alice@example.com"));
      visitor = lab.machine("visitor");
      const backend = web.start(process.execPath, ["-e", BACKEND]);
      await until(
        "the backend",
        async () => backend.log(),
        (log) => log.includes("ready"),
      );
    }, 90_000);

    afterAll(() => lab.close());

    test("`tailscale funnel 3000`: a public URL with a trusted certificate, through our ingress", {
      timeout: 120_000,
    }, async () => {
      expect((await visit(443)).stderr).toMatch(/unrecognized name/);
      const said = await ok(web.cli("funnel", "--bg", "3000"));
      expect(said).toContain(`Available on the internet:\n\nhttps://${NAME}/\n`);
      const answer = await until(
        "a public answer",
        () => visit(443),
        ({ code }) => code === 0,
        90_000,
      );
      const headers = JSON.parse(answer.stdout) as Record<string, string>;
      expect(headers).toMatchObject({ "tailscale-funnel-request": "?1", "x-forwarded-for": visitor.ipv4, host: NAME });
    });

    test("HTTP/2 by ALPN; a port that is not public is unknown", async () => {
      const version = await visit(443, "-o", "/dev/null", "-w", "%{http_version}");
      expect(version.stdout).toBe("2");
      expect((await visit(8443)).stderr).toMatch(/unrecognized name/);
    });

    test("`tailscale funnel --tcp`: the visitor's TLS goes through to the backend as it is", async () => {
      await ok(web.cli("funnel", "--bg", "--tcp=10000", "tcp://127.0.0.1:4000"));
      // The backend sends back what it is sent: the hello that the ingress has read must be what it gets.
      const hello = makeHello({ name: NAME }).toString("hex");
      const script = `const socket = require("node:net").connect(10000, "${lab.address}");
        socket.end(Buffer.from("${hello}", "hex"));
        socket.on("data", (bytes) => process.stdout.write(bytes.toString("hex"))).on("error", () => undefined);`;
      const echo = async (): Promise<string> => (await visitor.run(process.execPath, "-e", script)).stdout;
      await until("the echo", echo, (text) => text === hello, 60_000);
    });

    test("`tailscale serve` beside it stays private", async () => {
      await ok(web.cli("serve", "--bg", "--https=8443", "3000"));
      expect(await ok(web.cli("serve", "status"))).toContain(`https://${NAME}:8443 (tailnet only)`);
      expect((await visit(8443)).stderr).toMatch(/unrecognized name/);
      expect((await visit(443)).code).toBe(0);
    });

    test("a client that goes away is said to be away, and is there again when it comes back", {
      timeout: 120_000,
    }, async () => {
      await ok(web.cli("down"));
      await until(
        "the alert",
        () => visit(443),
        ({ stderr }) => /internal error/.test(stderr),
        60_000,
      );
      const same = ["--login-server", lab.url, "--hostname", web.name, "--accept-dns=false"]; // it insists on hearing them again
      await ok(web.cli("up", "--timeout=30s", ...same));
      const answer = await until(
        "the client",
        () => visit(443),
        ({ code }) => code === 0,
        60_000,
      );
      expect(answer.stdout).toContain('"tailscale-funnel-request":"?1"');
    });

    test("`tailscale funnel status` and `off`, and then the name is nobody's", { timeout: 60_000 }, async () => {
      expect(await ok(web.cli("funnel", "status"))).toContain(`#     - https://${NAME}\n`);
      await ok(web.cli("funnel", "--https=443", "off"));
      await until(
        "the end",
        () => visit(443),
        ({ code }) => code !== 0,
      );
      await ok(web.cli("funnel", "reset"));
      const last = await until(
        "the name to go",
        () => visit(443),
        ({ stderr }) => /unrecognized name/.test(stderr),
      );
      expect(last.code).toBe(35);
    });

    test("where the policy demands doors, a client that has none is not public, and says why", {
      timeout: 120_000,
    }, async () => {
      await ok(web.cli("funnel", "--bg", "3000"));
      await until(
        "a public answer",
        () => visit(443),
        ({ code }) => code === 0,
        60_000,
      );
      await server.setPolicy(policy(["funnel", "sallyport.dev/door-required"]), "test");
      await until(
        "the name to go",
        () => visit(443),
        ({ stderr }) => /unrecognized name/.test(stderr),
      );
      const said = await web.cli("funnel", "--bg", "--https=8443", "3000");
      expect(said.stdout + said.stderr).toContain("demands a door before whatever is public");
      await server.setPolicy(policy(["funnel"]), "test");
      await until(
        "a public answer again",
        () => visit(443),
        ({ code }) => code === 0,
        60_000,
      );
    });
  },
);
