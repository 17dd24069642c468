import { describe, expect, test } from "vitest";
import { CLASS, decodeMessage, encodeMessage, RECORD } from "./dns.ts";
import { signMessage, type TsigAlgorithm, type TsigKey, tsigProblem } from "./tsig.ts";

const key = (algorithm: TsigAlgorithm = "hmac-sha256", name = "update.example"): TsigKey => ({
  ...{ name, algorithm, secret: new Uint8Array(32).fill(7) },
});
const wall = Date.UTC(2026, 10, 21);
const message = encodeMessage({
  ...{ id: 4711, flags: 0x2800, questions: [{ name: "example.com", type: RECORD.SOA, class: CLASS.IN }] },
  ...{ answers: [], authority: [], additional: [] },
});

describe.each<TsigAlgorithm>(["hmac-sha256", "hmac-sha512"])("%s", (algorithm) => {
  const own = key(algorithm);
  const request = signMessage(message, own, wall);
  const answer = signMessage(message, own, wall, request.mac);

  test("what is signed is found signed, and still is the message", () => {
    expect(tsigProblem(request.message, own, wall)).toBeUndefined();
    expect(tsigProblem(answer.message, own, wall, request.mac)).toBeUndefined();
    expect(decodeMessage(request.message)).toMatchObject({ id: 4711, additional: [{ type: RECORD.TSIG, ttl: 0 }] });
  });

  test("an answer inside a larger buffer, as TCP gives it", () => {
    const held = Buffer.concat([Buffer.from("xx"), answer.message]).subarray(2);
    expect(tsigProblem(held, own, wall, request.mac)).toBeUndefined();
    expect(held).toEqual(Buffer.from(answer.message));
  });

  test("a forwarder may have changed the id", () => {
    expect(tsigProblem(Uint8Array.from(answer.message).with(0, 99), own, wall, request.mac)).toBeUndefined();
  });

  test.each<[string, () => string | undefined]>([
    ["it is not signed", () => tsigProblem(message, own, wall)],
    ["it is not signed", () => tsigProblem(new Uint8Array(5), own, wall)],
    ["its signature is wrong", () => tsigProblem(answer.message, own, wall)],
    ["its signature is wrong", () => tsigProblem(answer.message, own, wall, answer.mac)],
    ["its signature is wrong", () => tsigProblem(Uint8Array.from(request.message).with(14, 65), own, wall)],
    ["its signature is wrong", () => tsigProblem(request.message, { ...own, secret: new Uint8Array(32) }, wall)],
    ["it is signed by another key", () => tsigProblem(request.message, key(algorithm, "other.example"), wall)],
    [
      "it is signed by another key",
      () => tsigProblem(request.message, key(algorithm === "hmac-sha256" ? "hmac-sha512" : "hmac-sha256"), wall),
    ],
    ["it was signed at another time", () => tsigProblem(request.message, own, wall + 3_600_000)],
  ])("%s", (wanted, problem) => {
    expect(problem()).toBe(wanted);
  });

  test("cut or changed anywhere it is refused, and nothing is thrown", () => {
    for (let length = 0; length < request.message.length; length++) {
      expect(tsigProblem(request.message.subarray(0, length), own, wall)).toBeDefined();
    }
    for (let at = 2; at < request.message.length; at++) {
      const changed = Uint8Array.from(request.message);
      changed[at]! ^= 0x11;
      if (tsigProblem(changed, own, wall) === undefined) expect([at]).toEqual(["a changed byte passed"]);
    }
  });
});

test("the record is byte for byte what RFC 8945 section 4.2 lays out", () => {
  const { message: signed, mac } = signMessage(message, key(), 0x1_0000_0002 * 1000);
  const hex = Buffer.from(signed.subarray(message.length)).toString("hex");
  const name = "06757064617465076578616d706c6500";
  const algorithm = "0b686d61632d73686132353600";
  expect(hex).toBe(
    `${name}00fa00ff00000000003d${algorithm}000100000002012c0020${Buffer.from(mac).toString("hex")}126700000000`,
  );
});
