import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type Server as HttpServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { styleText } from "node:util";
import { messageOf } from "../base/fault.ts";
import { createLog } from "../base/log.ts";
import { memoryStore } from "../base/store.ts";
import { nodeServeConfig } from "../config/node-serve-config.ts";
import { parseServices } from "../config/services.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { Gateway } from "../gateway/gateway.ts";
import { type MeshFetch, meshFetch } from "../mesh/fetch.ts";
import { MeshNode } from "../mesh/node.ts";
import { Relay } from "../server/relay.ts";
import { Server } from "../server/server.ts";
import { findPebble, startDemoCa } from "./demo-ca.ts";
import { booleanFlag, parseFlags } from "./flags.ts";
import type { CliIo } from "./io.ts";
import { terminalLines } from "./terminal-text.ts";

const CAPABILITY = "example.com/cap/app";
const ALICE_MAY = { action: ["*"], resources: ["*"] };
const BOB_MAY = { action: ["list_devices"], resources: ["bootstrap://status", "tailscale://devices"] };
const JOIN_TIMEOUT_MS = 20_000;

/** The announcement's two grants; `ip` lets the packets in, `app` says what the caller may do. */
const policy = (gateway: string): string => `// The demo's policy: who reaches the app, and what each may do there.
{
  "hosts": { "app": "${gateway}" },
  "tagOwners": { "tag:ci": ["alice@example.com"], "tag:gate": ["alice@example.com"], "tag:ingress": ["alice@example.com"] },
  "grants": [
    { "src": ["alice@example.com"], "dst": ["app"], "ip": ["tcp:443"],
      "app": { "${CAPABILITY}": [${JSON.stringify(ALICE_MAY)}] } },
    { "src": ["bob@example.com"], "dst": ["app"], "ip": ["tcp:443"],
      "app": { "${CAPABILITY}": [${JSON.stringify(BOB_MAY)}] } },
    { "src": ["tag:ci"], "dst": ["app"], "ip": ["tcp:443"] },
  ],
  // Who relays visitors from the Internet, and who may have some.
  "nodeAttrs": [
    { "target": ["tag:ingress"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["tag:gate"], "attr": ["funnel"] },
  ],
}
`;

interface Seen {
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

const out = (text = ""): void => void process.stdout.write(`${text}\n`);
const title = (text: string): void => out(`\n${styleText("bold", text)}`);
let failures = 0;

function check(what: string, holds: boolean, found?: unknown): void {
  if (!holds) failures++;
  const mark = holds ? styleText("green", "✓") : styleText("red", "✗");
  out(`  ${mark} ${what}${holds || found === undefined ? "" : styleText("red", `: found ${JSON.stringify(found)}`)}`);
}

/** The sample backend: it answers with the headers that it received. */
function sampleBackend(seen: Seen[]): Promise<HttpServer> {
  const server = createServer((request: IncomingMessage, response) => {
    seen.push({ url: request.url ?? "", headers: request.headers });
    if (seen.length > 100) seen.shift();
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(request.headers, undefined, 2));
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

const USAGE = `Run a whole mesh on this machine, and what it promises step by step

USAGE
  sallyport demo [--once] [--verbose]

FLAGS
  --once     end after the last step instead of waiting for Ctrl+C
  --verbose  log what its parts do
`;

/** `sallyport demo`: the whole promise on loopback. Exit status 0 only if every step held. */
export async function demo(words: readonly string[], io: CliIo): Promise<number> {
  const parsed = parseFlags({ once: booleanFlag(false), verbose: booleanFlag(false) }, words);
  if (parsed.kind !== "values" || parsed.rest.length > 0) {
    io.stderr(parsed.kind === "error" ? `${terminalLines(parsed.text)}\n${USAGE}` : USAGE);
    return parsed.kind === "help" ? 0 : 2;
  }
  failures = 0;
  const { once: isOnce, verbose } = parsed.values;
  const log = createLog(verbose ? "debug" : "silent");
  const closers: (() => unknown)[] = [];
  const started = performance.now();
  try {
    out(styleText("bold", "Sallyport demo: one mesh on loopback, no root, nothing leaves this machine"));
    const seen: Seen[] = [];
    const backend = await sampleBackend(seen);
    closers.push(() => backend.close());
    const backendPort = (backend.address() as AddressInfo).port;
    out(`  backend       http://127.0.0.1:${backendPort} (answers with the headers it received)`);

    const pebble = findPebble(io.env["PATH"]);
    const server = await Server.open({
      store: new MemoryCoordinationStore(),
      state: memoryStore(),
      baseDomain: "demo.test",
      // The server answers a CA's questions about its nodes' names.
      ...(pebble === undefined
        ? {}
        : { publicZone: { zone: "demo.test", nameServer: "ns1.demo.test", address: "127.0.0.1", port: 0 } }),
      log,
    });
    closers.push(() => server.close());
    out(`  server        ${server.url} (coordination, DERP, STUN)`);
    const ca = pebble === undefined ? undefined : await startDemoCa(pebble, `127.0.0.1:${server.publicZone!.port}`);
    closers.push(() => ca?.close());
    out(
      `  certificates  ${ca === undefined ? "of the gateway's local CA" : `by ACME from a test CA, ${ca.directory}`}`,
    );
    const { coordinator } = server;
    await coordinator.createUser({ login: "alice@example.com", displayName: "Alice Architect" }, "demo");
    await coordinator.createUser({ login: "bob@example.com", displayName: "Bob Builder" }, "demo");
    const key = async (options: { user?: string; tags?: string[] }) =>
      (await coordinator.createAuthKey(options, "demo")).key;

    const example = await readFile(path.resolve(import.meta.dirname, "../../services.example.hujson"), "utf8");
    const declared = parseServices(
      example.replaceAll("127.0.0.1:3000", `127.0.0.1:${backendPort}`),
      "services.example.hujson",
    );
    const gatewayKey = await key({ tags: ["tag:gate"] });
    const common = { controlUrl: server.url, localAddresses: () => ["127.0.0.1"] };
    const gateway = await Gateway.open({
      ...common,
      authKey: gatewayKey,
      hostname: "app",
      store: memoryStore(),
      allowsLoopbackVisitors: true, // here even the Internet is on loopback
      certificates:
        ca === undefined
          ? { authority: "internal" }
          : { authority: { directory: ca.directory, caBundle: ca.caBundle } },
      log: log.with("gateway"),
    });
    closers.push(() => gateway.close());
    const signal = AbortSignal.timeout(JOIN_TIMEOUT_MS);
    await gateway.node.ready(signal);
    await gateway.setServeConfig(nodeServeConfig(declared, gateway.name));
    const address = gateway.node.addresses[0]!;
    out(`  gateway       https://${gateway.name} (${address})`);
    await server.setPolicy(policy(address), "demo");
    const certificate = new X509Certificate((await gateway.certificates.certificate(gateway.name)).chain);
    out(
      `  certificate   ${certificate.subjectAltName?.replace("DNS:", "")}, by ${certificate.issuer.replace("CN=", "")}`,
    );
    const trusted = ca?.root ?? (await gateway.certificates.authority());

    const person = async (hostname: string, options: { user?: string; tags?: string[] }) => {
      const node = await MeshNode.open({
        ...common,
        authKey: await key(options),
        hostname,
        store: memoryStore(),
        log: log.with(hostname),
      });
      closers.push(() => node.close());
      await node.ready(signal);
      const web = meshFetch({ dial: (to, how) => node.dial(to, how), ca: trusted });
      closers.push(() => web.close());
      out(`  ${hostname.padEnd(13)} ${node.addresses[0]}`);
      return { node, fetch: web.fetch };
    };
    const alice = await person("alice-laptop", { user: "alice@example.com" });
    const bob = await person("bob-laptop", { user: "bob@example.com" });
    const ci = await person("ci-runner", { tags: ["tag:ci"] });

    const url = `https://${gateway.name}/`;
    const call = async (fetch: MeshFetch, headers: Record<string, string> = {}) => {
      const response = await fetch(url, { headers, signal: AbortSignal.timeout(JOIN_TIMEOUT_MS) });
      await response.text();
      return { status: response.status, headers: seen.at(-1)?.headers ?? {} };
    };

    title("1. Alice calls the app over WireGuard");
    const first = await call(alice.fetch);
    show(first.headers);
    check("the request arrived", first.status === 200, first.status);
    check("the backend knows her", first.headers["tailscale-user-login"] === "alice@example.com", first.headers);
    check(
      "and what she may do",
      sameJson(first.headers["tailscale-app-capabilities"], { [CAPABILITY]: [ALICE_MAY] }),
      first.headers,
    );

    title("2. Bob calls the same backend");
    const second = await call(bob.fetch);
    show(second.headers);
    check("the backend knows him", second.headers["tailscale-user-login"] === "bob@example.com", second.headers);
    check(
      "and that he may only list",
      sameJson(second.headers["tailscale-app-capabilities"], { [CAPABILITY]: [BOB_MAY] }),
      second.headers,
    );

    title("3. Bob pretends to be Alice");
    const forged = await call(bob.fetch, {
      "Tailscale-User-Login": "alice@example.com",
      Tailscale_User_Login: "alice@example.com",
      "Tailscale-App-Capabilities": JSON.stringify({ [CAPABILITY]: [ALICE_MAY] }),
    });
    show(forged.headers);
    check("the forged headers are gone", forged.headers["tailscale-user-login"] === "bob@example.com", forged.headers);
    check("in every spelling", forged.headers["tailscale_user_login"] === undefined, forged.headers);
    check(
      "his capabilities are still his own",
      sameJson(forged.headers["tailscale-app-capabilities"], { [CAPABILITY]: [BOB_MAY] }),
      forged.headers,
    );

    title("4. A tagged machine calls");
    const tagged = await call(ci.fetch);
    show(tagged.headers);
    check(
      "it arrived, and has no user",
      tagged.status === 200 && tagged.headers["tailscale-user-login"] === undefined,
      tagged,
    );

    title("5. A stranger calls from the Internet, through a relay that cannot read it");
    const relay = await Relay.open({
      ...common,
      authKey: await key({ tags: ["tag:ingress"] }),
      hostname: "ingress",
      store: memoryStore(),
      log: log.with("ingress"),
      listeners: [{ address: "127.0.0.1", port: 0, publicPort: 443 }],
    });
    closers.push(() => relay.close());
    const visit = await visitor(relay.ports[0]!, gateway.name, trusted);
    check("nothing is public that nobody made public", (await visit()) === undefined);
    const AllowFunnel = { [`${gateway.name}:443`]: true };
    await gateway.setServeConfig({ ...nodeServeConfig(declared, gateway.name), AllowFunnel });
    const isOpen = await within(JOIN_TIMEOUT_MS, async () => (await visit()) === 200);
    const stranger = seen.at(-1)?.headers ?? {};
    show(stranger);
    check("the visitor arrived", isOpen);
    check("as a visitor", stranger["tailscale-funnel-request"] === "?1", stranger);
    check("and as nobody, whatever he claims", stranger["tailscale-user-login"] === undefined, stranger);

    const { path: way, latencyMs } = await alice.node.ping(gateway.name);
    title("The path");
    check(`alice reaches the gateway by ${way} in ${latencyMs.toFixed(1)} ms`, true);
    out(
      `\n${failures === 0 ? styleText("green", "Every step held") : styleText("red", `${failures} steps did not hold`)} in ${((performance.now() - started) / 1000).toFixed(1)} s.`,
    );
    if (!isOnce) {
      title("Try it");
      out(`  a node key for a stock client:  ${await key({ user: "alice@example.com" })}`);
      out(`  tailscale up --login-server ${server.url} --auth-key <that key>`);
      out(`  curl -k https://${gateway.name}/`);
      out("  Ctrl+C ends the demo.");
      await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
    }
  } catch (error) {
    failures++;
    const cause = error instanceof Error && error.cause !== undefined ? `: ${messageOf(error.cause)}` : "";
    out(styleText("red", `\n✗ ${messageOf(error)}${cause}`));
    if (words.includes("--verbose") && error instanceof Error) out(error.stack ?? "");
  }
  for (const close of closers.reverse()) await close();
  return failures === 0 ? 0 : 1;
}

/** Asks as a stranger would who claims to be Alice: the status, or nothing where TLS is refused. */
async function visitor(port: number, name: string, ca: string): Promise<() => Promise<number | undefined>> {
  const { get } = await import("node:https");
  const headers = { Host: name, "Tailscale-User-Login": "alice@example.com" };
  return () =>
    new Promise((resolve) => {
      const asked = get({ host: "127.0.0.1", port, servername: name, ca, headers, agent: false }, (response) => {
        response.resume().on("end", () => resolve(response.statusCode));
      });
      asked.on("error", () => resolve(undefined));
    });
}

async function within(ms: number, isSo: () => Promise<boolean>): Promise<boolean> {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    if (await isSo()) return true;
    await sleep(50);
  }
  return false;
}

const MOST_SHOWN = 160;

function show(headers: Seen["headers"]): void {
  for (const [name, value] of Object.entries(headers)) {
    if (!/^(tailscale|sallyport|x-forwarded)/.test(name)) continue;
    const text = String(value);
    out(`    ${styleText("cyan", name)}: ${text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text}`);
  }
}

function sameJson(text: unknown, wanted: unknown): boolean {
  try {
    return JSON.stringify(JSON.parse(String(text))) === JSON.stringify(wanted);
  } catch {
    return false; // no header, or no JSON in it: not the same
  }
}
