import { statSync } from "node:fs";
import { request } from "node:http";
import path from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { scratchFolder } from "../../test/suites/scratch.ts";
import { silentLog } from "../base/log.ts";
import { memoryStore } from "../base/store.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { openAdminApi } from "./admin-api.ts";
import { Server } from "./server.ts";

const scratch = scratchFolder();
const socketPath = path.join(scratch, "admin.sock");
const store = new MemoryCoordinationStore();
let server: Server;
let api: { close(): Promise<void> };

beforeAll(async () => {
  server = await Server.open({ store, state: memoryStore(), baseDomain: "mesh.internal" });
  api = await openAdminApi({ socketPath, server, log: silentLog });
});
afterAll(async () => {
  await api.close();
  await server.close();
});

function call(
  method: string,
  url: string,
  body: string = "",
  headers: Record<string, string> = {},
): Promise<{ status: number; type: string; body: string }> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path: url, headers }, (response) => {
      const { statusCode = 0, headers: fields } = response;
      text(response).then((all) => resolve({ status: statusCode, type: fields["content-type"] ?? "", body: all }));
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}
const verb = (name: string, args: unknown) => call("POST", `/v1/${name}`, JSON.stringify(args));

describe("the server's local socket", () => {
  test("CF-5 is for the owner alone, not for browsers, and bounded", async () => {
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    for (const header of ["Origin", "Referer"]) {
      for (const url of ["/v1/users.list", "/metrics", "/healthz"]) {
        const { status } = await call(url.startsWith("/v1") ? "POST" : "GET", url, "", { [header]: "http://evil" });
        expect(status).toBe(403);
      }
    }
    expect((await call("POST", "/v1/users.create", "x".repeat(1024 * 1024 + 1))).status).toBe(413);
    const chunked = { "Transfer-Encoding": "chunked" };
    expect((await call("POST", "/v1/users.create", "x".repeat(1024 * 1024 + 1), chunked)).status).toBe(413);
  });

  test.each(["/v1/", "/v1/users.none", "/v1/__proto__", "/v1/constructor", "/", "/metrics/x", "//v1/users.list"])(
    "%s is no verb",
    async (url) => {
      expect((await call("POST", url, "{}")).status).toBe(404);
    },
  );

  test("a refusal says what was found and where", async () => {
    const { status, body } = await verb("policy.check", { source: '{\n  "acls": [1]\n}' });
    expect(status).toBe(400);
    expect(JSON.parse(body)).toMatchObject({ code: expect.stringMatching(/^POLICY_/), line: 2 });
    expect(JSON.parse((await verb("users.create", { login: "" })).body)).toMatchObject({ code: "ADMIN_ARGUMENT" });
  });

  test("a policy's own tests know the roles of users who have no device yet", async () => {
    await verb("users.create", { login: "carol@example.com", role: "admin" });
    const source = (wanted: string) => `{
      "grants": [{"src": ["autogroup:admin"], "dst": ["10.0.0.1"], "ip": ["22"]}],
      "tests": [{"src": "carol@example.com", "${wanted}": ["10.0.0.1:22"]}]}`;
    expect((await verb("policy.check", { source: source("accept") })).status).toBe(200);
    expect((await verb("policy.check", { source: source("deny") })).status).toBe(400);
    await verb("users.delete", { login: "carol@example.com" });
  });

  test("CS-13 metrics follow the ecosystem's names and hold no name, address or key of anybody", async () => {
    await verb("users.create", { login: "alice@example.com" });
    const key = JSON.parse((await verb("keys.create", { user: "alice@example.com" })).body) as { key: string };
    const { status, type, body } = await call("GET", "/metrics");
    expect([status, type]).toEqual([200, expect.stringMatching(/^text\/plain; version=0\.0\.4/)]);
    expect(body).toMatch(/^sallyport_users 1$/m);
    expect(body).toMatch(/^sallyport_nodes\{state="online"\} 0$/m);
    expect(body).toMatch(/^sallyport_registrations_total\{result="admitted"\} 0$/m);
    expect(body).toMatch(/^process_resident_memory_bytes \d+$/m);
    const names = [...body.matchAll(/^# TYPE (sallyport_\S+) (\S+)$/gm)];
    for (const [, name, kind] of names) expect(name!.endsWith("_total"), name).toBe(kind === "counter");
    for (const secret of ["alice", "example.com", key.key, server.url]) expect(body).not.toContain(secret);
  });

  test("CS-13 nothing of this is on the network: health, metrics, verbs and debug pages are 404 there", async () => {
    const paths = ["healthz", "metrics", "v1/users.list", "debug/pprof/", "debug/vars", "api/v1/node", "verify", "ui"];
    for (const path of paths) {
      for (const method of ["GET", "POST"]) {
        const answer = await fetch(`${server.url}/${path}`, { method });
        expect([path, answer.status]).toEqual([path, 404]);
        expect(await answer.text()).not.toMatch(/sallyport_|alice/);
      }
    }
  });

  test("CS-13 health: well, and failing with a reason when the store is gone", async () => {
    expect(await call("GET", "/healthz")).toMatchObject({ status: 200, body: '{"status":"ok","problems":[]}' });
    await store.close();
    const { status, body } = await call("GET", "/healthz");
    expect(status).toBe(503);
    expect(JSON.parse(body)).toMatchObject({ status: "failing", problems: [expect.stringContaining("store")] });
  });
});
