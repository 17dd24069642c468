import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { makeHello } from "./suites/client-hellos.ts";
import { brings, FunnelMesh, publicTcp } from "./suites/funnel-mesh.ts";
import { lossyUdp } from "./suites/lossy-udp.ts";

const WAIT = { timeout: 60_000, interval: 20 };
const MIB = 1024 * 1024;
/** 1024: a GiB each way, which takes a minute, and some where a tenth is lost. */
const BULK_MIB = Number(process.env["SALLYPORT_BULK_MIB"] ?? 24);
const LOSSY_MIB = Number(process.env["SALLYPORT_LOSSY_MIB"] ?? BULK_MIB / 8);
const KINDS = ["sound", "lossy"] as const;
type Kind = (typeof KINDS)[number];
const helloTo = (kind: Kind): Buffer => makeHello({ name: `${kind}-web.tail.test` });

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

let mesh: FunnelMesh;
/** Told of each connection that came to the backend. */
let visited: (socket: Socket) => void = () => {};
/** Of what the relay is sent, and of what the gateway is. */
const losses = { relay: { lost: 0 }, gateway: { lost: 0 } };
/** Where visitors come in: to a gateway from which nothing is lost, and to one where a tenth is, both ways. */
const entrances: Record<Kind, number> = { sound: 0, lossy: 0 };

beforeAll(async () => {
  mesh = await FunnelMesh.open();
  const backend = await mesh.listen(
    createServer({ allowHalfOpen: true }, (socket) => {
      socket.on("error", () => undefined);
      visited(socket);
    }),
  );
  for (const kind of KINDS) {
    const losing = (counts: { lost: number }, seed: number) =>
      kind === "sound" ? {} : { openUdp: lossyUdp(0.1, seed, counts) };
    const gateway = await mesh.gateway({ hostname: `${kind}-web`, ...losing(losses.gateway, 11) });
    await gateway.setServeConfig(publicTcp(gateway.name, 443, backend));
    const relay = await mesh.relay({ hostname: kind, ...losing(losses.relay, 7) });
    await vi.waitUntil(() => brings(relay, gateway.name), WAIT);
    entrances[kind] = relay.ports[0]!;
  }
}, 120_000);

afterAll(async () => {
  await mesh.close();
});

function visit(kind: keyof typeof entrances): Socket {
  const socket = connect({ port: entrances[kind], host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

/** Sends `head` and so many bytes that do not repeat, then ends; gives their hash. */
async function send(socket: Socket, head: Uint8Array, size: number): Promise<string> {
  const hash = createHash("sha256").update(head);
  socket.write(head);
  const block = randomBytes(MIB);
  for (let left = size, number = 0; left > 0; number++) {
    const part = Buffer.from(block.subarray(0, Math.min(left, 64 * 1024)));
    if (part.length >= 4) part.writeUInt32BE(number);
    block.writeUInt32BE(number, (4 * number) % (64 * 1024));
    left -= part.length;
    hash.update(part);
    if (!socket.write(part)) await once(socket, "drain");
  }
  socket.end();
  return hash.digest("hex");
}

/** The hash of all that comes until the end; a connection that was cut has none. */
function hashOf(socket: Socket): Promise<string> {
  const hash = createHash("sha256");
  return new Promise((resolve) => {
    socket.on("data", (part: Buffer) => void hash.update(part));
    socket.once("end", () => resolve(hash.digest("hex")));
    socket.once("close", () => resolve("cut"));
  });
}

describe("the same bytes, hello included", () => {
  test.each([
    ...[1, BULK_MIB * MIB].map((size) => ["sound", size] as const),
    ...[1, 1000, 100_000, LOSSY_MIB * MIB].map((size) => ["lossy", size] as const),
  ])("FN-1 by a %s mesh, %i bytes each way at once", { timeout: 1_200_000 }, async (kind, size) => {
    const before = { relay: losses.relay.lost, gateway: losses.gateway.lost };
    const { promise, resolve } = Promise.withResolvers<{ sent: Promise<string>; heard: Promise<string> }>();
    visited = (socket) => resolve({ heard: hashOf(socket), sent: send(socket, Buffer.from("answer"), size) });
    const visitor = visit(kind);
    const heard = hashOf(visitor);
    const sent = send(visitor, helloTo(kind), size);
    const atBackend = await promise;
    expect(await heard).toBe(await atBackend.sent);
    expect(await atBackend.heard).toBe(await sent);
    if (kind === "sound") return;
    // It did not go by DERP.
    for (const end of ["relay", "gateway"] as const)
      expect(losses[end].lost - before[end]).toBeGreaterThanOrEqual(Math.floor(size / 500_000));
  });
});

describe("slow visitors", () => {
  const PATIENCE = 40;
  /** 8 MiB is the largest of both ends' windows; what lies on kernel sockets is not ours. */
  const MOST_EACH = 2 * 8 * MIB + MIB;

  /** What the process holds in buffers: relay, gateway, backend and visitor are all in it. */
  function buffered(): number {
    collectGarbage();
    return process.memoryUsage().arrayBuffers;
  }

  test("FN-1 who reads nothing holds no more than TCP's windows of relay and gateway, and gets all when he reads", async () => {
    const backends: Socket[] = [];
    const block = randomBytes(64 * 1024);
    const size = 64 * MIB;
    visited = (socket) => {
      backends.push(socket);
      let left = size;
      const more = (): void => {
        while (left > 0) {
          left -= block.length;
          if (!socket.write(block)) return void socket.once("drain", more);
        }
        socket.end();
      };
      more();
    };
    const before = buffered();
    const visitors = Array.from({ length: 4 }, () => visit("sound"));
    for (const visitor of visitors) visitor.pause().write(helloTo("sound"));
    await expect.poll(() => backends.length, WAIT).toBe(visitors.length);
    let taken = 0;
    let still = 0;
    const taking = () =>
      backends.reduce((sum, { bytesWritten, writableLength }) => sum + bytesWritten - writableLength, 0);
    await expect
      .poll(() => {
        still = taking() === taken ? still + 1 : 0;
        taken = taking();
        return still;
      }, WAIT)
      .toBeGreaterThan(PATIENCE);
    expect(taken).toBeLessThan(visitors.length * size); // the backends wait
    // V8 frees the rings that were outgrown in a thread of its own, some time after the collection.
    await expect.poll(() => (buffered() - before) / visitors.length, WAIT).toBeLessThan(MOST_EACH);
    const [first] = visitors;
    let heard = 0;
    first!.on("data", (part: Buffer) => {
      heard += part.length;
    });
    first!.resume();
    await once(first!, "end");
    expect(heard).toBe(size);
  }, 180_000);
});
