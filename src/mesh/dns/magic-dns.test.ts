import { type DecodedPacket, decode, encode, type Packet } from "dns-packet";
import { describe, expect, test } from "vitest";
import { mapNode, networkMap } from "../../../test/suites/network-map.ts";
import { seededRandom } from "../../base/random.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { Node } from "../../wire/tailcfg.ts";
import { MagicDns } from "./magic-dns.ts";

const node = (ID: number, name: string, Addresses: string[], more: Partial<Node> = {}): Node =>
  mapNode(ID, { Name: `${name}.tail.test.`, Addresses, ...more });

const PEERS = [
  node(2, "Web", ["100.64.0.2/32", "fd7a:115c:a1e0::2/128"]),
  node(3, "six", ["fd7a:115c:a1e0::3/128"]),
  node(4, "wild", ["100.64.0.4/32"], { CapMap: { "dns-subdomain-resolve": null } }),
];
const map = (more: Partial<NetworkMap> = {}): NetworkMap =>
  networkMap(PEERS, {
    self: node(1, "gate", ["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]),
    dns: {
      Proxied: true,
      Domains: ["tail.test"],
      Routes: { "corp.example.": [], "split.example": [{ Addr: "10.0.0.53" }] },
      ExtraRecords: [
        { Name: "App.corp.example.", Value: "10.1.2.3" },
        { Name: "app.corp.example", Type: "AAAA", Value: "fd00::1" },
        { Name: "txt.corp.example", Type: "TXT", Value: "10.1.2.3" },
      ],
    },
    domain: "tail.test",
    ...more,
  });

const dns = new MagicDns(() => 1_700_000_000_000);
dns.setMap(map());

function ask(
  name: string,
  type: string,
  more: Partial<Packet> = {},
  resolver: MagicDns = dns,
): DecodedPacket | undefined {
  const query: Packet = { type: "query", id: 7, flags: 0x100, questions: [{ name, type: type as "A" }], ...more };
  const answer = resolver.answer(encode(query));
  return answer === undefined ? undefined : decode(Buffer.from(answer));
}

const gist = (packet: DecodedPacket | undefined): unknown =>
  packet === undefined
    ? undefined
    : [
        (packet as { rcode?: string }).rcode,
        ...(packet.answers ?? []).map((answer) => ("data" in answer ? String(answer.data) : "")),
        ...(packet.authorities ?? []).map(({ name, type }) => `${type} ${name}`),
      ];

describe("answers", () => {
  test.each<[string, string, unknown]>([
    ["web.tail.test", "A", ["NOERROR", "100.64.0.2"]],
    ["WEB.Tail.Test", "A", ["NOERROR", "100.64.0.2"]],
    ["gate.tail.test", "A", ["NOERROR", "100.64.0.1"]],
    ["web.tail.test", "AAAA", ["NOERROR", "SOA tail.test"]],
    ["web.tail.test", "ANY", ["NOERROR", "100.64.0.2"]],
    ["web.tail.test", "TXT", ["NOERROR"]],
    ["web.tail.test", "SOA", ["NOTIMP"]],
    ["six.tail.test", "AAAA", ["NOERROR", "fd7a:115c:a1e0::3"]],
    ["six.tail.test", "A", ["NOERROR", "SOA tail.test"]],
    ["a.b.wild.tail.test", "A", ["NOERROR", "100.64.0.4"]],
    ["a.web.tail.test", "A", ["NXDOMAIN", "SOA tail.test"]],
    ["nobody.tail.test", "A", ["NXDOMAIN", "SOA tail.test"]],
    ["xtail.test", "A", undefined],
    ["app.corp.example", "A", ["NOERROR", "10.1.2.3"]],
    ["app.corp.example", "AAAA", ["NOERROR", "fd00::1"]],
    ["txt.corp.example", "A", ["NXDOMAIN", "SOA corp.example"]],
    ["other.corp.example", "A", ["NXDOMAIN", "SOA corp.example"]],
    ["host.split.example", "A", undefined],
    ["example.com", "A", undefined],
    ["web", "A", undefined],
    ["x.onion", "A", ["NXDOMAIN"]],
    ["10-1-1-0-via-7.x.ts.net", "AAAA", ["NOERROR", "fd7a:115c:a1e0:b1a:0:7:a01:100"]],
    ["10-1-1-0-via-0x7", "AAAA", ["NOERROR", "fd7a:115c:a1e0:b1a:0:7:a01:100"]],
    ["10-1-1-0-via-7.x.ts.net", "A", ["NOERROR"]],
    ["2.0.64.100.in-addr.arpa", "PTR", ["NOERROR", "web.tail.test"]],
    ["9.0.64.100.in-addr.arpa", "PTR", ["NXDOMAIN", "SOA 64.100.in-addr.arpa"]],
    ["9.0.0.10.in-addr.arpa", "PTR", undefined],
    [`${"3.0.0.0.".padEnd(40, "0.")}0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa`, "PTR", ["NOERROR", "six.tail.test"]],
    ["magicdns.localhost-tailscale-daemon", "A", ["NOERROR", "100.100.100.100"]],
  ])("%s %s", (name, type, wanted) => {
    expect(gist(ask(name, type))).toEqual(wanted);
  });

  test("header: authoritative, recursion as asked, TTL 5", () => {
    const packet = ask("web.tail.test", "A")!;
    expect([packet.id, packet.flag_aa, packet.flag_rd, packet.flag_ra]).toEqual([7, true, true, true]);
    expect(packet.answers?.[0]).toMatchObject({ name: "web.tail.test", ttl: 5 });
    expect(ask("web.tail.test", "A", { flags: 0 })).toMatchObject({ flag_rd: false, flag_ra: false });
    expect(ask("x.tail.test", "A")?.authorities?.[0]).toMatchObject({
      ttl: 10,
      data: { serial: 1_700_000_000, minimum: 10 },
    });
  });

  test("`magicdns-aaaa` shows both families, an IPv6-only node is shown no IPv4", () => {
    const resolver = new MagicDns();
    resolver.setMap(map({ self: node(1, "gate", ["100.64.0.1/32"], { CapMap: { "magicdns-aaaa": null } }) }));
    expect(gist(ask("web.tail.test", "AAAA", {}, resolver))).toEqual(["NOERROR", "fd7a:115c:a1e0::2"]);
    resolver.setMap(map({ self: node(1, "gate", ["fd7a:115c:a1e0::1/128"]) }));
    expect(gist(ask("web.tail.test", "A", {}, resolver))).toEqual(["NOERROR", "SOA tail.test"]);
    expect(resolver.lookup("web")).toEqual(["fd7a:115c:a1e0::2"]);
  });

  test("an expired node knows no names, nor does one without a map", () => {
    const resolver = new MagicDns();
    expect(ask("web.tail.test", "A", {}, resolver)).toBeUndefined();
    resolver.setMap(map({ self: node(1, "gate", ["100.64.0.1/32"], { Expired: true }) }));
    expect(ask("web.tail.test", "A", {}, resolver)).toBeUndefined();
  });
});

test("lookup: full names, single labels, final dot, strangers", () => {
  const wanted = ["100.64.0.2", "fd7a:115c:a1e0::2"];
  expect(["web", "WEB.tail.test", "web.tail.test."].map((name) => dns.lookup(name))).toEqual([wanted, wanted, wanted]);
  expect(["", ".", "web.other.test", "example.com"].map((name) => dns.lookup(name))).toEqual([[], [], [], []]);
  expect(dns.lookup("app.corp.example")).toEqual(["10.1.2.3", "fd00::1"]);
});

describe("DN-6: hostile queries", () => {
  const good = encode({ type: "query", id: 7, questions: [{ name: "web.tail.test", type: "A" }] });
  test.each<[string, Uint8Array, unknown]>([
    ["nothing", new Uint8Array(0), undefined],
    ["a response", encode({ type: "response", id: 7, questions: [{ name: "web.tail.test", type: "A" }] }), undefined],
    ["no question", good.subarray(0, 12).with(5, 0), ["FORMERR"]],
    ["two questions", Uint8Array.from(good).with(5, 2), ["FORMERR"]],
    ["a cut name", good.subarray(0, 15), ["FORMERR"]],
    ["a cut type", good.subarray(0, -1), ["FORMERR"]],
    ["a pointer to itself", Uint8Array.from([...good.subarray(0, 12), 0xc0, 12, 0, 1, 0, 1]), ["FORMERR"]],
    [
      "a name of 320 bytes",
      Uint8Array.from([
        ...good.subarray(0, 12),
        ...new Array(5).fill([63, ...new Array(63).fill(97)]).flat(),
        0,
        0,
        1,
        0,
        1,
      ]),
      ["FORMERR"],
    ],
    ["opcode 2", Uint8Array.from(good).with(2, 0x10), ["NOTIMP"]],
    ["class CHAOS", Uint8Array.from(good).with(good.length - 1, 3), ["REFUSED"]],
  ])("%s", (_name, query, wanted) => {
    const answer = dns.answer(query);
    expect(gist(answer && decode(Buffer.from(answer)))).toEqual(wanted);
  });

  test("a dot inside a label is no end of a label", () => {
    const query = Uint8Array.from([
      ...good.subarray(0, 12),
      8,
      ...Buffer.from("web.tail"),
      4,
      ...Buffer.from("test"),
      0,
      0,
      1,
      0,
      1,
    ]);
    expect(dns.answer(query)).toBeUndefined();
  });

  test("20,000 mutations neither throw nor grow", () => {
    const random = seededRandom(6);
    for (let i = 0; i < 20_000; i++) {
      const bytes = Uint8Array.from(good);
      for (const at of random(3)) bytes[at % bytes.length] = random(1)[0]!;
      const answer = dns.answer(
        bytes.subarray(0, random(1)[0]! % 4 === 0 ? random(1)[0]! % bytes.length : bytes.length),
      );
      expect((answer?.length ?? 0) < 512).toBe(true);
    }
  });
});

describe("names of others", () => {
  const query = (name: string): Buffer => encode({ type: "query", id: 7, questions: [{ name, type: "A" }] });
  const globally = new MagicDns();
  globally.setMap(
    map({
      dns: {
        Resolvers: [{ Addr: "1.1.1.1" }],
        Routes: { "Split.Example.": [{ Addr: "10.0.0.53" }], "deep.split.example": [{ Addr: "10.0.0.54:5353" }] },
        ExtraRecords: [{ Name: "app.split.example", Value: "10.1.2.3" }],
      },
    }),
  );

  test.each<[string, MagicDns, readonly string[] | undefined]>([
    ["host.split.example", dns, ["10.0.0.53"]],
    ["example.com", dns, undefined],
    ["host.split.example", globally, ["10.0.0.53"]],
    ["host.deep.split.example", globally, ["10.0.0.54:5353"]],
    ["deepsplit.example", globally, ["1.1.1.1"]],
  ])("%s is asked of whom the map names", async (name, resolver, wanted) => {
    const asked: unknown[] = [];
    const answer = Buffer.from("answer");
    const given = await resolver.resolve(query(name), "udp", async (_query, transport, servers) => {
      asked.push(transport, servers);
      return answer;
    });
    expect([given, asked]).toEqual([answer, ["udp", wanted]]);
  });

  test("what is ours is asked of nobody, and refused is what nobody answers", async () => {
    const nobody = async (): Promise<Uint8Array | undefined> => undefined;
    const code = async (name: string) =>
      gist(decode(Buffer.from((await globally.resolve(query(name), "udp", nobody))!)));
    expect(await code("app.split.example")).toEqual(["NOERROR", "10.1.2.3"]);
    expect(await code("example.com")).toEqual(["REFUSED"]);
    expect(await globally.resolve(Buffer.alloc(3), "udp", nobody)).toBeUndefined();
  });
});
