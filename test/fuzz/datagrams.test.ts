import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatAddress, parseAddress } from "../../src/base/address.ts";
import { MagicDns } from "../../src/mesh/dns/magic-dns.ts";
import { decodeQuestion, encodeAnswer } from "../../src/mesh/dns/message.ts";
import { via6Address } from "../../src/mesh/dns/names.ts";
import { Header } from "../../src/mesh/filter/header.ts";
import { innerLength } from "../../src/mesh/wireguard/inner-packet.ts";
import {
  type DiscoMessage,
  decodeDiscoFrame,
  decodeDiscoMessage,
  encodeDiscoFrame,
  encodeDiscoMessage,
  looksLikeDisco,
  looksLikeGeneve,
} from "../../src/wire/disco.ts";
import { encodeName } from "../../src/wire/dns.ts";
import { ICMP } from "../../src/wire/icmp.ts";
import { createIpView, PROTOCOL, readIp, writeIpHeader } from "../../src/wire/ip.ts";
import { decodeStunAnswer, decodeStunRequest, encodeStunAnswer, encodeStunRequest } from "../../src/wire/stun.ts";
import {
  createTcpSegment,
  FLAG,
  readTcp,
  TCP,
  type TcpSegment,
  writeMss,
  writeSack,
  writeSackPermitted,
  writeTcpHeader,
  writeTimestamps,
  writeWindowScale,
} from "../../src/wire/tcp.ts";
import { encodeTsmpPing, encodeTsmpReject, pongFor, readTsmpPong } from "../../src/wire/tsmp.ts";
import { createUdpView, readUdp, UDP, writeUdpHeader } from "../../src/wire/udp.ts";
import { COOKIE_REPLY, DATA, INITIATION, messageType, RESPONSE } from "../../src/wire/wireguard.ts";
import { FUZZ_TIMEOUT_MS, holds, hostileBytes } from "./fuzzing.ts";

const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const ipv4 = bytesOf(4);
const ipv6 = bytesOf(16).filter((bytes) => parseAddress(formatAddress(bytes))!.length === 16);
const addressPair = fc.oneof(fc.tuple(ipv4, ipv4), fc.tuple(ipv6, ipv6));
const port = fc.nat(65_535);
const word = fc.nat(2 ** 32 - 1);
const endpoint = fc.record({ address: fc.oneof(ipv4, ipv6).map(formatAddress), port });

/** A packet at an odd place between other bytes: readers must not look beyond its ends. */
function placed(packet: Uint8Array): { slab: Uint8Array; at: number } {
  const slab = new Uint8Array(packet.length + 64).fill(0xa5);
  slab.set(packet, 33);
  return { slab, at: 33 };
}

function ipPacket(source: Uint8Array, destination: Uint8Array, protocol: number, body: Uint8Array): Uint8Array {
  const start = source.length === 4 ? 20 : 40;
  const packet = new Uint8Array(start + body.length);
  writeIpHeader(packet, source, destination, protocol, body.length);
  packet.set(body, start);
  return packet;
}

describe("what was written is read again", { timeout: FUZZ_TIMEOUT_MS }, () => {
  test("a disco message and its frame", () => {
    const message: fc.Arbitrary<DiscoMessage> = fc.oneof(
      fc.record({
        kind: fc.constant("ping" as const),
        tx: bytesOf(12),
        nodeKey: fc.option(bytesOf(32), { nil: undefined }),
      }),
      fc.record({ kind: fc.constant("pong" as const), tx: bytesOf(12), source: endpoint }),
      fc.record({ kind: fc.constant("callMeMaybe" as const), endpoints: fc.array(endpoint, { maxLength: 64 }) }),
    );
    const frame = fc.record({
      senderKey: bytesOf(32),
      nonce: bytesOf(24),
      box: fc.uint8Array({ minLength: 18, maxLength: 90 }),
    });
    const property = fc.property(message, frame, (wanted, parts) => {
      expect(decodeDiscoMessage(encodeDiscoMessage(wanted))).toEqual(wanted);
      expect(decodeDiscoFrame(encodeDiscoFrame(parts))).toEqual(parts);
    });
    holds(property, 300);
  });

  test("a STUN request and its answer", () => {
    const property = fc.property(bytesOf(12), endpoint, (tx, mapped) => {
      expect(decodeStunRequest(encodeStunRequest(tx))).toEqual(tx);
      expect(decodeStunAnswer(encodeStunAnswer(tx, mapped)!)).toEqual({ tx, mapped });
    });
    holds(property, 300);
  });

  test("IP and UDP", () => {
    const [ip, udp, header] = [createIpView(), createUdpView(), new Header()];
    const body = fc.uint8Array({ maxLength: 100 });
    const property = fc.property(addressPair, port, port, body, ([source, destination], from, to, payload) => {
      const datagram = new Uint8Array(UDP.end + payload.length);
      writeUdpHeader(datagram, 0, from, to, payload.length);
      datagram.set(payload, UDP.end);
      const packet = ipPacket(source, destination, PROTOCOL.udp, datagram);
      const { slab, at } = placed(packet);
      expect(readIp(slab, at, packet.length, ip)).toBe(true);
      expect(slab.slice(ip.source, ip.source + ip.addressLength)).toEqual(source);
      expect(slab.slice(ip.destination, ip.destination + ip.addressLength)).toEqual(destination);
      expect([ip.protocol, ip.payloadLength, ip.isFragment]).toEqual([PROTOCOL.udp, datagram.length, false]);
      expect(readUdp(slab, ip.payload, ip.payloadLength, udp)).toBe(true);
      expect([udp.sourcePort, udp.destinationPort]).toEqual([from, to]);
      expect(slab.slice(udp.payload, udp.payload + udp.payloadLength)).toEqual(payload);
      // Two readers see the same packet: the filter's must not admit what the stack reads otherwise.
      expect(header.read(slab, at, packet.length)).toBe(true);
      expect([header.protocol, header.sourcePort, header.destinationPort]).toEqual([PROTOCOL.udp, from, to]);
    });
    holds(property, 300);
  });

  test("TCP with every option that we write", () => {
    const edges = fc.array(fc.tuple(word, word), { maxLength: 2 });
    const options = fc.record({
      mss: fc.option(port),
      scale: fc.option(fc.nat(14)),
      isSackPermitted: fc.boolean(),
      timestamps: fc.option(fc.tuple(word, word)),
      edges,
    });
    const numbers = fc.record({ from: port, to: port, sequence: word, acknowledgment: word, window: port });
    const segment = createTcpSegment();
    const property = fc.property(numbers, options, fc.nat(0x3f), (wanted, opts, flags) => {
      const bytes = new Uint8Array(100);
      let end: number = TCP.end;
      if (opts.mss !== null) end = writeMss(bytes, end, opts.mss);
      if (opts.scale !== null) end = writeWindowScale(bytes, end, opts.scale);
      if (opts.isSackPermitted) end = writeSackPermitted(bytes, end);
      if (opts.timestamps !== null) end = writeTimestamps(bytes, end, ...opts.timestamps);
      if (opts.edges.length > 0) end = writeSack(bytes, end, Uint32Array.from(opts.edges.flat()), opts.edges.length);
      fc.pre(end <= 60); // what a header can hold
      const { from, to, sequence, acknowledgment, window } = wanted;
      writeTcpHeader(bytes, 0, from, to, sequence, acknowledgment, end, flags, window);
      expect(readTcp(bytes, 0, end + 7, segment)).toBe(true);
      expect(segment).toMatchObject({
        ...{ sourcePort: from, destinationPort: to, sequence, acknowledgment, window, flags },
        ...{ payload: end, payloadLength: 7, isSackPermitted: opts.isSackPermitted },
        ...{ mss: opts.mss ?? -1, windowScale: opts.scale ?? -1, hasTimestamps: opts.timestamps !== null },
        sackCount: opts.edges.length,
      });
      if (opts.timestamps !== null) expect([segment.timestamp, segment.timestampEcho]).toEqual(opts.timestamps);
      expect([...segment.sack.subarray(0, 2 * opts.edges.length)]).toEqual(opts.edges.flat());
    });
    holds(property, 300);
  });

  test("TSMP", () => {
    const property = fc.property(addressPair, bytesOf(8), port, ([source, destination], data, peerApiPort) => {
      const ping = encodeTsmpPing(source, destination, data);
      const { slab, at } = placed(ping);
      const pong = pongFor(slab, at, ping.length, peerApiPort)!;
      expect(readTsmpPong(pong, 0, pong.length)).toEqual({ data, peerApiPort });
      expect(readTsmpPong(ping, 0, ping.length)).toBeUndefined();
    });
    holds(property, 200);
  });

  test("DNS names and questions", () => {
    const label = fc.stringMatching(/^[a-z0-9_-]{1,63}$/);
    const property = fc.property(fc.array(label, { maxLength: 6 }), port, port, port, (labels, id, type, kind) => {
      const name = labels.join(".");
      const encoded = encodeName(name);
      fc.pre(encoded !== undefined);
      const query = Buffer.concat([new Uint8Array(12), encoded!, new Uint8Array(4)]);
      query.writeUInt16BE(id, 0);
      query.writeUInt16BE(1, 4);
      query.writeUInt16BE(type, query.length - 4);
      query.writeUInt16BE(kind, query.length - 2);
      const question = decodeQuestion(query);
      expect(question).toMatchObject({ id, opcode: 0, name, type, class: kind });
      if (question === "drop") return;
      const answer = encodeAnswer(question, 0, [{ type: 1, ttl: 5, data: Uint8Array.of(1, 2, 3, 4) }]);
      expect(Buffer.from(answer).subarray(12, 12 + encoded!.length)).toEqual(Buffer.from(encoded!));
      expect(decodeQuestion(answer)).toBe("drop"); // an answer is no question, or two of us would talk for ever
    });
    holds(property, 300);
  });
});

describe("DD-5 whatever comes is read or refused: nothing is thrown, nothing beyond its end is touched", () => {
  const tx = Uint8Array.from({ length: 12 }, (_, i) => i);
  const [here, there] = [parseAddress("100.64.0.1")!, parseAddress("100.64.0.2")!];
  const [six, seven] = [parseAddress("fd7a:115c:a1e0::6")!, parseAddress("fd7a:115c:a1e0::7")!];

  test("disco and what looks like it", { timeout: FUZZ_TIMEOUT_MS }, () => {
    const box = encodeDiscoMessage({ kind: "callMeMaybe", endpoints: [{ address: "1.2.3.4", port: 5 }] });
    const frame = encodeDiscoFrame({ senderKey: new Uint8Array(32), nonce: new Uint8Array(24), box });
    const plain = encodeDiscoMessage({ kind: "pong", tx, source: { address: "::1", port: 5 } });
    const property = fc.property(hostileBytes(frame, plain, box), (bytes) => {
      const read = decodeDiscoFrame(bytes);
      if (read !== undefined) expect([read.senderKey.length, read.nonce.length]).toEqual([32, 24]);
      looksLikeDisco(bytes, 0, bytes.length);
      looksLikeGeneve(bytes, 0, bytes.length);
      const message = decodeDiscoMessage(bytes);
      if (message?.kind === "callMeMaybe") expect(message.endpoints.length).toBeLessThanOrEqual(64);
      if (message !== undefined) expect(decodeDiscoMessage(encodeDiscoMessage(message))).toEqual(message);
    });
    holds(property, 3000);
  });

  test("STUN: an answer is never longer than one and a half requests", { timeout: FUZZ_TIMEOUT_MS }, () => {
    const answer = encodeStunAnswer(tx, { address: "2001:db8::1", port: 5 })!;
    const property = fc.property(hostileBytes(encodeStunRequest(tx), answer), (bytes) => {
      const asked = decodeStunRequest(bytes);
      if (asked !== undefined) {
        const reply = encodeStunAnswer(asked, { address: "2001:db8::1", port: 1 })!;
        expect(reply.length).toBeLessThanOrEqual(bytes.length * 1.5);
      }
      const told = decodeStunAnswer(bytes);
      if (told !== undefined) expect(parseAddress(told.mapped.address)).toBeDefined();
    });
    holds(property, 3000);
  });

  test("WireGuard: a type is only told of a datagram that has all its fields", { timeout: FUZZ_TIMEOUT_MS }, () => {
    const ends = { 1: INITIATION.end, 2: RESPONSE.end, 3: COOKIE_REPLY.end } as const;
    const samples = [1, 2, 3, 4].map((type) =>
      Uint8Array.of(type, 0, 0, 0, ...new Uint8Array((ends[type as 1] ?? 32) - 4)),
    );
    const property = fc.property(hostileBytes(...samples), (bytes) => {
      const type = messageType(bytes, 0, bytes.length);
      if (type === 4) expect(bytes.length).toBeGreaterThanOrEqual(DATA.smallest);
      else if (type !== undefined) expect(bytes.length).toBe(ends[type]);
      const inner = innerLength(bytes, 0, bytes.length);
      expect(inner).toBeLessThanOrEqual(bytes.length);
    });
    holds(property, 2000);
  });

  test("IP, TCP, UDP, ICMP and TSMP, by both readers", { timeout: FUZZ_TIMEOUT_MS }, () => {
    const tcp = new Uint8Array(40);
    writeTcpHeader(tcp, 0, 1, 2, 3, 4, 40, FLAG.syn, 5);
    writeTimestamps(tcp, writeSackPermitted(tcp, writeMss(tcp, TCP.end, 1220)), 1, 2);
    const echo = Uint8Array.of(8, 0, 0, 0, 0, 1, 0, 1, 7);
    expect(echo.length).toBe(ICMP.end + 1);
    const samples = [
      ipPacket(here, there, PROTOCOL.tcp, tcp),
      ipPacket(six, seven, PROTOCOL.tcp, tcp),
      ipPacket(here, there, PROTOCOL.icmp, echo),
      ipPacket(six, seven, 44, new Uint8Array(24)),
      encodeTsmpPing(here, there, tx.subarray(0, 8)),
    ];
    const [ip, udp, segment, header] = [createIpView(), createUdpView(), createTcpSegment(), new Header()];
    const property = fc.property(hostileBytes(...samples), (packet) => {
      const { slab, at } = placed(packet);
      const end = at + packet.length;
      pongFor(slab, at, packet.length, 1);
      readTsmpPong(slab, at, packet.length);
      encodeTsmpReject(packet, "acl");
      const isKnown = header.read(slab, at, packet.length);
      if (isKnown) expect(header.total).toBeLessThanOrEqual(packet.length);
      if (!readIp(slab, at, packet.length, ip)) return;
      expect(ip.payload + ip.payloadLength).toBeLessThanOrEqual(end);
      if (readUdp(slab, ip.payload, ip.payloadLength, udp)) {
        expect(udp.payload + udp.payloadLength).toBeLessThanOrEqual(end);
      }
      if (readTcp(slab, ip.payload, ip.payloadLength, segment)) expectWithin(segment, end);
    });
    holds(property, 4000);
  });

  test("DNS: a question never names what was not in it", { timeout: FUZZ_TIMEOUT_MS }, () => {
    const query = Buffer.concat([
      Buffer.from("000101000001000000000000", "hex"),
      encodeName("gate.tail.test")!,
      Buffer.from("00010001", "hex"),
    ]);
    const dns = new MagicDns();
    const property = fc.property(hostileBytes(query), (bytes) => {
      const question = decodeQuestion(bytes);
      void dns.resolve(bytes, "udp"); // what it throws fails the run
      dns.answer(bytes);
      if (question === "drop" || !("raw" in question)) return;
      expect(question.raw.length).toBeLessThanOrEqual(bytes.length - 12);
      expect(question.name.length).toBeLessThanOrEqual(4 * 255);
    });
    holds(property, 3000);
  });

  test("names of 4via6 addresses", { timeout: FUZZ_TIMEOUT_MS }, () => {
    const name = fc.stringMatching(/^[0-9a-fxob-]{0,24}-via-[0-9a-fxob]{1,20}(\.ts\.net)?$/);
    const property = fc.property(name, (text) => {
      const address = via6Address(text);
      if (address !== undefined) expect(address.startsWith("fd7a:115c:a1e0:b1a:")).toBe(true);
    });
    holds(property, 300);
  });

  function expectWithin({ payload, payloadLength, sackCount, windowScale }: TcpSegment, end: number): void {
    expect(payload + payloadLength).toBeLessThanOrEqual(end);
    expect(sackCount).toBeLessThanOrEqual(4);
    expect(windowScale).toBeLessThanOrEqual(14);
  }
});
