import { existsSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import path from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, expect, test } from "vitest";
import { dnsClient } from "../src/certs/challenges/dns-client.ts";
import { RECORD } from "../src/wire/dns.ts";
import { readTarget } from "../src/wire/dns-data.ts";
import { type Running, sallyport, startSallyport } from "./real/processes.ts";
import { scratchFolder } from "./suites/scratch.ts";

const scratch = scratchFolder();
const state = `${scratch}/server`;
const flags = ["server", "--state", state];
const ports = ["--port", "0", "--derp-port", "0", "--stun-port", "0"];
const admin = (...args: readonly string[]) => sallyport(...flags, ...args);
let server: Running | undefined;
const get = (url: string) =>
  new Promise<string>((resolve, reject) => {
    const socketPath = `${state}/server.sock`;
    request({ socketPath, path: url }, (response) => text(response).then(resolve, reject))
      .on("error", reject)
      .end();
  });
const start = async () => {
  server = await startSallyport([...flags, ...ports], "server.started");
};

afterAll(async () => {
  await server?.kill();
});

test("backup while the server runs, restore after a loss, as a person types them", { timeout: 90_000 }, async () => {
  await start();
  await admin("users", "create", "alice@example.com");
  const policy = path.join(scratch, "policy.hujson");
  writeFileSync(policy, '{ "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:443"] }] } // ours\n');
  await admin("policy", "set", policy);
  const backup = path.join(scratch, "backup");
  await admin("backup", backup);
  expect(statSync(backup).mode & 0o777).toBe(0o600);
  await admin("users", "create", "late@example.com");
  await expect(admin("restore", backup)).rejects.toThrow("a server runs on it");
  await expect(admin("backup", backup)).rejects.toThrow("the file exists");
  await server!.kill();

  rmSync(state, { recursive: true });
  await admin("restore", backup);
  await start();
  expect(await admin("users", "list")).not.toContain("late@example.com");
  expect(await admin("policy", "get")).toContain("// ours");
  expect(JSON.parse(await admin("log"))).toMatchObject([{ action: "server.restore" }, { action: "policy.set" }, {}]);
  for (const key of ["noise.key", "derp.key"]) expect(existsSync(path.join(state, key))).toBe(true);
  expect(JSON.parse(await get("/healthz"))).toEqual({ status: "ok", problems: [] });
  expect(await get("/metrics")).toMatch(/^sallyport_users 1$/m);
});

test("DN-9 --dns-zone answers for the zone", { timeout: 90_000 }, async () => {
  const where = ["server", "--state", `${scratch}/zone`, ...ports];
  const zone = ["--dns-zone", "Mesh.example.", "--dns-ns", "ns1.mesh.example=203.0.113.5", "--dns-listen"];
  const running = await startSallyport([...where, ...zone, "127.0.0.1:0"], "server.started");
  const port = /"zone.started"/.test(running.log()) ? /"port":(\d+),"msg":"zone.started"/.exec(running.log())?.[1] : "";
  const lookup = dnsClient({ servers: [`127.0.0.1:${port}`] });
  const { answers } = await lookup.ask("mesh.example", RECORD.NS, { signal: AbortSignal.timeout(30_000) });
  expect(answers.map(({ data }) => readTarget(data))).toEqual(["ns1.mesh.example"]);
  await running.kill();
});
