import net from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { memoryStore, type Store } from "../src/base/store.ts";
import { LocalClient } from "../src/cli/local-client.ts";
import { GatewayAdmin } from "../src/gateway/admin.ts";
import type { Gateway } from "../src/gateway/gateway.ts";
import { NOTIFY, type Notify } from "../src/wire/ipn.ts";
import { FunnelMesh, funnelPolicy } from "./suites/funnel-mesh.ts";
import { openLocalSocket } from "./suites/local-gateway.ts";
import { scratchFolder } from "./suites/scratch.ts";
import { typedAt } from "./suites/typed-command.ts";

const WAIT = { timeout: 30_000, interval: 5 };

/** A disk that takes its time; `beforeWrite` holds what is served back. */
class SlowStore implements Store {
  readonly #inner = memoryStore();
  writes = 0;
  beforeWrite: () => Promise<unknown> = async () => undefined;
  hurry(): void {
    this.beforeWrite = async () => undefined;
  }
  get = (name: string) => this.#inner.get(name);
  delete = (name: string) => this.#inner.delete(name);
  async set(name: string, bytes: Uint8Array): Promise<void> {
    if (name === "serve.json") {
      this.writes += 1;
      await this.beforeWrite();
    }
    await this.#inner.set(name, bytes);
  }
}

/** Tells of streams that end. */
class Admin extends GatewayAdmin {
  ended = 0;
  override watch(mask: number, onNotify: (notify: Notify) => void): { session: string; close(): void } {
    const { session, close } = super.watch(mask, onNotify);
    return {
      session,
      close: () => {
        close();
        this.ended += 1;
      },
    };
  }
}

let mesh: FunnelMesh;
let admin: Admin;
let gateway: Gateway;
let socket: string;
const store = new SlowStore();
const kept = async (): Promise<unknown> =>
  JSON.parse(Buffer.from((await store.get("serve.json")) ?? []).toString("utf8"));

beforeAll(async () => {
  mesh = await FunnelMesh.open({ policy: funnelPolicy('"attr": ["funnel", "https"]') });
  gateway = await mesh.gateway({ hostname: "web", store });
  admin = new Admin(gateway);
  const local = await openLocalSocket(admin);
  socket = local.path;
  mesh.defer(() => local.close());
}, 60_000);

afterAll(() => mesh.close());

test("CF-4 of twelve commands at once all said that they serve, and one was served", async () => {
  store.beforeWrite = () => turn().then(turn);
  onTestFinished(() => store.hurry());
  const mounts = Array.from({ length: 12 }, (_, at) => `/m${at}`);
  let refused = 0;
  for (let round = 0; round < 10; round++) {
    const typed = await Promise.all(
      mounts.map((mount) => typedAt(socket, ["serve", "--bg", `--set-path=${mount}`, "text:x"])),
    );
    const served = mounts.filter((_, at) => typed[at]?.code === 0);
    expect(served.length).toBeGreaterThan(0);
    refused += mounts.length - served.length;
    for (const { code, stderr } of typed)
      expect(code === 0 || stderr.startsWith("Another client is changing")).toBe(true);
    const Handlers = Object.fromEntries(served.map((mount) => [mount, { Text: "x" }]));
    const Web = { "web.tail.test:443": { Handlers } };
    expect(gateway.storedServeConfig?.Web).toEqual(Web);
    expect(await kept()).toMatchObject({ Web });
    await typedAt(socket, ["serve", "reset"]);
  }
  expect(refused).toBeGreaterThan(0);
});

test("a command in the foreground, begun again at once, heard that its port is taken", async () => {
  const { writes } = store;
  for (let times = 0; times < 5; times++) {
    const stop = new AbortController();
    const onText = ({ stdout }: { readonly stdout: string }): void => {
      if (stdout.includes("Press Ctrl+C")) stop.abort();
    };
    const typed = await typedAt(socket, ["serve", "--https=8443", "text:x"], { signal: stop.signal, onText });
    expect(typed).toMatchObject({ code: 0, stderr: "" });
  }
  await expect.poll(() => gateway.storedServeConfig?.Foreground, WAIT).toBeUndefined();
  expect(store.writes).toBe(writes); // what ends with a process needs no disk
});

test("a command that was killed before its part was written stayed for ever", async () => {
  const held = Promise.withResolvers<void>();
  store.beforeWrite = () => held.promise;
  onTestFinished(() => store.hurry());
  const killed = new AbortController();
  const stream = new LocalClient(socket, killed.signal).watch(NOTIFY.initialState, killed.signal);
  const first = await stream.next();
  const session = first.done === true ? "" : (first.value.SessionID ?? "");
  const lasting = { TCP: { 8443: { TCPForward: "localhost:1" } } };
  const before = store.writes;
  const client = new LocalClient(socket, AbortSignal.timeout(30_000));
  const written = client.setServeConfig(
    { ...lasting, Foreground: { [session]: { TCP: { 9443: { HTTPS: true } } } } },
    "",
  );
  await expect.poll(() => store.writes, WAIT).toBe(before + 1);
  const { ended } = admin;
  killed.abort();
  await stream.return();
  await expect.poll(() => admin.ended, WAIT).toBe(ended + 1);
  held.resolve();
  await written;
  await expect.poll(() => gateway.storedServeConfig, WAIT).toEqual(lasting);
});

test("a command in the foreground ends well with its gateway, and one that is cut off says so", async () => {
  const line = ["serve", "--https=9443", "text:x"];
  const ending = await openLocalSocket(admin);
  const ended = await typedAt(ending.path, line, {
    onText: ({ stdout }) => void (stdout.includes("Press Ctrl+C") && ending.close()),
  });
  expect(ended).toMatchObject({ code: 0, stderr: "" });

  const local = await openLocalSocket(admin);
  const sockets: net.Socket[] = [];
  const between = net.createServer((socket) => {
    const onward = net.connect(local.path);
    sockets.push(socket, onward);
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const)
      from.on("error", () => undefined).pipe(to);
  });
  const path = `${scratchFolder()}/between.sock`;
  await new Promise<void>((resolve) => between.listen(path, resolve));
  const cut = await typedAt(path, line, {
    onText: ({ stdout }) => {
      if (stdout.includes("Press Ctrl+C")) for (const socket of sockets) socket.destroy();
    },
  });
  expect(cut).toMatchObject({ code: 1, stderr: "lost connection to the gateway\n" });
  between.close();
  await local.close();
});

test("a file that was read again while a command's write was on its way to the disk was undone by the command", async () => {
  const reached = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  store.beforeWrite = () => {
    reached.resolve();
    return release.promise;
  };
  onTestFinished(() => store.hurry());
  const typed = typedAt(socket, ["serve", "--bg", "--set-path=/command", "text:x"]);
  await reached.promise;
  const Web = { "web.tail.test:443": { Handlers: { "/file": { Text: "x" } } } };
  gateway.declare({ TCP: { 443: { HTTPS: true } }, Web });
  release.resolve();
  expect((await typed).stderr).toMatch(/^Another client is changing/);
  expect(gateway.storedServeConfig?.Web).toEqual(Web);
});
