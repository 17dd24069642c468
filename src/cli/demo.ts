import { readFile } from "node:fs/promises";
import { createServer, type Server as HttpServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
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
import { Server } from "../server/server.ts";
import type { CliIo } from "./io.ts";

const CAPABILITY = "example.com/cap/app";
const ALICE_MAY = { action: ["*"], resources: ["*"] };
const BOB_MAY = { action: ["list_devices"], resources: ["bootstrap://status", "tailscale://devices"] };
const JOIN_TIMEOUT_MS = 20_000;

/** The announcement's two grants; `ip` lets the packets in, `app` says what the caller may do. */
const policy = (gateway: string): string => `// The demo's policy: who reaches the app, and what each may do there.
{
  "hosts": { "app": "${gateway}" },
  "tagOwners": { "tag:ci": ["alice@example.com"], "tag:gate": ["alice@example.com"] },
  "grants": [
    { "src": ["alice@example.com"], "dst": ["app"], "ip": ["tcp:443"],
      "app": { "${CAPABILITY}": [${JSON.stringify(ALICE_MAY)}] } },
    { "src": ["bob@example.com"], "dst": ["app"], "ip": ["tcp:443"],
      "app": { "${CAPABILITY}": [${JSON.stringify(BOB_MAY)}] } },
    { "src": ["tag:ci"], "dst": ["app"], "ip": ["tcp:443"] },
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

/** `sallyport demo`: the whole promise on loopback. Exit status 0 only if every step held. */
export async function demo(words: readonly string[], io: CliIo): Promise<number> {
  failures = 0;
  const isOnce = words.includes("--once");
  const log = createLog(words.includes("--verbose") ? "debug" : "silent");
  const closers: (() => unknown)[] = [];
  const started = performance.now();
  try {
    out(styleText("bold", "Sallyport demo: one mesh on loopback, no root, nothing leaves this machine"));
    const seen: Seen[] = [];
    const backend = await sampleBackend(seen);
    closers.push(() => backend.close());
    const backendPort = (backend.address() as AddressInfo).port;
    out(`  backend       http://127.0.0.1:${backendPort} (answers with the headers it received)`);

    const server = await Server.open({
      store: new MemoryCoordinationStore(),
      state: memoryStore(),
      baseDomain: "demo.test",
      log,
    });
    closers.push(() => server.close());
    out(`  server        ${server.url} (coordination, DERP, STUN)`);
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
      log: log.with("gateway"),
    });
    closers.push(() => gateway.close());
    const signal = AbortSignal.timeout(JOIN_TIMEOUT_MS);
    await gateway.node.ready(signal);
    await gateway.setServeConfig(nodeServeConfig(declared, gateway.name));
    const address = gateway.node.addresses[0]!;
    out(`  gateway       https://${gateway.name} (${address})`);
    await server.setPolicy(policy(address), "demo");

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
      const web = meshFetch({ dial: (to, how) => node.dial(to, how), ca: await gateway.certificates.authority() });
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
