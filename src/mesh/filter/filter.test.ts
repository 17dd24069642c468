import { describe, expect, test } from "vitest";
import { parseAddress, parsePrefix } from "../../base/address.ts";
import { createBatch, PACKET, STRIDE } from "../../base/packet.ts";
import { seededRandom } from "../../base/random.ts";
import type { CapMap, FilterRule } from "../../wire/tailcfg.ts";
import { PacketFilter } from "./filter.ts";
import { FlowTable } from "./flow-table.ts";

const US = "100.64.0.1";
const US6 = "fd7a:115c:a1e0::1";
const PEER = "100.64.0.2";
const PEER6 = "fd7a:115c:a1e0::2";
const SYN = 0x02;
const ACK = 0x10;

interface Sketch {
  from: string;
  to: string;
  protocol: number;
  ports?: [number, number];
  flags?: number;
  icmpType?: number;
  fragment?: number;
  payload?: number;
}

function packet({
  from,
  to,
  protocol,
  ports,
  flags = SYN,
  icmpType = 8,
  fragment = 0,
  payload = 20,
}: Sketch): Uint8Array {
  const [source, destination] = [parseAddress(from)!, parseAddress(to)!];
  const isV4 = source.length === 4;
  const extra = !isV4 && fragment !== 0 ? 8 : 0;
  const header = isV4 ? 20 : 40 + extra;
  const bytes = new Uint8Array(header + payload);
  const view = new DataView(bytes.buffer);
  if (isV4) {
    bytes[0] = 0x45;
    view.setUint16(2, bytes.length);
    view.setUint16(6, fragment);
    bytes[9] = protocol;
    bytes.set(source, 12);
    bytes.set(destination, 16);
  } else {
    bytes[0] = 0x60;
    view.setUint16(4, payload + extra);
    bytes[6] = extra > 0 ? 44 : protocol;
    bytes.set(source, 8);
    bytes.set(destination, 24);
    if (extra > 0) {
      bytes[40] = protocol;
      view.setUint16(42, ((fragment & 0x1fff) << 3) | (fragment >> 13));
    }
  }
  if (payload >= 4 && (fragment & 0x1fff) === 0) {
    if (ports !== undefined) {
      view.setUint16(header, ports[0]);
      view.setUint16(header + 2, ports[1]);
      if (payload > 13) bytes[header + 13] = flags;
    } else bytes[header] = icmpType;
  }
  return bytes;
}

/** How many of `packets` pass, as a mask in order. */
function passing(filter: PacketFilter, packets: readonly Uint8Array[], peer = 0): boolean[] {
  return packets.map((bytes) => {
    const batch = createBatch(1, 2048);
    batch.slab.set(bytes, 64);
    batch.at[PACKET.offset] = 64;
    batch.at[PACKET.length] = bytes.length;
    batch.at[PACKET.peer] = peer;
    batch.count = 1;
    filter.inbound(batch, 0);
    return batch.count === 1;
  });
}

const passes = (filter: PacketFilter, bytes: Uint8Array, peer = 0): boolean => passing(filter, [bytes], peer)[0]!;

const local = [US, US6, "10.1.0.0/16"].map((text) => parsePrefix(text)!);

function filterOf(...rules: FilterRule[]): PacketFilter {
  const filter = new PacketFilter();
  filter.setRules(rules, local);
  return filter;
}

const web: FilterRule = { SrcIPs: [PEER, PEER6], DstPorts: [{ IP: "*", Ports: { First: 80, Last: 90 } }] };
const tcp: Sketch = { from: PEER, to: US, protocol: 6, ports: [4000, 80] };
const udp: Sketch = { from: PEER, to: US, protocol: 17, ports: [4000, 80], payload: 8 };

describe("one packet", () => {
  const cases: [name: string, sketch: Sketch, isAdmitted: boolean][] = [
    ["SYN to an allowed port", tcp, true],
    ["SYN to another port", { ...tcp, ports: [4000, 91] }, false],
    ["SYN from another source", { ...tcp, from: "100.64.0.3" }, false],
    ["SYN of IPv6", { ...tcp, from: PEER6, to: US6 }, true],
    ["SYN to an address that is not local", { ...tcp, to: "100.64.0.9" }, false],
    ["SYN to an advertised route", { ...tcp, to: "10.1.2.3" }, true],
    ["bogus SYN+FIN counts as SYN", { ...tcp, ports: [4000, 91], flags: 0x03 }, false],
    ["SYN+RST+FIN+PSH+URG counts as SYN", { ...tcp, ports: [4000, 91], flags: 0x2f }, false],
    ["no flags at all is not a SYN", { ...tcp, ports: [4000, 91], flags: 0 }, true],
    ["SYN+ACK is return traffic", { ...tcp, ports: [4000, 91], flags: SYN | ACK }, true],
    ["ACK is return traffic, of anybody", { ...tcp, from: "100.64.0.3", flags: ACK }, true],
    ["ACK to an address that is not local", { ...tcp, to: "100.64.0.9", flags: ACK }, false],
    ["short TCP header", { ...tcp, payload: 19 }, false],
    ["UDP to an allowed port", udp, true],
    ["UDP to another port", { ...udp, ports: [4000, 79] }, false],
    ["short UDP header", { ...udp, payload: 7 }, false],
    ["SCTP is no default protocol", { ...udp, protocol: 132, payload: 12 }, false],
    ["echo request from a source of some rule", { from: PEER, to: US, protocol: 1 }, true],
    ["echo request from another source", { from: "100.64.0.3", to: US, protocol: 1 }, false],
    ["echo reply from anybody", { from: "100.64.0.3", to: US, protocol: 1, icmpType: 0 }, true],
    ["unreachable from anybody", { from: "100.64.0.3", to: US, protocol: 1, icmpType: 3 }, true],
    ["IPv6 echo reply", { from: "fd7a:115c:a1e0::3", to: US6, protocol: 58, icmpType: 129 }, true],
    ["IPv6 echo request of another", { from: "fd7a:115c:a1e0::3", to: US6, protocol: 58, icmpType: 128 }, false],
    ["ICMPv4 in IPv6", { from: PEER6, to: US6, protocol: 1 }, false],
    ["TSMP", { from: "100.64.0.3", to: US, protocol: 99, payload: 7 }, true],
    ["short TSMP", { from: "100.64.0.3", to: US, protocol: 99, payload: 6 }, false],
    ["fragmented TSMP", { from: PEER, to: US, protocol: 99, fragment: 0x2000 }, false],
    ["first fragment", { ...tcp, fragment: 0x2000 }, true],
    ["first fragment to another port", { ...tcp, ports: [4000, 91], fragment: 0x2000 }, false],
    ["first fragment that hides its header", { ...tcp, fragment: 0x2000, payload: 16 }, false],
    ["later fragment over the header", { ...tcp, fragment: 9 }, false],
    ["later fragment", { ...tcp, from: "100.64.0.3", fragment: 10 }, true],
    ["later IPv6 fragment", { ...tcp, from: PEER6, to: US6, fragment: 10 }, true],
    ["later IPv6 fragment over the header", { ...tcp, from: PEER6, to: US6, fragment: 1 }, false],
    ["protocol 255 on the wire", { ...tcp, protocol: 255 }, false],
    ["GRE", { ...tcp, protocol: 47 }, false],
    ["hop-by-hop options", { ...tcp, from: PEER6, to: US6, protocol: 0 }, false],
    ["multicast", { ...udp, to: "224.0.0.251" }, false],
    ["IPv6 multicast", { ...udp, from: PEER6, to: "ff02::1" }, false],
    ["link-local", { ...udp, to: "169.254.1.1" }, false],
    ["IPv6 link-local", { ...udp, from: PEER6, to: "fe80::1" }, false],
  ];
  test.each(cases)("%s", (_name, sketch, isAdmitted) => {
    expect(passes(filterOf(web), packet(sketch))).toBe(isAdmitted);
  });
});

test("lengths that lie are dropped, padding is cut off", () => {
  const filter = filterOf(web);
  const bytes = packet(tcp);
  const longer = new Uint8Array(48);
  longer.set(bytes);
  const batch = createBatch(2, 256);
  batch.slab.set(longer, 0);
  batch.slab.set(bytes, 100);
  batch.at.set([0, 48, 0, 0, 0, 0, 0, 100, 39, 0, 0, 0, 0, 0]);
  batch.count = 2;
  filter.inbound(batch, 0);
  expect(batch.count).toBe(1);
  expect([...batch.at.subarray(0, STRIDE)]).toEqual([0, 40, 0, 0, 6, 4000, 80]);
  expect(filter.dropped).toBe(1);
  for (const damaged of [
    [0x44, 0],
    [0x4f, 0],
    [0x55, 0],
    [0, 0],
  ]) {
    const bad = packet(tcp);
    bad[0] = damaged[0]!;
    expect(passes(filter, bad)).toBe(false);
  }
  expect(passes(filter, bytes.subarray(0, 19))).toBe(false);
});

test("nothing is admitted before the first rules, return traffic excepted by locality only", () => {
  expect(passing(new PacketFilter(), [packet(tcp), packet({ ...tcp, flags: ACK })])).toEqual([false, false]);
});

test("replies to our UDP flows pass, the last 512 of them", () => {
  const filter = filterOf();
  const reply = (port: number): Uint8Array => packet({ ...udp, ports: [53, port] });
  for (let port = 1; port <= 513; port++)
    filter.outbound(packet({ from: US, to: PEER, protocol: 17, ports: [port, 53], payload: 8 }), 0);
  expect(passing(filter, [reply(1), reply(2), reply(513), reply(514)])).toEqual([false, true, true, false]);
  // 2 was just used, so 3 is the oldest now
  filter.outbound(packet({ from: US, to: PEER, protocol: 17, ports: [600, 53], payload: 8 }), 0);
  expect(passing(filter, [reply(2), reply(3), reply(4), reply(600)])).toEqual([true, false, true, true]);
});

test("shields-up and jail let replies pass and nothing else", () => {
  const filter = filterOf(web);
  const epoch = filter.epoch;
  filter.setJailed(3, true);
  expect([passes(filter, packet(tcp), 3), passes(filter, packet(tcp), 4)]).toEqual([false, true]);
  expect(passes(filter, packet({ ...tcp, flags: ACK }), 3)).toBe(true);
  filter.setJailed(3, false);
  filter.setShieldsUp(true);
  expect(passes(filter, packet(tcp), 3)).toBe(false);
  expect(filter.epoch).toBe(epoch + 3);
});

test("a source may be a capability of the peer", () => {
  const filter = new PacketFilter();
  const caps: CapMap[] = [{}, { "example.com/x": null }];
  filter.setRules([{ ...web, SrcIPs: ["cap:example.com/x"] }], local, (peer) => caps[peer]!);
  expect([passes(filter, packet(tcp), 0), passes(filter, packet(tcp), 1)]).toEqual([false, true]);
});

test("other protocols need a rule that lists them with all ports", () => {
  const all = { First: 0, Last: 65535 };
  const gre = packet({ ...tcp, protocol: 47 });
  expect(passes(filterOf({ SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: all }], IPProto: [47] }), gre)).toBe(true);
  expect(passes(filterOf({ ...web, IPProto: [47] }), gre)).toBe(false);
});

test("a default route covers the internet, not private ranges", () => {
  const filter = new PacketFilter();
  const any: FilterRule = { SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65535 } }] };
  filter.setRules(
    [any],
    ["0.0.0.0/0", "::/0", US].map((text) => parsePrefix(text)!),
  );
  const to = (address: string): boolean =>
    passes(filter, packet({ ...tcp, from: address.includes(":") ? PEER6 : PEER, to: address }));
  expect(["8.8.8.8", "2001:db8::1", US].map(to)).toEqual([true, true, true]);
  expect(["10.0.0.1", "192.168.1.1", "172.20.0.1", "100.64.0.9", "fd7a:115c:a1e0::9"].map(to)).not.toContain(true);
});

test("bad elements of a rule are skipped, the rest stays", () => {
  const bad = {
    SrcIPs: ["nonsense", "10.0.0.1/8", "5-4", PEER],
    DstPorts: [{ IP: "?", Ports: { First: 0, Last: 9 } }, ...web.DstPorts!],
  };
  const filter = filterOf(bad);
  expect(passes(filter, packet(tcp))).toBe(true);
  expect(passes(filter, packet({ ...tcp, from: "10.0.0.1" }))).toBe(false);
});

test("a refused IPv4 SYN is told, PeerAPI needs no rule", () => {
  const filter = filterOf();
  const told: string[] = [];
  filter.setOnReject((bytes, peer, reason) => told.push(`${bytes.length} ${peer} ${reason}`));
  filter.setPeerApi([{ address: parseAddress(US)!, port: 40_001 }]);
  expect(passes(filter, packet({ ...tcp, ports: [1, 40_001] }))).toBe(true);
  expect(passes(filter, packet({ ...tcp, ports: [1, 40_001], to: "10.1.0.1" }), 7)).toBe(false);
  filter.setShieldsUp(true);
  expect(passes(filter, packet(tcp), 7)).toBe(false);
  expect(told).toEqual(["40 7 acl", "40 7 shields"]);
});

test("100,000 mutated packets neither throw nor leave the slab", () => {
  const filter = filterOf(web);
  const random = seededRandom(11);
  const batch = createBatch(1, 256);
  const models = [
    packet(tcp),
    packet({ ...tcp, from: PEER6, to: US6 }),
    packet(udp),
    packet({ ...tcp, fragment: 0x2000 }),
  ];
  let admitted = 0;
  for (let i = 0; i < 100_000; i++) {
    const model = models[i % models.length]!;
    const noise = random(6);
    batch.slab.set(model);
    batch.slab[noise[0]! % 8] = noise[1]!;
    batch.slab[noise[2]! % model.length] = noise[3]!;
    const length = noise[4]! % 3 === 0 ? noise[5]! % (model.length + 8) : model.length;
    batch.at.fill(0);
    batch.at[PACKET.length] = length;
    batch.count = 1;
    filter.inbound(batch, 0);
    if (batch.count === 0) continue;
    admitted++;
    expect(batch.at[PACKET.length]! <= length && batch.at[PACKET.length]! >= 20).toBe(true);
  }
  expect(admitted).toBeGreaterThan(1000);
});

test("the flow table keeps its order under churn", () => {
  const table = new FlowTable(8);
  const model: number[] = []; // newest first
  const random = seededRandom(5);
  for (let i = 0; i < 5000; i++) {
    const [action, flow] = [...random(2)] as [number, number];
    const name = flow % 16;
    table.key.fill(0);
    table.key[3] = name;
    const known = model.indexOf(name);
    if (action % 2 === 0) table.remember();
    else expect(table.knows()).toBe(known >= 0);
    if (known >= 0) model.splice(known, 1);
    if (known >= 0 || action % 2 === 0) model.unshift(name);
    model.length = Math.min(model.length, 8);
    expect(table.size).toBe(model.length);
  }
});

test("CS-10 an open connection is looked at anew exactly as its first packet was", () => {
  const filter = new PacketFilter();
  filter.setRules(
    [web, { SrcIPs: ["cap:console"], DstPorts: [{ IP: US, Ports: { First: 22, Last: 22 } }] }],
    local,
    (peer): CapMap => (peer === 1 ? { console: [] } : {}),
  );
  filter.setPeerApi([{ address: parseAddress(US)!, port: 4321 }]);
  filter.setJailed(2, true);
  let admitted = 0;
  for (const [from, to] of [
    [PEER, US],
    [PEER6, US6],
    ["100.64.0.3", US],
    [PEER, "10.1.2.3"],
    [PEER, "100.64.0.9"],
  ] as const) {
    for (const port of [22, 79, 80, 90, 91, 4321]) {
      for (const peer of [0, 1, 2]) {
        const isAdmitted = filter.admitsTcp(peer, parseAddress(from)!, parseAddress(to)!, port);
        const first = packet({ from, to, protocol: 6, ports: [4000, port] });
        expect([from, to, port, peer, isAdmitted]).toEqual([from, to, port, peer, passes(filter, first, peer)]);
        if (isAdmitted) admitted++;
      }
    }
  }
  expect(admitted).toBeGreaterThan(10);
});
