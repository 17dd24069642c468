import { describe, expect, test } from "vitest";
import { parseAddress } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import { seededRandom } from "../base/random.ts";
import { PROTOCOL, writeIpHeader } from "../wire/ip.ts";
import { encodeTsmpPing, pongFor } from "../wire/tsmp.ts";
import { peerApiPort } from "./peerapi.ts";
import { TsmpService } from "./tsmp.ts";

const address = (text: string) => parseAddress(text)!;
const [US, US6, THEM, THEM6] = ["100.64.0.1", "fd7a:115c:a1e0::1", "100.64.0.2", "fd7a:115c:a1e0::2"].map(address) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
  Uint8Array,
];
const DATA = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);

function service() {
  const out: { packet: Uint8Array; peer: number }[] = [];
  const tsmp = new TsmpService({ random: seededRandom(1), output: (packet, peer) => out.push({ packet, peer }) });
  tsmp.setAddresses([US, US6]);
  return { tsmp, out };
}

describe("pings", () => {
  test.each([
    ["IPv4", THEM, US],
    ["IPv6", THEM6, US6],
  ])(
    "to our address are answered over the tunnel they came by, with the peerapi port of that address: %s",
    (_, from, to) => {
      const { tsmp, out } = service();
      tsmp.hasPeerApi = true;
      const ping = encodeTsmpPing(from, to, DATA);
      tsmp.input(ping, 0, ping.length, 7, 0);
      expect(out.map(({ peer }) => peer)).toEqual([7]);
      expect(toHex(out[0]!.packet)).toBe(toHex(pongFor(ping, 0, ping.length, peerApiPort(to))!));
    },
  );

  test.each([
    ["a subnet behind us", address("10.1.2.3")],
    ["the address of another peer", address("100.64.0.3")],
  ])("to %s are not", (_, to) => {
    const { tsmp, out } = service();
    const ping = encodeTsmpPing(THEM, to, DATA);
    tsmp.input(ping, 0, ping.length, 7, 0);
    expect(out).toEqual([]);
  });

  test("of ours end with the pong of that peer, once; another peer's does not count", () => {
    const { tsmp, out } = service();
    const heard: number[][] = [];
    expect(tsmp.ping(THEM, 7, 100, (latency, port) => heard.push([latency, port]))).toBe(true);
    const sent = out[0]!.packet;
    const pong = pongFor(sent, 0, sent.length, 40_000)!;
    for (const peer of [8, 7, 7]) tsmp.input(pong, 0, pong.length, peer, 125);
    expect(heard).toEqual([[25, 40_000]]);
  });

  test("need an address of the same family", () => {
    const { tsmp } = service();
    tsmp.setAddresses([US]);
    expect(tsmp.ping(THEM6, 7, 0, () => {})).toBe(false);
  });
});

function syn(from: Uint8Array, to: Uint8Array): Uint8Array {
  const start = from.length === 4 ? 20 : 40;
  const packet = new Uint8Array(start + 20);
  writeIpHeader(packet, from, to, PROTOCOL.tcp, 20);
  packet.set([0x12, 0x34, 0, 22], start);
  return packet;
}

describe("rejects", () => {
  test.each([
    ["acl", "41"],
    ["shields", "53"],
  ] as const)("say who was refused and why: %s", (reason, code) => {
    const { tsmp, out } = service();
    tsmp.reject(syn(THEM, US), 7, reason, 0);
    // '!', TCP, the reason, source port 0x1234, destination port 22 (upstream `net/packet/tsmp.go`)
    expect(toHex(out[0]!.packet.subarray(20))).toBe(`2106${code}12340016`);
    expect(toHex(out[0]!.packet.subarray(12, 20))).toBe(toHex(US) + toHex(THEM));
  });

  test("a port scan of 1,000 SYNs a second is told 100 times a second", () => {
    const { tsmp, out } = service();
    for (let i = 0; i < 2000; i++) tsmp.reject(syn(THEM, US), 7, "acl", i);
    expect(out.length).toBe(200);
  });
});
