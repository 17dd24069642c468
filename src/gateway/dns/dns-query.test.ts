import { decode } from "dns-packet";
import { expect, test } from "vitest";
import { queryDns } from "./dns-query.ts";

const ANSWER = Buffer.from("answer");

test.each([
  ["web.tail.test", "", "A"],
  ["web.tail.test.", "aaaa", "AAAA"],
  ["9.0.64.100.in-addr.arpa", "PTR", "PTR"],
  ["tail.test", " all ", "ANY"],
])("%s %j is asked as a question of its own", async (name, type, wanted) => {
  const asked: Buffer[] = [];
  const answer = await queryDns(
    async (query) => {
      asked.push(Buffer.from(query));
      return ANSWER;
    },
    name,
    type,
  );
  expect(answer).toBe(ANSWER);
  expect(decode(asked[0]!)).toMatchObject({
    type: "query",
    flag_rd: true,
    questions: [{ name: name.replace(/\.$/, ""), type: wanted, class: "IN" }],
  });
});

test.each([
  ["", "A"],
  ["a..b", "A"],
  ["x".repeat(64), "A"],
  ["web", "__proto__"],
  ["web", "NOPE"],
])("%j %s is no question", async (name, type) => {
  await expect(queryDns(async () => ANSWER, name, type)).rejects.toMatchObject({ code: "GATEWAY_DNS_QUERY" });
});
