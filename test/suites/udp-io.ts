import { createSocket } from "node:dgram";
import { once } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { PACKET, STRIDE, type UdpIo } from "../../src/base/packet.ts";
import { PathTable } from "../../src/base/path-table.ts";

export type OpenUdp = (options: {
  readonly table: PathTable;
  readonly address?: string;
  readonly port?: number;
}) => Promise<UdpIo>;

interface End {
  readonly io: UdpIo;
  readonly table: PathTable;
}

/** What every way to speak UDP must do. */
export function udpIoSuite(name: string, openUdp: OpenUdp): void {
  async function open(address?: string): Promise<End> {
    const table = new PathTable();
    const io = await openUdp({ table, ...(address === undefined ? {} : { address }) });
    onTestFinished(() => io.close());
    return { io, table };
  }

  function pathTo({ table }: End, address: string, port: number): number {
    return table.intern({ kind: "udp", address, port });
  }

  /** Writes a datagram of `length` bytes, all `mark`. */
  function send({ io }: End, path: number, length: number, mark: number): void {
    const train = io.claim(path, length)!;
    train.slab.fill(mark, train.offset, train.offset + length);
    expect(train.push(length)).toBe(true);
  }

  /** `mark:length` of everything that comes, until `count` are here. */
  async function receive({ io }: End, count: number): Promise<string[]> {
    const got: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    io.start(({ slab, at, count: packets }) => {
      for (let i = 0; i < packets; i++) {
        const offset = at[i * STRIDE + PACKET.offset]!;
        const length = at[i * STRIDE + PACKET.length]!;
        const isOne = slab.subarray(offset, offset + length).every((byte) => byte === slab[offset]);
        got.push(isOne ? `${slab[offset]}:${length}` : "torn");
        expect(at[i * STRIDE + PACKET.peer]).toBe(-1);
      }
      if (got.length >= count) resolve();
    });
    await promise;
    return got;
  }

  describe(`UDP by ${name}`, () => {
    test.each(["127.0.0.1", "::1"])("trains go and come over %s, and answers go back by the path", async (address) => {
      const [a, b] = [await open(address), await open(address)];
      b.io.start(({ slab, at, count }) => {
        for (let i = 0; i < count; i++) {
          const length = at[i * STRIDE + PACKET.length]!;
          send(b, at[i * STRIDE + PACKET.path]!, length, slab[at[i * STRIDE + PACKET.offset]!]!);
        }
        b.io.flush();
      });
      const echoed = receive(a, 31);
      const path = pathTo(a, address, b.io.port);
      const train = a.io.claim(path, 1400)!;
      const sent: string[] = [];
      for (let i = 0; i < 30; i++) {
        send(a, path, 1400, i + 1);
        sent.push(`${i + 1}:1400`);
      }
      expect(a.io.claim(path, 1400)).toBe(train);
      send(a, path, 7, 99);
      sent.push("99:7");
      expect(train.push(7)).toBe(false); // a short one ends the train
      expect(a.io.claim(path, 1400)).not.toBe(train);
      a.io.flush();
      expect(await echoed).toEqual(sent);
    });

    test("datagrams of any mix of sizes come whole and in order", async () => {
      const [a, b] = [await open("127.0.0.1"), await open("127.0.0.1")];
      const lengths = [1, 1472, 1472, 96, 96, 96, 97, 1312, 40, 8972, 1, 2, 2, 1, 65_000, 3];
      const got = receive(b, lengths.length);
      const path = pathTo(a, "127.0.0.1", b.io.port);
      lengths.forEach((length, i) => void send(a, path, length, i + 1));
      a.io.flush();
      expect(await got).toEqual(lengths.map((length, i) => `${i + 1}:${length}`));
    });

    test("one turn reaches many: each gets its own", async () => {
      const a = await open("127.0.0.1");
      const others = await Promise.all(Array.from({ length: 20 }, () => open("127.0.0.1")));
      const all = others.map((other) => receive(other, 5));
      for (let round = 0; round < 5; round++) {
        others.forEach((other, i) => void send(a, pathTo(a, "127.0.0.1", other.io.port), 300 + i, i + 1));
      }
      a.io.flush();
      const wanted = others.map((_, i) => Array.from({ length: 5 }, () => `${i + 1}:${300 + i}`));
      expect(await Promise.all(all)).toEqual(wanted);
    });

    test("an ordinary socket is heard, and hears", async () => {
      const a = await open(undefined);
      const socket = createSocket("udp4");
      onTestFinished(() => void socket.close());
      socket.bind(0, "127.0.0.1");
      await once(socket, "listening");
      const got = receive(a, 2);
      for (const text of ["a", "bb"]) socket.send(text, a.io.port, "127.0.0.1");
      expect((await got).sort()).toEqual(["97:1", "98:2"]);
      const heard: number[] = [];
      const { promise, resolve } = Promise.withResolvers<void>();
      socket.on("message", ({ length }) => {
        if (heard.push(length) === 12) resolve();
      });
      const path = pathTo(a, "127.0.0.1", socket.address().port);
      for (let i = 0; i < 10; i++) send(a, path, 1200, 1);
      send(a, path, 700, 1);
      send(a, path, 900, 1);
      a.io.flush();
      await promise;
      expect(heard).toEqual([...Array.from({ length: 10 }, () => 1200), 700, 900]);
    });

    test("binds both families to one port, and a taken port is a fault", async () => {
      const { io } = await open();
      const taken = await open("127.0.0.1");
      expect(io.port).toBeGreaterThan(0);
      await expect(
        openUdp({ table: new PathTable(), address: "127.0.0.1", port: taken.io.port }),
      ).rejects.toMatchObject({ code: "UDP_BIND" });
      await expect(openUdp({ table: new PathTable(), address: "192.0.2.1" })).rejects.toMatchObject({
        code: "UDP_BIND",
      });
    });

    test("what cannot be sent is lost and nothing else happens", async () => {
      const a = await open("127.0.0.1");
      const b = await open("127.0.0.1");
      const got = receive(b, 1);
      for (const path of [
        pathTo(a, "2001:db8::1", 9),
        a.table.intern({ kind: "derp", region: 1, nodeKey: "aa" }),
        pathTo(a, "255.255.255.255", 9),
        4711,
      ]) {
        send(a, path, 100, 1);
        send(a, path, 100, 2);
      }
      send(a, pathTo(a, "127.0.0.1", b.io.port), 100, 3);
      a.io.flush();
      expect(await got).toEqual(["3:100"]);
      expect(a.io.claim(0, 100_000)).toBeUndefined();
    });

    test("after close nothing comes, nothing goes, and the port is free", async () => {
      const a = await open("127.0.0.1");
      a.io.start(() => expect.unreachable("it is closed"));
      await a.io.close();
      await a.io.close();
      expect(a.io.claim(0, 100)).toBeUndefined();
      a.io.flush();
      const again = await openUdp({ table: new PathTable(), address: "127.0.0.1", port: a.io.port });
      await again.close();
    });
  });
}
