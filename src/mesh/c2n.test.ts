import { expect, test } from "vitest";
import { answerC2n, type C2nCertificates } from "./c2n.ts";

const START = Date.UTC(2026, 0, 1);
const DAY = 86_400_000;
const HAVING: C2nCertificates = {
  certificateOf: (domain) =>
    ({
      "gw.tail.test": { notBefore: START, notAfter: START + 90 * DAY },
      "old.tail.test": { notBefore: START - 90 * DAY, notAfter: START },
    })[domain],
  wall: () => START + DAY,
};

const WEB = { Name: "svc:web", Ports: ["tcp:443"], Active: true };
/** As upstream has it: SHA-256 of the list as JSON, and a newline. */
const WEB_HASH = "0ae8c333a548c3fad3d9a2edb4201bcf862bc9563079549579721b60204f2207";

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
  [
    "GET",
    "/vip-services",
    200,
    `{"VIPServices":[{"Name":"svc:web","Ports":["tcp:443"],"Active":true}],"ServicesHash":"${WEB_HASH}"}`,
  ],
  ["POST", "/vip-services", 400, "unknown c2n path\n"],
  ["GET", "/tls-cert-status", 400, "no 'domain'\n"],
  ["POST", "/tls-cert-status?domain=gw.tail.test", 400, "unknown c2n path\n"],
  [
    "GET",
    "/tls-cert-status?domain=gw.tail.test",
    200,
    '{"Valid":true,"NotBefore":"2026-01-01T00:00:00.000Z","NotAfter":"2026-04-01T00:00:00.000Z"}',
  ],
  ["GET", "/tls-cert-status?domain=old.tail.test", 200, '{"Error":"cert expired","Expired":true}'],
  ["GET", "/tls-cert-status?domain=other.tail.test", 200, '{"Error":"no certificate","Missing":true}'],
])("CC-6 the server asks %s %s: %i", (method, path, status, body) => {
  const answer = answerC2n({ method, path, headers: {}, body: new Uint8Array() }, HAVING, [WEB]);
  expect([answer.status, answer.body]).toEqual([status, body]);
});
