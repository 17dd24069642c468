import { connect } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { memoryStore } from "../base/store.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { Server } from "./server.ts";

test("the URL that a client shows leads to a page and not to 404; other paths are 404", async () => {
  const store = new MemoryCoordinationStore();
  const server = await Server.open({ store, state: memoryStore(), baseDomain: "tail.test" });
  onTestFinished(() => server.close());
  const request = { Version: 130, NodeKey: `nodekey:${"ab".repeat(32)}`, Hostinfo: { Hostname: "laptop" } };
  const machineKey = `mkey:${"cd".repeat(32)}`;
  const { AuthURL } = await server.coordinator.register(machineKey, request, new AbortController().signal);
  const page = await fetch(AuthURL!);
  expect([page.status, page.headers.get("content-security-policy")]).toEqual([200, expect.stringContaining("'none'")]);
  expect(await page.text()).toContain(`sallyport server nodes approve ${AuthURL!.split("/").at(-1)}`);
  for (const [path, status] of [
    ["/register/", 404],
    ["/register/0123abcd", 404],
    ['/register/"><script>', 404],
    ["/other", 404],
    ["/key?v=100", 200],
  ] as const) {
    expect((await fetch(server.url + path)).status, path).toBe(status);
  }
});

test("a request for // or for no URL at all is a 404 and does not end the server, whoever sends it", async () => {
  const store = new MemoryCoordinationStore();
  const server = await Server.open({ store, state: memoryStore(), baseDomain: "tail.test" });
  onTestFinished(() => server.close());
  const { hostname, port } = new URL(server.url);
  const upgrade = "Connection: Upgrade\r\nUpgrade: tailscale-control-protocol\r\nContent-Length: 0";
  for (const target of ["//", "//:", "http://[", "http://:0:0/", "*", "/other"]) {
    for (const fields of ["Connection: close", upgrade]) {
      const client = connect(Number(port), hostname);
      client.write(`OPTIONS ${target} HTTP/1.1\r\nHost: x\r\n${fields}\r\n\r\n`);
      expect(Buffer.concat(await client.toArray()).toString(), target).toMatch(/^HTTP\/1.1 40[04] /);
    }
  }
  expect((await fetch(`${server.url}/key?v=100`)).status).toBe(200);
});
