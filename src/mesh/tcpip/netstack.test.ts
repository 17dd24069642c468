import http from "node:http";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import type { Conn, Proof } from "../../base/conn.ts";
import { asDuplex } from "../../base/duplex.ts";
import type { Fault } from "../../base/fault.ts";
import { seededRandom } from "../../base/random.ts";
import { Netstack } from "./netstack.ts";
import { A_ADDRESS, B_ADDRESS, B_ADDRESS6, batchOf, SimulatedLink, TestEnd } from "./simulated-link.ts";

/** Two stacks joined by microtasks, for users that live in real turns. */
function pair(): [Netstack, Netstack] {
  const clock = new FakeClock();
  const stacks: Netstack[] = [];
  const make = (own: number): Netstack => {
    let outgoing: Uint8Array[] = [];
    const carry = (): void => {
      const packets = outgoing;
      outgoing = [];
      if (packets.length > 0) stacks[1 - own]!.input(batchOf(packets, 0), clock.now());
    };
    const stack: Netstack = new Netstack({
      addresses: [Uint8Array.of(100, 64, 0, own + 1)],
      random: seededRandom(own + 1),
      output: (packet) => {
        if (outgoing.length === 0) setImmediate(carry);
        outgoing.push(packet.slice());
      },
      proofOf: (_peer, source, destination): Proof => ({ kind: "mesh", nodeKey: "00", source, destination }),
      wake: () =>
        setImmediate(() => {
          if (stack.deadline <= clock.now()) stack.poll(clock.now());
        }),
      now: () => clock.now(),
    });
    return stack;
  };
  stacks.push(make(0), make(1));
  return [stacks[0]!, stacks[1]!];
}

test("node:http over two stacks: keep-alive, a large body each way", async () => {
  const [a, b] = pair();
  const server = http.createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => response.end(Buffer.concat(parts)));
  });
  const sockets: object[] = [];
  b.listenTcp(80, (conn) => void server.emit("connection", asDuplex(conn)));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const connection = asDuplex(await a.dialTcp({ address: B_ADDRESS, port: 80 }));
  agent.createConnection = () => {
    sockets.push(connection);
    return connection;
  };
  for (const size of [0, 1, 3_000_000]) {
    const body = Buffer.from(seededRandom(size + 1)(size));
    const answer = await new Promise<Buffer>((resolve, reject) => {
      const request = http.request({ agent, method: "POST", path: "/", headers: { host: "b" } }, (response) => {
        const parts: Buffer[] = [];
        response.on("data", (part: Buffer) => parts.push(part));
        response.on("end", () => resolve(Buffer.concat(parts)));
      });
      request.on("error", reject);
      request.end(body);
    });
    expect(answer.equals(body)).toBe(true);
  }
  expect(sockets.length).toBe(1);
  agent.destroy();
  a.close();
  b.close();
});

describe("IP-16 UDP and ICMP", () => {
  test("datagrams both families, with source, destination and peer; empty ones too", () => {
    for (const address of [B_ADDRESS, B_ADDRESS6]) {
      const link = new SimulatedLink();
      const got: unknown[] = [];
      link.b.listenUdp(53, (payload, source, destination, peer) => {
        got.push(payload.length, source.port, destination, peer);
        answerer.send(payload, source, destination);
      });
      const answerer = link.b.listenUdp(54, () => {});
      const back: number[] = [];
      const socket = link.a.listenUdp(0, (payload, source) => void back.push(payload.length, source.port));
      socket.send(new Uint8Array(33), { address, port: 53 });
      socket.send(new Uint8Array(0), { address, port: 53 });
      link.pass(10);
      expect(got).toEqual([33, socket.port, { address, port: 53 }, 1, 0, socket.port, { address, port: 53 }, 1]);
      expect(back).toEqual([33, 53, 0, 53]);
    }
  });

  test("a datagram that does not fit is dropped and counted; a closed port answers unreachable", () => {
    const link = new SimulatedLink();
    const socket = link.a.listenUdp(0, () => {});
    socket.send(new Uint8Array(1253), { address: B_ADDRESS, port: 9 });
    expect(link.a.counters.udpTooLong).toBe(1);
    socket.send(new Uint8Array(1252), { address: B_ADDRESS, port: 9 });
    link.pass(10);
    expect(link.b.counters.udpUnserved).toBe(1);
    expect(link.sent).toBe(2);
    expect(() => link.a.listenUdp(socket.port, () => {})).toThrow(
      expect.objectContaining({ code: "TCPIP_PORT_IN_USE" }),
    );
  });

  test.each([B_ADDRESS, B_ADDRESS6])("ping %s", async (address) => {
    const link = new SimulatedLink({ delayMs: 20 });
    const { parseAddress } = await import("../../base/address.ts");
    const ping = link.a.ping(parseAddress(address)!);
    link.pass(100);
    expect(await ping).toBe(40);
    const lost = link.a.ping(Uint8Array.of(100, 64, 0, 9), { timeoutMs: 500 }).catch((fault: Fault) => fault.code);
    link.pass(600);
    expect(await lost).toBe("TCPIP_TIMEOUT");
  });

  test("10,000 echoes in a second: at most 1,000 answers", () => {
    let answers = 0;
    const link = new SimulatedLink({ b: { output: () => void answers++ } });
    let request: Uint8Array | undefined;
    const keep = (packet: Uint8Array) => {
      request = packet.slice();
    };
    const probe = new SimulatedLink({ a: { output: keep } });
    probe.a.ping(Uint8Array.of(100, 64, 0, 2)).catch((fault: Fault) => fault.code);
    for (let i = 0; i < 10_000; i++) link.b.input(batchOf([request!], 1), 5000);
    expect(answers).toBe(1000);
    probe.a.close();
  });
});

test("handlers that throw harm nobody", async () => {
  const link = new SimulatedLink();
  link.b.listenUdp(53, () => {
    throw new Error("udp");
  });
  link.b.onTcpSyn = () => {
    throw new Error("syn");
  };
  link.a.listenUdp(0, () => {}).send(new Uint8Array(1), { address: B_ADDRESS, port: 53 });
  const refused = link.a.dialTcp({ address: B_ADDRESS, port: 81 }).catch((fault: Fault) => fault.code);
  link.pass(10);
  expect(await refused).toBe("TCPIP_REFUSED");
  expect(link.b.counters.userFailed).toBe(2);
  const [client, server] = await link.connect();
  server.conn.attach({
    data: () => {
      throw new Error("data");
    },
    end: () => {},
    drain: () => {},
    abort: () => {},
  });
  client.send(new Uint8Array(10));
  link.pass(100);
  expect(client.fault?.code).toBe("TCPIP_RESET");
});

test("credit that one connection gives another within its turn is honoured", async () => {
  const link = new SimulatedLink();
  const conns: Conn[] = [];
  link.b.listenTcp(80, (conn) => conns.push(conn));
  const first = link.a.dialTcp({ address: B_ADDRESS, port: 80 });
  const second = link.a.dialTcp({ address: B_ADDRESS, port: 80 });
  link.pass(10);
  const ends = [new TestEnd(await first), new TestEnd(await second)];
  const held = new TestEnd(conns[0]!, 0, false);
  conns[1]!.attach({ data: () => held.conn.credit(1000), end: () => {}, drain: () => {}, abort: () => {} });
  conns[1]!.credit(1000);
  ends[0]!.send(new Uint8Array(1000));
  ends[1]!.send(new Uint8Array(10));
  link.pass(3);
  expect(held.received).toBe(1000);
});

test("a connection to our own address loops inside", async () => {
  const link = new SimulatedLink();
  let accepted: Conn | undefined;
  link.a.listenTcp(80, (conn) => {
    accepted = conn;
  });
  const dialing = link.a.dialTcp({ address: A_ADDRESS, port: 80 });
  link.pass(10);
  const client = new TestEnd(await dialing);
  const server = new TestEnd(accepted!);
  client.send(new Uint8Array(100_000), true);
  link.pass(100);
  expect([server.received, server.ended, link.sent]).toEqual([100_000, true, 0]);
});

test("an address that is no longer ours takes its connections with it", async () => {
  const link = new SimulatedLink();
  const [, server] = await link.connect();
  link.b.setAddresses([Uint8Array.of(100, 64, 0, 9)]);
  link.pass(10);
  expect(server.fault?.code).toBe("TCPIP_UNREACHABLE");
});

test("IP-17 a vanished peer is found by keepalive", async () => {
  let isCut = false;
  const keepalive = { idleMs: 60_000, intervalMs: 10_000, probes: 3 };
  const link = new SimulatedLink({ filter: () => !isCut, b: { keepalive } });
  const [, server] = await link.connect();
  link.pass(600_000);
  expect(server.fault).toBeUndefined();
  isCut = true;
  link.pass(120_000);
  expect(server.fault?.code).toBe("TCPIP_TIMEOUT");
});

test("IP-2 positions wrap: 10 MiB from 10 kB before the end of the numbers", async () => {
  // The initial number moves by 250 a millisecond: choose the moment at which it is about to wrap.
  const peek = new SimulatedLink();
  let sequence = 0;
  const watch = new SimulatedLink({
    filter: (packet, fromA) => {
      if (fromA && sequence === 0) sequence = new DataView(packet.buffer, packet.byteOffset).getUint32(24);
      return true;
    },
  });
  await watch.connect(80);
  expect(peek.now).toBe(1000);
  const link = new SimulatedLink({ loss: 0.005, delayMs: 5 });
  link.now += (2 ** 32 - sequence - 10_000) / 250;
  const [a, b] = await link.connect(80);
  const bytes = seededRandom(3)(10 * 1024 * 1024);
  a.send(bytes, true);
  link.run(() => b.ended);
  expect(Buffer.compare(b.bytes, bytes)).toBe(0);
});
