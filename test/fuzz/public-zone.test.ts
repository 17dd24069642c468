import { decode, encode, type Packet } from "dns-packet";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { addressRecord, fixedRecords, textRecord } from "../../src/certs/zone/records.ts";
import { Zone } from "../../src/certs/zone/zone.ts";
import { decodeMessage, encodeMessage } from "../../src/wire/dns.ts";
import { readCaa, readPrimary, readTarget, readText } from "../../src/wire/dns-data.ts";
import { FUZZ_TIMEOUT_MS, holds, hostileBytes } from "./fuzzing.ts";

const zone = new Zone({
  zone: "mesh.example",
  nameServers: ["ns1.mesh.example"],
  serial: () => 1,
  records: fixedRecords(
    new Map([
      ["ns1.mesh.example", [addressRecord("192.0.2.53", 300)!]],
      ["_acme-challenge.web.mesh.example", Array.from({ length: 8 }, (_, i) => textRecord(`${i}`.repeat(43), 1))],
    ]),
  ),
});
const query = (name: string, type: string, additionals: unknown[] = []): Uint8Array =>
  encode({ type: "query", id: 7, questions: [{ name, type }], additionals } as unknown as Packet);
const opt = { type: "OPT", name: ".", udpPayloadSize: 1232, flags: 0, options: [] };
const queries = [
  query("_acme-challenge.web.mesh.example", "TXT", [opt]),
  query("_acme-challenge.web.mesh.example", "TXT"),
  query("mesh.example", "ANY", [opt]),
  query("ns1.mesh.example", "A"),
  query("nobody.mesh.example", "CAA", [opt]),
];

describe("the public zone", { timeout: FUZZ_TIMEOUT_MS }, () => {
  test("DN-9 whatever is asked gets a whole answer within its limit, or none", () => {
    const property = fc.property(hostileBytes(...queries), fc.constantFrom("udp", "tcp"), (bytes, transport) => {
      const answer = zone.answer(bytes, transport);
      if (answer === undefined) return;
      if (answer.length > 1232 || answer[0] !== bytes[0] || answer[1] !== bytes[1]) throw new Error("not an answer");
      const read = decodeMessage(answer);
      if (read === undefined || (read.flags & 0x8080) !== 0x8000) throw new Error("not a whole answer");
      if ((zone.toTcp(bytes)?.length ?? 0) > bytes.length) throw new Error("amplified");
    });
    holds(property, 100_000);
  });

  test("messages of anybody are read or refused; what was read is written the same", () => {
    const answers = queries.map((bytes) => zone.answer(bytes, "tcp")!);
    const packet = encode({
      type: "response",
      answers: [
        { type: "CNAME", name: "a.example", data: "b.example" },
        { type: "CAA", name: "a.example", data: { flags: 0, tag: "issue", value: "ca.example" } },
      ],
    } as unknown as Packet);
    const property = fc.property(hostileBytes(...answers, packet), (bytes) => {
      const message = decodeMessage(bytes);
      if (message === undefined) return;
      for (const { data } of message.answers) [readText, readTarget, readPrimary, readCaa].map((read) => read(data));
      const isPlain = [...message.questions, ...message.answers].every(({ name }) => !name.includes("\\"));
      if (isPlain) expect(decodeMessage(encodeMessage(message))?.answers.length).toBe(message.answers.length);
    });
    holds(property, 20_000);
  });

  test("a well-meant question is read alike by us and by another codec", () => {
    const label = fc.stringMatching(/^[a-z0-9_-]{1,20}$/);
    const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join("."));
    const property = fc.property(name, fc.constantFrom("A", "TXT", "CAA"), (asked, type) => {
      const ours = decodeMessage(query(asked, type))!;
      expect(ours.questions[0]!.name).toBe(asked);
      const theirs = decode(Buffer.from(encodeMessage(ours)));
      expect(theirs.questions).toEqual([{ name: asked, type, class: "IN" }]);
    });
    holds(property, 2000);
  });
});
