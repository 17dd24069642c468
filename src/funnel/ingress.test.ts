import { createHash, randomBytes } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, onTestFinished, test } from "vitest";
import { browserHello, helloMessage, inRecords, makeHello } from "../../test/suites/client-hellos.ts";
import { nodeSide, openIngress, publicName, type Visitor, visit } from "../../test/suites/ingress-scene.ts";
import { listening } from "../../test/suites/listening.ts";
import { parsePrefix } from "../base/address.ts";
import { Fault } from "../base/fault.ts";
import { NameTable } from "./public-names.ts";

const WAIT = { timeout: 20_000, interval: 2 };
const NAME = "box.tail.test";
const HELLO = makeHello({ name: NAME });
const ALERTS = { unrecognized: "15030300020270", internal: "15030300020250", decode: "15030300020232" };

/** Hellos that do not end: from 500 on, what the whole process holds is looked at, too. */
const PENDING = Number(process.env["SALLYPORT_PENDING"] ?? 64);

const alertOf = async (visitor: Visitor): Promise<string> => {
  await expect.poll(visitor.ending, WAIT).toBe("end");
  return visitor.heard().toString("hex");
};

describe("a visit", () => {
  test("FN-1 asks the node's peerapi as upstream's relay does, and sends nothing before the 101", async () => {
    const node = nodeSide({ answer: () => undefined });
    const { port } = await openIngress([publicName(NAME)], node.dial);
    const visitor = visit(port, HELLO);
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    const [delivery] = node.deliveries;
    const { port: from } = visitor.socket.address() as { port: number };
    expect(delivery?.head).toBe(
      [
        "POST /v0/ingress HTTP/1.1",
        "Host: 100.64.0.5:39291",
        `Tailscale-Ingress-Src: 127.0.0.1:${from}`,
        `Tailscale-Ingress-Target: ${NAME}:443`,
        "Content-Length: 0",
        "Sallyport-Ingress-Early: ?0",
        "\r\n",
      ].join("\r\n"),
    );
    expect(delivery?.bytes().length).toBe(0);
    delivery?.conn.write(Buffer.from("HTTP/1.1 101 Switching Protocols\r\n\r\nfirst words"));
    await expect.poll(() => delivery?.bytes().toString("hex"), WAIT).toBe(HELLO.toString("hex"));
    await expect.poll(() => visitor.heard().toString(), WAIT).toBe("first words");
  });

  test("a node that takes early words gets the next visitor's hello behind the request, and a stock one never", async () => {
    const field = "Sallyport-Ingress-Early: ?1";
    const asked = (head: string | undefined): string | undefined => /Early: (\?[01])\r\n/.exec(head ?? "")?.[1];
    const ours = `HTTP/1.1 101 Switching Protocols\r\n${field}\r\n\r\n`;
    const stock = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    const answers = [stock, stock, ours, undefined, stock, stock];
    const node = nodeSide({ answer: () => answers[node.deliveries.length - 1] });
    const { port } = await openIngress([publicName(NAME)], node.dial);
    const seen: (string | undefined)[] = [];
    for (let i = 0; i < answers.length; i++) {
      const visitor = visit(port, HELLO);
      await expect.poll(() => node.deliveries.length, WAIT).toBe(i + 1);
      const { head, bytes, conn } = node.deliveries[i]!;
      seen.push(asked(head));
      if (i === 4) {
        // It spoke as one that lost what it was sent: the visitor is told, and the next one is brought as before.
        expect(await alertOf(visitor)).toBe(ALERTS.internal);
        continue;
      }
      await expect.poll(() => bytes().toString("hex"), WAIT).toBe(HELLO.toString("hex"));
      if (answers[i] === undefined) conn.write(Buffer.from(ours)); // after the hello has come
      conn.write(Buffer.from("words"));
      await expect.poll(() => visitor.heard().toString(), WAIT).toBe("words");
    }
    expect(seen).toEqual(["?0", "?0", "?0", "?1", "?1", "?0"]);
  });

  test("a megabyte behind an early hello waits for the node, and arrives whole", async () => {
    const ours = "HTTP/1.1 101 Switching Protocols\r\nSallyport-Ingress-Early: ?1\r\n\r\n";
    const node = nodeSide({ answer: () => (node.deliveries.length === 1 ? ours : undefined) });
    const { port } = await openIngress([publicName(NAME)], node.dial);
    visit(port, HELLO);
    await expect.poll(() => node.deliveries[0]?.bytes().length, WAIT).toBe(HELLO.length);
    const up = Buffer.concat([HELLO, randomBytes(1_000_000)]);
    visit(port, up);
    await expect.poll(() => node.deliveries.length, WAIT).toBe(2);
    const { conn, bytes } = node.deliveries[1]!;
    await expect.poll(() => bytes().length, WAIT).toBeGreaterThanOrEqual(HELLO.length);
    expect(bytes().length).toBeLessThanOrEqual(160 * 1024);
    conn.write(Buffer.from(ours));
    await expect.poll(() => digest(bytes()), WAIT).toBe(digest(up));
  });

  test("FN-1 the bytes arrive as they were sent, both ways, hello included", async () => {
    const node = nodeSide();
    const { port } = await openIngress([publicName(NAME)], node.dial);
    const up = Buffer.concat([browserHello(NAME), randomBytes(3_000_000)]);
    const down = randomBytes(3_000_000);
    const visitor = visit(port, up);
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    const { conn, bytes, isEnded } = node.deliveries[0]!;
    for (let at = 0; at < down.length; at += 50_000) conn.write(down.subarray(at, at + 50_000));
    conn.end();
    visitor.socket.end();
    await expect.poll(() => isEnded() && visitor.ending(), WAIT).toBe("end");
    expect(digest(bytes())).toBe(digest(up));
    expect(digest(visitor.heard())).toBe(digest(down));
  });

  test("each direction ends on its own", async () => {
    const node = nodeSide();
    const { port } = await openIngress([publicName(NAME)], node.dial);
    const visitor = visit(port, HELLO);
    visitor.socket.end();
    await expect.poll(() => node.deliveries[0]?.isEnded(), WAIT).toBe(true);
    node.deliveries[0]?.conn.write(Buffer.from("said after the visitor's end"));
    await expect.poll(() => visitor.heard().toString(), WAIT).toBe("said after the visitor's end");
    expect(visitor.ending()).toBeUndefined();
    node.deliveries[0]?.conn.end();
    await expect.poll(visitor.ending, WAIT).toBe("end");
  });

  test("a visitor who has ended before the node answers", async () => {
    const node = nodeSide({ answer: () => undefined });
    const { port } = await openIngress([publicName(NAME)], node.dial);
    const visitor = visit(port, HELLO);
    visitor.socket.end();
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    for (let i = 0; i < 50; i++) await new Promise<void>((resolve) => setImmediate(resolve));
    node.deliveries[0]!.conn.write(Buffer.from("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    await expect.poll(() => node.deliveries[0]!.isEnded(), WAIT).toBe(true);
    expect(node.deliveries[0]!.bytes().toString("hex")).toBe(HELLO.toString("hex"));
  });

  test("FN-13 a node that is cut off resets the visitor, a visitor who is gone is cut at the node", async () => {
    const node = nodeSide();
    const { port, ingress } = await openIngress([publicName(NAME)], node.dial);
    const visitors = [visit(port, HELLO), visit(port, HELLO)];
    await expect.poll(() => node.deliveries.filter(({ bytes }) => bytes().length > 0).length, WAIT).toBe(2);
    const own = (visitor: Visitor) => String((visitor.socket.address() as { port: number }).port);
    const [first, second] = visitors.map((visitor) => node.deliveries.find(({ head }) => head.includes(own(visitor))));
    first?.conn.abort(new Fault("TEST", "the relay's tunnel is gone"));
    await expect.poll(visitors[0]!.ending, WAIT).toBe("reset");
    visitors[1]!.socket.resetAndDestroy();
    await expect.poll(() => second?.isCut(), WAIT).toBe(true);
    await expect.poll(() => ingress.open, WAIT).toBe(0);
  });

  test("FN-13 a visitor whose node says its end and is cut in one breath does not stay for ever", async () => {
    const node = nodeSide();
    const { port, ingress } = await openIngress([publicName(NAME)], node.dial);
    visit(port, HELLO);
    await expect.poll(() => node.deliveries.filter(({ bytes }) => bytes().length > 0).length, WAIT).toBe(1);
    node.deliveries[0]!.conn.end();
    node.deliveries[0]!.conn.abort(new Fault("TEST", "the relay's tunnel is gone"));
    await expect.poll(() => ingress.open, WAIT).toBe(0);
  });

  test("a node that does not read holds the visitor back", async () => {
    const node = nodeSide({ reads: false });
    const { port } = await openIngress([publicName(NAME)], node.dial);
    const visitor = visit(port, HELLO);
    let accepted = 0;
    const part = Buffer.alloc(256 * 1024);
    const fill = (): void => {
      while (accepted < 64 * part.length && visitor.socket.write(part)) accepted += part.length;
      if (accepted < 64 * part.length) visitor.socket.once("drain", fill);
    };
    fill();
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    await expect.poll(() => visitor.socket.writableLength, WAIT).toBeGreaterThan(0);
    expect(accepted).toBeLessThan(64 * part.length);
    expect(node.deliveries[0]!.bytes().length).toBeLessThanOrEqual(64 * 1024);
  });
});

describe("FN-3 who asks for what is not public learns nothing", () => {
  const names = [
    publicName(NAME),
    publicName("*.demo.example.org"),
    publicName("away.tail.test", { peerApi: undefined }),
  ];
  test.each<readonly [string, Buffer]>([
    ["an unknown name", makeHello({ name: "nobody.tail.test" })],
    ["a name below a public one", makeHello({ name: `x.${NAME}` })],
    ["a name two levels below a wildcard", makeHello({ name: "a.b.demo.example.org" })],
    ["the wildcard's own domain", makeHello({ name: "demo.example.org" })],
    ["an IPv4 address", makeHello({ name: "127.0.0.1" })],
    ["an IPv6 address", makeHello({ name: "::1" })],
    ["odd text", makeHello({ name: `${NAME}/../x` })],
    ["no name", makeHello({})],
  ])("%s: the same alert", async (_, hello) => {
    const node = nodeSide();
    const { port, ingress } = await openIngress(names, node.dial);
    expect(await alertOf(visit(port, hello))).toBe(ALERTS.unrecognized);
    expect(node.deliveries).toEqual([]);
    expect(ingress.counts.unknown_name).toBe(1);
  });

  test.each(["a.demo.example.org", "BOX.Tail.Test", "box.tail.test."])("%s is public", async (name) => {
    const node = nodeSide();
    const { port } = await openIngress(names, node.dial);
    visit(port, makeHello({ name }));
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    const folded = name.toLowerCase().replace(/\.$/, "");
    expect(node.deliveries[0]!.head).toContain(`\r\nTailscale-Ingress-Target: ${folded}:443\r\n`);
  });

  test("a public name on another port", async () => {
    const { port } = await openIngress([publicName(NAME, { ports: new Set([8443]) })], nodeSide().dial);
    expect(await alertOf(visit(port, HELLO))).toBe(ALERTS.unrecognized);
  });

  test("what the node itself denies", async () => {
    const node = nodeSide({ answer: () => "HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\ndenied\n" });
    const { port } = await openIngress([publicName(NAME)], node.dial);
    expect(await alertOf(visit(port, HELLO))).toBe(ALERTS.unrecognized);
  });

  test("a public name whose node is away: internal_error, and never a hang", async () => {
    const refuses = async (): Promise<never> => {
      throw new Fault("TEST", "no such peer");
    };
    const { port } = await openIngress(names, refuses);
    expect(await alertOf(visit(port, makeHello({ name: "away.tail.test" })))).toBe(ALERTS.internal);
    expect(await alertOf(visit(port, HELLO))).toBe(ALERTS.internal);
    for (const answer of ["HTTP/1.1 500 Oops\r\n\r\n", "nonsense\r\n\r\n", "x".repeat(9000)]) {
      const scene = await openIngress(names, nodeSide({ answer: () => answer }).dial);
      expect(await alertOf(visit(scene.port, HELLO))).toBe(ALERTS.internal);
    }
    const silent = nodeSide({ answer: () => undefined });
    const scene = await openIngress(names, silent.dial);
    const visitor = visit(scene.port, HELLO);
    await expect.poll(() => silent.deliveries.length, WAIT).toBe(1);
    scene.clock.advance(10_001);
    expect(await alertOf(visitor)).toBe(ALERTS.internal);
    await expect.poll(() => silent.deliveries[0]!.isCut(), WAIT).toBe(true);
  });

  test("a name that is taken back while its visitor is brought there", async () => {
    let table = new NameTable([publicName(NAME)]);
    const silent = nodeSide({ answer: () => undefined });
    const { port } = await openIngress(() => table, silent.dial);
    const visitor = visit(port, HELLO);
    await expect.poll(() => silent.deliveries.length, WAIT).toBe(1);
    table = new NameTable([]);
    silent.deliveries[0]!.conn.abort(new Fault("TEST", "the peer has left the network map"));
    expect(await alertOf(visitor)).toBe(ALERTS.unrecognized);
  });

  test("a visitor whom the owner does not want", async () => {
    const rules = [{ deny: [parsePrefix("127.0.0.0/8")!] }, { allow: [parsePrefix("192.0.2.0/24")!] }];
    for (const rule of rules) {
      const { port } = await openIngress(
        [publicName(NAME, { rules: new Map([[`${NAME}:443`, rule]]) })],
        nodeSide().dial,
      );
      expect(await alertOf(visit(port, HELLO))).toBe(ALERTS.unrecognized);
    }
  });
});

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function memoryInUse(): number {
  collectGarbage();
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
}

describe("bounds", () => {
  test("FN-2 a hello that does not come to its end is waited for 10 s", async () => {
    const { port, ingress, clock } = await openIngress([publicName(NAME)], nodeSide().dial);
    const visitors = [visit(port), visit(port, HELLO.subarray(0, 100))];
    await expect.poll(() => ingress.pending, WAIT).toBe(2);
    clock.advance(9_900);
    expect(ingress.pending).toBe(2);
    clock.advance(200);
    expect(ingress.pending).toBe(0);
    for (const { ending } of visitors) await expect.poll(ending, WAIT).toBeDefined();
    await expect.poll(() => ingress.open, WAIT).toBe(0);
    expect(ingress.counts).toMatchObject({ no_hello: 2, over_limit: 0 });
  });

  test("FN-2 no hello is held beyond 64 KiB, and no more than 128 KiB of records around it", async () => {
    const { port } = await openIngress([publicName(NAME)], nodeSide().dial);
    const long = Buffer.concat([Buffer.of(1, 1, 0, 1), Buffer.alloc(65_537)]);
    expect(await alertOf(visit(port, inRecords(long)))).toBe(ALERTS.decode);
    const tiny = inRecords(Buffer.concat([Buffer.of(1, 0, 0xff, 0xff), Buffer.alloc(60_000)]), 1);
    expect(await alertOf(visit(port, tiny))).toBe(ALERTS.decode);
  });

  test(`FN-2 whatever way an endless hello comes, each of ${PENDING} visitors costs no more than 160 KiB`, async () => {
    const { port, ingress } = await openIngress([publicName(NAME)], nodeSide().dial, {
      limits: { visitorPending: PENDING, visitorOpen: PENDING },
    });
    const long = inRecords(Buffer.concat([Buffer.of(1, 0, 0xff, 0xff), Buffer.alloc(65_000)]), 16_384);
    const visitors: Visitor[] = [];
    while (visitors.length < PENDING) {
      visitors.push(visit(port));
      await expect.poll(() => ingress.pending, WAIT).toBeGreaterThan(visitors.length - 64);
    }
    await expect.poll(() => ingress.pending, WAIT).toBe(PENDING);
    const before = memoryInUse();
    const { rss } = process.memoryUsage();
    const size = 2000;
    for (let at = 0; at < long.length; at += size) {
      for (const { socket } of visitors) socket.write(long.subarray(at, at + size));
      await expect.poll(() => visitors.every(({ socket }) => socket.writableLength === 0), WAIT).toBe(true);
    }
    expect(ingress.pending).toBe(PENDING);
    // V8 frees buffers in a thread of its own, some time after the collection.
    await expect.poll(() => (memoryInUse() - before) / PENDING, WAIT).toBeLessThan(160 * 1024);
    // What else the process does is more than what few visitors cost.
    if (PENDING >= 500) expect((process.memoryUsage().rss - rss) / PENDING).toBeLessThan(160 * 1024);
  }, 120_000);

  test.each([
    ["the hello first", 0],
    ["all in one", HELLO.length],
    ["the hello in two parts", 100],
  ])("FN-2 of a megabyte at once, %s, 128 KiB are taken while the node is asked", async (_, cut) => {
    const node = nodeSide({ answer: () => undefined });
    const { ingress } = await openIngress([publicName(NAME)], node.dial);
    const accepted: Socket[] = [];
    const server = createServer((socket) => {
      accepted.push(socket);
      ingress.accept(socket, 443);
    });
    onTestFinished(() => void server.close());
    const size = 8 * 1024 * 1024; // more than the kernel takes
    const all = Buffer.concat([HELLO, Buffer.alloc(size)]);
    const visitor = visit(await listening(server), all.subarray(0, cut), all.subarray(cut));
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    let taken = -1;
    let still = 0;
    await expect
      .poll(() => {
        const now = accepted[0]!.bytesRead;
        still = now === taken ? still + 1 : 0;
        taken = now;
        return still;
      }, WAIT)
      .toBeGreaterThan(20);
    expect(taken).toBeGreaterThanOrEqual(HELLO.length);
    expect(taken).toBeLessThanOrEqual(128 * 1024);
    expect(visitor.socket.writableLength).toBeGreaterThan(0); // he waits
    node.deliveries[0]!.conn.write(Buffer.from("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    await expect.poll(() => node.deliveries[0]!.bytes().length, WAIT).toBe(all.length);
    expect(node.deliveries[0]!.bytes().equals(all)).toBe(true);
  });

  test("TL-4 slow hellos: 64 of one visitor, and the oldest makes room for the next", async () => {
    const limits = { pending: 10, visitorPending: 6 };
    const { port, ingress } = await openIngress([publicName(NAME)], nodeSide().dial, { limits });
    const visitors: Visitor[] = [];
    for (let i = 0; i < 8; i++) {
      visitors.push(visit(port));
      await expect.poll(() => ingress.open + ingress.counts.over_limit, WAIT).toBe(i + 1);
    }
    await expect
      .poll(() => visitors.map(({ ending }) => ending()), WAIT)
      .toEqual([...["reset", "reset"], ...Array(6).fill(undefined)]);
    expect(ingress.pending).toBe(6);
    expect(ingress.counts.over_limit).toBe(2);

    const other = await openIngress([publicName(NAME)], nodeSide().dial, { limits: { pending: 3 } });
    const crowd: Visitor[] = [];
    for (let i = 0; i < 5; i++) {
      crowd.push(visit(other.port));
      await expect.poll(() => other.ingress.open + other.ingress.counts.over_limit, WAIT).toBe(i + 1);
    }
    await expect
      .poll(() => crowd.map(({ ending }) => ending()), WAIT)
      .toEqual([...["reset", "reset"], ...[undefined, undefined, undefined]]);
  });

  test("TL-4 who holds all places of an address shuts nobody out who shares it", async () => {
    const node = nodeSide();
    const { port, ingress } = await openIngress([publicName(NAME)], node.dial, { limits: { visitorPending: 4 } });
    for (let i = 0; i < 20; i++) visit(port, HELLO.subarray(0, 50));
    await expect.poll(() => ingress.counts.over_limit, WAIT).toBe(16);
    const visitor = visit(port, HELLO);
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    node.deliveries[0]!.conn.write(Buffer.from("served"));
    await expect.poll(() => visitor.heard().toString(), WAIT).toBe("served");
  });

  test("TL-4 a crowd of slow hellos holds its places and no more, and a true visitor is served meanwhile", async () => {
    const node = nodeSide();
    const { port, ingress } = await openIngress([publicName(NAME)], node.dial, {
      limits: { pending: 200, visitorPending: 20 },
    });
    const slow: Socket[] = [];
    onTestFinished(() => {
      for (const socket of slow) socket.destroy();
    });
    let most = 0;
    for (let i = 0; i < 1000; i++) {
      const socket = connect({ port, host: "127.0.0.1", localAddress: `127.0.1.${1 + (i % 40)}` });
      socket.on("error", () => undefined).write(HELLO.subarray(0, 50));
      slow.push(socket);
      most = Math.max(most, ingress.pending);
      if (i % 100 === 50)
        await expect.poll(() => ingress.open + ingress.counts.over_limit, WAIT).toBeGreaterThan(i - 50);
    }
    const visitor = visit(port, HELLO);
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    node.deliveries[0]!.conn.write(Buffer.from("served"));
    await expect.poll(() => visitor.heard().toString(), WAIT).toBe("served");
    await expect.poll(() => ingress.counts.over_limit, WAIT).toBeGreaterThanOrEqual(800);
    expect(Math.max(most, ingress.pending)).toBeLessThanOrEqual(200);
  });

  test("FN-10 who asks for one name too often is refused there, and others are served", async () => {
    const node = nodeSide();
    const limits = { nameConnectionsPerSecond: 2 };
    const { port, clock } = await openIngress([publicName(NAME), publicName("other.tail.test")], node.dial, { limits });
    const crowd = Array.from({ length: 6 }, () => visit(port, HELLO));
    const refused = () => crowd.filter(({ heard }) => heard().toString("hex") === ALERTS.internal).length;
    await expect.poll(() => node.deliveries.length + refused(), WAIT).toBe(6);
    expect(node.deliveries.length).toBe(4);
    visit(port, makeHello({ name: "other.tail.test" }));
    await expect.poll(() => node.deliveries.length, WAIT).toBe(5);
    clock.advance(1000);
    visit(port, HELLO);
    await expect.poll(() => node.deliveries.length, WAIT).toBe(6);
  });

  test("FN-10 rules of the name's owner: how many at once, of one visitor, how fast", async () => {
    const node = nodeSide();
    const rules = new Map([[`${NAME}:443`, { connections: 2, visitorConnections: 1 }]]);
    const { port } = await openIngress([publicName(NAME, { rules })], node.dial);
    const first = visit(port, HELLO);
    await expect.poll(() => node.deliveries.length, WAIT).toBe(1);
    expect(await alertOf(visit(port, HELLO))).toBe(ALERTS.internal);
    first.socket.resetAndDestroy();
    await expect.poll(() => node.deliveries[0]!.isCut(), WAIT).toBe(true);
    visit(port, HELLO);
    await expect.poll(() => node.deliveries.length, WAIT).toBe(2);

    const paced = nodeSide();
    const pace = new Map([[`${NAME}:443`, { bytesPerSecond: 100_000 }]]);
    const slow = await openIngress([publicName(NAME, { rules: pace })], paced.dial);
    visit(slow.port, HELLO, Buffer.alloc(400_000));
    await expect.poll(() => paced.deliveries[0]?.bytes().length ?? 0, WAIT).toBeGreaterThan(100_000);
    const early = paced.deliveries[0]!.bytes().length;
    expect(early).toBeLessThan(400_000);
    for (let i = 0; i < 10; i++) {
      slow.clock.advance(1000);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    await expect
      .poll(() => {
        slow.clock.advance(1000);
        return paced.deliveries[0]!.bytes().length;
      }, WAIT)
      .toBe(400_000 + HELLO.length);
  });
});

describe("one port for the program's own name and for all others", () => {
  test("the own name's bytes are all still there", async () => {
    const taken: Buffer[] = [];
    const { port } = await openIngress([publicName(NAME)], nodeSide().dial, {
      own: {
        has: (name) => name === "control.example.org",
        accept: (socket) => {
          socket.on("data", (chunk: Buffer) => taken.push(chunk));
          socket.resume();
        },
      },
    });
    const hello = inRecords(helloMessage({ name: "control.example.org" }), 100);
    const visitor = visit(port);
    for (const byte of hello.subarray(0, 20)) visitor.socket.write(Buffer.of(byte));
    visitor.socket.write(hello.subarray(20));
    visitor.socket.write("and more");
    const wanted = Buffer.concat([hello, Buffer.from("and more")]).toString("hex");
    await expect.poll(() => Buffer.concat(taken).toString("hex"), WAIT).toBe(wanted);
  });
});

describe("draining", () => {
  test("no new visitors, and whoever is here may stay", async () => {
    const node = nodeSide();
    const { port, ingress, clock } = await openIngress([publicName(NAME)], node.dial);
    const guest = visit(port, HELLO);
    await expect.poll(() => node.deliveries[0]?.bytes().length, WAIT).toBe(HELLO.length);
    const draining = ingress.drain(60_000);
    await expect.poll(visit(port, HELLO).ending, WAIT).toBe("reset");
    node.deliveries[0]!.conn.write(Buffer.from("still here"));
    await expect.poll(() => guest.heard().toString(), WAIT).toBe("still here");
    node.deliveries[0]!.conn.end();
    guest.socket.end();
    await expect.poll(() => ingress.open, WAIT).toBe(0);
    clock.advance(100);
    await draining;
  });
});

describe("FN-14 a name has one owner", () => {
  const mine = publicName(NAME, { owner: "a" });
  const theirs = publicName(NAME, { owner: "b" });

  test("the first claim holds, whatever the order of later ones", () => {
    const first = new NameTable([mine]);
    for (const claims of [
      [mine, theirs],
      [theirs, mine],
    ]) {
      const table = new NameTable(claims, first);
      expect(table.find(NAME, 443)?.owner).toBe("a");
      expect(table.conflicts.map(({ owner }) => owner)).toEqual(["b"]);
    }
    expect(new NameTable([theirs], first).find(NAME, 443)?.owner).toBe("b"); // the owner gave it up
  });

  test("an exact name is not part of another's wildcard", () => {
    const table = new NameTable([publicName("*.tail.test", { owner: "b" }), mine]);
    expect(table.find(NAME, 443)?.owner).toBe("a");
    expect(table.find("other.tail.test", 443)?.owner).toBe("b");
    expect(table.conflicts).toEqual([]);
  });
});

const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
