import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { directoryStore } from "../src/base/directory-store.ts";
import { createNode } from "../src/index.ts";
import { listening } from "./suites/listening.ts";
import { scratchFolder } from "./suites/scratch.ts";

const bin = path.resolve(import.meta.dirname, "../src/bin.ts");
const scratch = scratchFolder();
const [serverDir, gatewayDir] = [`${scratch}/server`, `${scratch}/gateway`];
const socket = `${scratch}/gateway.sock`;
const children: ChildProcess[] = [];
let backend: Server | undefined;
/** Everything that any process wrote, answers of commands included. */
let written = "";

afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  backend?.close();
});

function launch(args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", bin, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      written += String(chunk);
    });
  }
  return child;
}

/** Starts a long-running command with everything logged; gives the line of that event. */
async function start(args: readonly string[], event: string): Promise<Record<string, unknown>> {
  launch([...args, "--log", "debug"]);
  const line = () => written.split("\n").find((one) => one.includes(`"msg":"${event}"`));
  await expect.poll(line, { timeout: 30_000 }).toBeDefined();
  return JSON.parse(line()!) as Record<string, unknown>;
}

/** Runs a short command to its end. */
async function command(...args: readonly string[]): Promise<void> {
  const child = launch(args);
  await new Promise((resolve) => child.on("close", resolve));
}

/** The one command that is to print a secret. */
async function newKey(...args: readonly string[]): Promise<string> {
  const before = written;
  await command("server", "--state", serverDir, "keys", "create", ...args);
  const key = /sp-auth-\S+/.exec(written.slice(before.length))?.[0] ?? "";
  expect(key).toMatch(/^sp-auth-[0-9a-f]{12}-[0-9a-f]{64}$/);
  written = before;
  return key;
}

const canary = (): string => randomBytes(12).toString("hex");

/** Every private value of a state folder, in the forms in which it could leak. */
async function secretsIn(folder: string): Promise<string[]> {
  const store = await directoryStore(folder);
  const secrets: string[] = [];
  for (const name of readdirSync(folder).filter((file) => /\.(key|pem|json)$/.test(file))) {
    const bytes = Buffer.from((await store.get(name)) ?? []);
    const text = bytes.toString("utf8").replaceAll("\\n", "\n");
    const keys = [...text.matchAll(/privkey:([0-9a-f]{64})/g)].map(([, hex]) => Buffer.from(hex!, "hex"));
    if (name.endsWith(".key")) keys.push(bytes);
    secrets.push(...keys.flatMap((key) => [key.toString("hex"), key.toString("base64"), key.toString("base64url")]));
    // The first line of a private key in PEM holds much of the key itself.
    secrets.push(
      ...[...text.matchAll(/-----BEGIN (?:EC )?PRIVATE KEY-----\n([^\n]{20,64})/g)].map(([, line]) => line!),
    );
  }
  return secrets;
}

test("SE-1 (short) no secret is in any output: keys, tokens, cookies, query strings, passwords in URLs", {
  timeout: 120_000,
}, async () => {
  const ports = ["--port", "0", "--derp-port", "0", "--stun-port", "0"];
  const url = String((await start(["server", "--state", serverDir, ...ports], "server.started"))["url"]);
  await command("server", "--state", serverDir, "users", "create", "alice@example.com");
  const [used, second] = [await newKey("--user", "alice@example.com", "--reusable"), await newKey("--tags", "tag:a")];
  writeFileSync(`${scratch}/key`, used, { mode: 0o600 });
  const settings = ["--login-server", url, "--hostname", "gw", "--state", gatewayDir, "--socket", socket];
  await start(["run", ...settings, "--auth-key", `file:${scratch}/key`], "gateway.started");
  await expect.poll(() => written, { timeout: 20_000 }).toContain("derp.client_connected");

  // Half of the requests meet a backend that breaks every rule, half one that is not there.
  backend = createServer((request) => request.socket.end("HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n"));
  const port = await listening(backend);
  const secrets = {
    token: canary(),
    cookie: canary(),
    query: canary(),
    body: canary(),
    password: canary(),
    key: canary(),
  };
  await command("--socket", socket, "serve", "--bg", "--http", "80", String(port));
  await command("--socket", socket, "serve", "--bg", "--http", "81", "1");
  await command("--socket", socket, "serve", "--bg", "--http", "82", `http://user:${secrets.password}@127.0.0.1:3000`);
  const node = await createNode({
    controlUrl: url,
    authKey: used,
    hostname: "laptop",
    signal: AbortSignal.timeout(20_000),
  });
  try {
    const headers = { Authorization: `Bearer ${secrets.token}`, Cookie: `session=${secrets.cookie}` };
    for (let at = 0; at < 60; at++) {
      const target = `http://gw.mesh.internal:${80 + (at % 2)}/${at % 4 === 0 ? "p%ZZ" : "p"}${at}?token=${secrets.query}`;
      const body = at % 3 === 0 ? { method: "POST", body: secrets.body } : {};
      await node.fetch(target, { headers, ...body, signal: AbortSignal.timeout(10_000) }).then(
        (answer) => answer.text().catch(() => ""),
        () => "",
      );
      const stream = await node.dial({ address: "gw.mesh.internal", port: 80 });
      stream.on("error", () => {});
      stream.end(
        `GET /?${secrets.query} HTTP/9.9\r\nAuthorization: ${secrets.token}\r\nHost: ${secrets.cookie} x\r\n\r\n`,
      );
      stream.resume();
    }
  } finally {
    await node.close();
  }
  for (const words of [
    ["status", "--json"],
    ["metrics"],
    ["health"],
    ["jwks"],
    ["ca"],
    ["serve", "status", "--json"],
  ]) {
    await command("--socket", socket, ...words);
  }
  for (const words of [["nodes", "list"], ["keys", "list"], ["log"]]) {
    await command("server", "--state", serverDir, ...words);
  }
  // Keys that are refused, from three places; the third one is spoilt.
  const elsewhere = (name: string) => [
    "run",
    "--login-server",
    url,
    "--state",
    "mem:",
    "--socket",
    `${scratch}/${name}`,
  ];
  launch([...elsewhere("a"), "--auth-key", `sp-auth-000000000000-${secrets.key}`, "--log", "debug"]);
  launch([...elsewhere("b"), "--log", "debug"], { TS_AUTHKEY: `tskey-auth-${secrets.key}` });
  writeFileSync(`${scratch}/spoilt`, `${second}\n${secrets.key}`, { mode: 0o600 });
  launch([...elsewhere("c"), "--auth-key", `file:${scratch}/spoilt`, "--log", "debug"]);
  await expect.poll(() => written.match(/invalid pre auth key/g)?.length ?? 0, { timeout: 20_000 }).toBeGreaterThan(1);
  const running = children.filter(({ exitCode }) => exitCode === null);
  for (const child of running) child.kill("SIGTERM");
  await Promise.all(running.map((child) => new Promise((resolve) => child.on("close", resolve))));

  const kept = [...(await secretsIn(serverDir)), ...(await secretsIn(gatewayDir))];
  expect(kept.length).toBeGreaterThan(12);
  const all = [...Object.values(secrets), ...kept, used.slice(-64), second.slice(-64)];
  const lines = written.split("\n");
  const leaks = all.flatMap((secret) => lines.filter((line) => line.includes(secret)).slice(0, 3));
  expect(leaks).toEqual([]);
  expect(written).toMatch(/proxy\.backend_failed/);
});
