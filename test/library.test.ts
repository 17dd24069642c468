import { afterAll, beforeAll, expect, test } from "vitest";
import { type Log, silentLog } from "../src/base/log.ts";
import { createNode } from "../src/index.ts";
import { freePorts } from "./suites/free-ports.ts";
import { FunnelMesh, funnelPolicy } from "./suites/funnel-mesh.ts";

let mesh: FunnelMesh;
beforeAll(async () => {
  mesh = await FunnelMesh.open({ policy: funnelPolicy('"attr": []') });
}, 60_000);
afterAll(() => mesh.close());

test("`createNode` with a key that the server refuses waited for ever, without a word", async () => {
  const { controlUrl } = await mesh.joining("web");
  await expect(createNode({ controlUrl, authKey: "sp-auth-of-before", hostname: "late" })).rejects.toMatchObject({
    ...{ name: "Fault", code: "CONTROL_REGISTER_REFUSED", hint: expect.stringContaining("auth key") },
    message: expect.stringMatching(/^Cannot join the mesh: the server says "/),
  });
});

test("a key that was read from a file, with the end of its line, was refused", async () => {
  const { controlUrl, authKey } = await mesh.joining("web");
  const node = await createNode({ controlUrl, authKey: `${authKey}\n`, hostname: "from-file" });
  expect(node.name).toBe("from-file.tail.test");
  // It gave a listener, and nobody ever came.
  for (const port of [0, 65_536, -1, 1.5, Number.NaN]) {
    expect(() => node.listen(port, () => undefined)).toThrow(`Cannot listen on TCP port ${port}: wanted 1 to 65535`);
  }
  await node.close();
});

test("`createNode` whose time was over did not say that the server cannot be reached", async () => {
  const [port] = await freePorts(1);
  const stop = new AbortController();
  const lines: string[] = [];
  const log: Log = { ...silentLog, warn: (line) => void lines.push(line), with: () => log };
  const joining = createNode({
    ...{ controlUrl: `http://127.0.0.1:${port}`, hostname: "alone", signal: stop.signal },
    log,
  });
  await expect.poll(() => lines, { timeout: 20_000, interval: 5 }).toContain("control.login.failed");
  stop.abort();
  await expect(joining).rejects.toMatchObject({
    code: "MESH_NOT_JOINED",
    message: expect.stringMatching(/before a network map came: Cannot reach "http.*ECONNREFUSED/),
  });
});
