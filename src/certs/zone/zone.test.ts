import { type DecodedPacket, decode, encode, type Packet } from "dns-packet";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { AnswerRate } from "./answer-rate.ts";
import { ChallengeRecords } from "./challenge-records.ts";
import { addressRecord, allRecords, caaRecord, fixedRecords, textRecord } from "./records.ts";
import { Zone } from "./zone.ts";

const zone = new Zone({
  zone: "mesh.example",
  nameServers: ["ns1.mesh.example", "ns2.other.example"],
  serial: () => 2_026_112_101,
  records: allRecords(
    (name) => (name === "web.mesh.example" ? [] : undefined),
    fixedRecords(
      new Map([
        ["ns1.mesh.example", [addressRecord("192.0.2.53", 300)!, addressRecord("2001:db8::53", 300)!]],
        ["_acme-challenge.web.mesh.example", [textRecord("one", 1), textRecord("two", 1)]],
        ["deep.down.mesh.example", [textRecord("x".repeat(400), 1)]],
        ["caa.mesh.example", [caaRecord({ isCritical: true, tag: "issue", value: "letsencrypt.org" }, 60)]],
        ["large.mesh.example", Array.from({ length: 40 }, (_, i) => textRecord(`${i}-`.padEnd(43, "v"), 1))],
      ]),
    ),
  ),
});

interface Asked extends DecodedPacket {
  readonly rcode?: string;
}

const query = (name: string, type: string, more: object = {}): Buffer =>
  encode({ type: "query", id: 7, flags: 0x100, questions: [{ name, type: type as "A" }], ...more } as Packet);
const opt = (udpPayloadSize: number, ednsVersion = 0) => ({
  additionals: [{ type: "OPT", name: ".", udpPayloadSize, ednsVersion, flags: 0, options: [] }],
});

function ask(name: string, type: string, more: object = {}, transport: "udp" | "tcp" = "udp"): Asked {
  return decode(Buffer.from(zone.answer(query(name, type, more), transport)!)) as Asked;
}

const gist = ({ rcode, answers, authorities }: Asked): string[] => [
  rcode ?? "",
  ...answers!.map((record) => ("data" in record ? textOf(record.data) : "")),
  ...authorities!.map(({ name, type }) => `${type} ${name}`),
];
const textOf = (data: unknown): string =>
  Array.isArray(data) ? data.join("") : typeof data === "object" ? JSON.stringify(data) : String(data);

describe("DN-9", () => {
  const nothing = ["NOERROR", "SOA mesh.example"];
  test.each<[string, string, string[]]>([
    ["mesh.example", "NS", ["NOERROR", "ns1.mesh.example", "ns2.other.example"]],
    ["mesh.example", "A", nothing],
    ["mesh.example", "CAA", nothing],
    ["mesh.example", "DS", nothing],
    ["ns1.mesh.example", "A", ["NOERROR", "192.0.2.53"]],
    ["ns1.mesh.example", "AAAA", ["NOERROR", "2001:db8::53"]],
    ["ns1.mesh.example", "TXT", nothing],
    ["web.mesh.example", "A", nothing],
    ["web.mesh.example", "CAA", nothing],
    ["_acme-challenge.web.mesh.example", "TXT", ["NOERROR", "one", "two"]],
    ["_acme-challenge.web.mesh.example", "CNAME", nothing],
    ["_acme-challenge.web.mesh.example", "CAA", nothing],
    ["down.mesh.example", "TXT", nothing],
    ["deep.down.mesh.example", "TXT", ["NOERROR", "x".repeat(400)]],
    [
      "caa.mesh.example",
      "CAA",
      ["NOERROR", '{"flags":128,"tag":"issue","value":"letsencrypt.org","issuerCritical":true}'],
    ],
    ["nobody.mesh.example", "A", ["NXDOMAIN", "SOA mesh.example"]],
    ["a.web.mesh.example", "TXT", ["NXDOMAIN", "SOA mesh.example"]],
    ["xmesh.example", "A", ["REFUSED"]],
    ["example", "NS", ["REFUSED"]],
    [".", "NS", ["REFUSED"]],
    ["example.com", "A", ["REFUSED"]],
    ["mesh.example", "AXFR", ["REFUSED"]],
    ["mesh.example", "IXFR", ["REFUSED"]],
    ["web.mesh.example", "TSIG", ["REFUSED"]],
    ["web.mesh.example", "ANY", ["NOERROR", '{"cpu":"RFC8482","os":""}']],
    ["nobody.mesh.example", "ANY", ["NXDOMAIN", "SOA mesh.example"]],
  ])("%s %s", (name, type, wanted) => {
    expect(gist(ask(name, type))).toEqual(wanted);
    expect(gist(ask(name, type, opt(4096), "tcp"))).toEqual(wanted);
  });

  test("the SOA; absence is not remembered; no recursion", () => {
    const packet = ask("mesh.example", "SOA");
    expect(packet.answers![0]).toMatchObject({
      ttl: 0,
      data: { mname: "ns1.mesh.example", rname: "hostmaster.mesh.example", serial: 2_026_112_101, minimum: 0 },
    });
    expect(packet).toMatchObject({
      id: 7,
      flag_qr: true,
      flag_aa: true,
      flag_rd: true,
      flag_ra: false,
      flag_tc: false,
    });
    expect(ask("example.com", "A")).toMatchObject({ flag_aa: false, flag_ra: false });
  });

  test("the case of the letters comes back", () => {
    const packet = ask("_Acme-ChaLLenge.WEB.mesh.Example", "TXT");
    expect(packet.questions![0]!.name).toBe("_Acme-ChaLLenge.WEB.mesh.Example");
    expect(packet.answers![0]!.name).toBe("_Acme-ChaLLenge.WEB.mesh.Example");
    expect(gist(packet)).toEqual(["NOERROR", "one", "two"]);
  });

  test.each<[string, object, "udp" | "tcp", number | undefined]>([
    ["no EDNS", {}, "udp", undefined],
    ["512", opt(512), "udp", undefined],
    ["1,232", opt(1232), "udp", undefined],
    ["4,096: never above 1,232", opt(4096), "udp", undefined],
    ["TCP", {}, "tcp", 40],
  ])("what does not fit is told to come by TCP: %s", (_name, more, transport, count) => {
    const bytes = zone.answer(query("large.mesh.example", "TXT", more), transport)!;
    const packet = decode(Buffer.from(bytes)) as Asked;
    expect([packet.flag_tc, packet.answers!.length]).toEqual([count === undefined, count ?? 0]);
    expect(bytes.length <= 1232 || transport === "tcp").toBe(true);
  });

  test("eight values of a challenge fit without EDNS", () => {
    const values = Array.from({ length: 8 }, (_, i) => textRecord(String(i).padEnd(43, "v"), 1));
    const own = new Zone({ zone: "a.example", nameServers: ["ns.b.example"], serial: () => 1, records: () => values });
    const answer = decode(Buffer.from(own.answer(query("_acme-challenge.web.a.example", "TXT"), "udp")!));
    expect([answer.flag_tc, answer.answers!.length]).toEqual([false, 8]);
    expect(answer.additionals).toEqual([]);
  });

  test("EDNS is answered with EDNS, another version with BADVERS", () => {
    expect(ask("web.mesh.example", "A", opt(1232)).additionals).toMatchObject([{ type: "OPT", udpPayloadSize: 1232 }]);
    const other = ask("web.mesh.example", "A", opt(1232, 1));
    expect(other.additionals).toMatchObject([{ type: "OPT", extendedRcode: 1 }]);
    expect(other.answers).toEqual([]);
  });
});

describe("DN-9 hostile", () => {
  const good = query("web.mesh.example", "A");
  const long = Buffer.concat([...new Array<Buffer>(5).fill(Buffer.from(`?${"a".repeat(63)}`)), Buffer.alloc(5)]);
  test.each<[string, Uint8Array, string | undefined]>([
    ["nothing", new Uint8Array(0), undefined],
    ["eleven bytes", good.subarray(0, 11), undefined],
    ["a response", Uint8Array.from(good).with(2, 0x81), undefined],
    ["no question", good.subarray(0, 12).with(5, 0), "FORMERR"],
    ["two questions", Uint8Array.from(good).with(5, 2), "FORMERR"],
    ["an answer", Uint8Array.from(good).with(7, 1), "FORMERR"],
    ["five additional records", Uint8Array.from(good).with(11, 5), "FORMERR"],
    ["a missing additional record", Uint8Array.from(good).with(11, 1), "FORMERR"],
    ["a cut name", good.subarray(0, 16), "FORMERR"],
    ["a cut class", good.subarray(0, -1), "FORMERR"],
    ["a pointer", Uint8Array.from([...good.subarray(0, 12), 0xc0, 2, 0, 1, 0, 1]), "FORMERR"],
    ["a name of 320 bytes", Buffer.concat([good.subarray(0, 12), long]), "FORMERR"],
    [
      "two OPT",
      query("web.mesh.example", "A", { additionals: [...opt(512).additionals, ...opt(512).additionals] }),
      "FORMERR",
    ],
    ["UPDATE", Uint8Array.from(good).with(2, 0x28), "NOTIMP"],
    ["NOTIFY", Uint8Array.from(good).with(2, 0x20), "NOTIMP"],
    ["class CHAOS", Uint8Array.from(good).with(good.length - 1, 3), "REFUSED"],
    ["class ANY", Uint8Array.from(good).with(good.length - 1, 255), "REFUSED"],
  ])("%s", (_name, bytes, wanted) => {
    const answer = zone.answer(bytes, "udp");
    expect(answer && (decode(Buffer.from(answer)) as Asked).rcode).toBe(wanted);
  });

  test("a dot inside a label is no end of a label", () => {
    const name = Buffer.concat([Buffer.from("\u0008web.mesh\u0007example"), Buffer.from([0, 0, 1, 0, 1])]);
    const answer = zone.answer(Buffer.concat([good.subarray(0, 12), name]), "udp")!;
    expect((decode(Buffer.from(answer)) as Asked).rcode).toBe("REFUSED");
  });

  test("an answer of the rate limit is no larger than the question", () => {
    const bytes = query("_acme-challenge.web.mesh.example", "TXT");
    const answer = zone.toTcp(bytes)!;
    expect(answer.length).toBe(bytes.length);
    expect(decode(Buffer.from(answer))).toMatchObject({ flag_tc: true, answers: [] });
  });
});

test("DN-9 a network has its share, then half of its queries go to TCP; others are not touched", () => {
  const rate = new AnswerRate();
  const take = (address: string, now = 0, count = 1000): Record<string, number> => {
    const counts: Record<string, number> = {};
    for (let i = 0; i < count; i++) {
      const verdict = rate.take(address, now);
      counts[verdict] = (counts[verdict] ?? 0) + 1;
    }
    return counts;
  };
  expect(take("192.0.2.1")).toEqual({ answer: 200, "to-tcp": 400, drop: 400 });
  expect(take("192.0.2.200", 0, 10)).toEqual({ "to-tcp": 5, drop: 5 });
  expect(take("192.0.3.1", 0, 200)).toEqual({ answer: 200 });
  expect(take("::ffff:192.0.2.7", 0, 2)).toEqual({ "to-tcp": 1, drop: 1 });
  expect(take("2001:db8:0:aa00::1", 0, 200)).toEqual({ answer: 200 });
  expect(take("2001:db8:0:aaff::1", 0, 2)).toEqual({ "to-tcp": 1, drop: 1 });
  expect(take("2001:db8:0:ab00::1", 0, 2)).toEqual({ answer: 2 });
  expect(take("192.0.2.1", 1000, 102)).toEqual({ answer: 100, "to-tcp": 1, drop: 1 });
});

test("CS-17 at most eight values, for at most ten minutes", () => {
  const clock = new FakeClock();
  const records = new ChallengeRecords(clock);
  for (let i = 0; i < 9; i++) records.set("_acme-challenge.a.example", `v${i}`);
  expect(records.values("_acme-challenge.a.example")).toEqual(["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"]);
  clock.advance(300_000);
  records.set("_acme-challenge.a.example", "v1");
  clock.advance(300_000);
  expect(records.values("_acme-challenge.a.example")).toEqual(["v1"]);
  clock.advance(300_000);
  expect(records.values("_acme-challenge.a.example")).toEqual([]);
  expect(records.values("_acme-challenge.b.example")).toEqual([]);
});

test("CS-17 ten thousand names may wait, and no more; those that are over make room", () => {
  const clock = new FakeClock();
  const records = new ChallengeRecords(clock);
  for (let i = 0; i < 10_000; i++) records.set(`${i}.example`, "v");
  expect(() => records.set("more.example", "v")).toThrow(expect.objectContaining({ code: "ZONE_FULL" }));
  records.set("5.example", "another"); // an old one still may
  clock.advance(600_000);
  records.set("more.example", "v");
  expect(records.values("more.example")).toEqual(["v"]);
});
