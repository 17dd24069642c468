import { expect, test } from "vitest";
import { answerC2n } from "./c2n.ts";

test.each([
  ["GET", "/posture/identity?hwaddrs=true", 200, '{"PostureDisabled":true}'],
  ["POST", "/update", 200, '{"Enabled":false,"Supported":false,"Started":false}'],
  ["POST", "/logtail/flush", 204, ""],
  ["GET", "/logtail/flush", 405, "bad method\n"],
  ["POST", "/debug/pprof/heap", 400, "unknown c2n path\n"],
  ["POST", "/debug/prefs", 400, "unknown c2n path\n"],
  ["POST", "/netfilter-kind?kind=nftables", 400, "unknown c2n path\n"],
  ["GET", "/remoteapi/localapi/v0/status", 400, "unknown c2n path\n"],
  ["GET", "/__proto__", 400, "unknown c2n path\n"],
])("CC-6 the server asks %s %s: %i", (method, path, status, body) => {
  const answer = answerC2n({ method, path, headers: {}, body: new Uint8Array() });
  expect([answer.status, answer.body]).toEqual([status, body]);
});
