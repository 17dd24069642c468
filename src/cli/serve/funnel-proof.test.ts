import { X509Certificate } from "node:crypto";
import net from "node:net";
import tls from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { listening } from "../../../test/suites/listening.ts";
import { gatewayStatus, idleGateway, openLocalSocket } from "../../../test/suites/local-gateway.ts";
import { certificateOf } from "../../../test/suites/proxy-scene.ts";
import { Screen } from "../../../test/suites/typed-command.ts";
import type { CertificateStatus } from "../../certs/keeper.ts";
import { Observations } from "../../funnel/observations.ts";
import type { Finding, Hop } from "../../funnel/probe.ts";
import { alertRecord } from "../../wire/client-hello.ts";
import type { IpnStatus } from "../../wire/ipn.ts";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { rulesAt, rulesBySite, type SiteRules } from "../../wire/visitor-rules.ts";
import type { CliIo } from "../io.ts";
import { LocalClient } from "../local-client.ts";
import { main } from "../main.ts";
import { type Look, prove, proveOn, visitorsWay } from "./funnel-proof.ts";

const NAME = "web.tail.test";
const TARGET = { name: NAME, port: 443, isHttp: true };
const HOPS: readonly Hop[] = ["dns", "ingress", "name", "certificate", "backend"];

/** A gateway that is public under its name, and what a command prints. */
async function scene(
  status: Partial<IpnStatus["Self"]> = {},
  certificates: readonly CertificateStatus[] = [],
  refusal?: string,
  rules?: Omit<SiteRules, "sites">,
): Promise<{
  readonly socket: string;
  readonly io: CliIo;
  readonly stop: AbortController;
  readonly out: Screen;
  readonly client: LocalClient;
}> {
  let config: ServeConfig = {
    TCP: { 443: { HTTPS: true } },
    Web: { [`${NAME}:443`]: { Handlers: { "/": { Proxy: "http://127.0.0.1:3000" } } } },
    AllowFunnel: { [`${NAME}:443`]: true },
  };
  const Self = { DNSName: `${NAME}.`, CapMap: { funnel: null, https: null }, ...status };
  const socket = await openLocalSocket({
    ...idleGateway,
    status: async () => gatewayStatus({ Self }),
    serveConfig: () => ({ config, etag: "1" }),
    setServeConfig: async (next) => {
      config = next ?? {};
    },
    certificates: () => certificates,
    ...(rules === undefined
      ? {}
      : {
          visitorRules: {
            at: () => rulesAt(rulesBySite([{ sites: ["*"], ...rules }]), NAME, 443),
            set: async () => undefined,
          },
        }),
    ...(refusal === undefined ? {} : { queryFeature: async () => ({ Text: refusal }) }),
    observations: new Observations(
      (target) => (config.AllowFunnel?.[target] === true ? "served" : undefined),
      () => 0,
    ),
  });
  onTestFinished(() => socket.close());
  const stop = new AbortController();
  const out = new Screen({ signal: stop.signal });
  return { socket: socket.path, io: out.io, stop, out, client: new LocalClient(socket.path, stop.signal) };
}

/** Round by round: the hop that fails, or none. */
function rounds(...failing: readonly (Hop | undefined)[]): Look {
  let round = 0;
  return async function* () {
    const bad = failing[Math.min(round, failing.length - 1)];
    round += 1;
    for (const hop of HOPS) {
      const finding: Finding = { hop, isGood: hop !== bad, found: hop === bad ? `no ${hop}` : `good ${hop}` };
      yield finding;
      if (hop === bad) return;
    }
  };
}

test("FN-9 each hop is shown once, as soon as it holds, and what does not hold yet is asked again", async () => {
  const { io, out, client, socket } = await scene();
  expect(await prove(TARGET, rounds("name", "certificate", undefined), io, client, 0)).toBe(true);
  const lines = out.stderr.split("\n").slice(1, -1);
  expect(lines.map((line) => line.trim().split(/ +/).slice(0, 2).join(" "))).toEqual([
    ...["✓ dns", "✓ ingress", "… name", "✓ name", "… certificate", "✓ certificate", "✓ backend"],
  ]);
  expect(out.stdout).toBe("");
  expect(await main(["--socket", socket, "funnel", "status"], io)).toBe(0);
  expect(out.stdout).toContain(
    "#     - web.tail.test:443: visitors get through (good backend), seen 1970-01-01T00:00Z\n",
  );
});

test("FN-9 status says what was never looked at, and which hop failed when", async () => {
  const { io, out, client, socket } = await scene();
  expect(await main(["--socket", socket, "funnel", "status"], io)).toBe(0);
  expect(out.stdout).toContain("web.tail.test:443: not looked at yet");
  out.stdout = "";
  await client.observed({
    target: `${NAME}:443`,
    findings: [{ hop: "dns", isGood: false, found: "no\u202e address" }],
  });
  await main(["--socket", socket, "funnel", "status"], io);
  expect(out.stdout).toContain("web.tail.test:443: ✗ dns: no\\u{202e} address, seen 1970-01-01T00:00Z\n");
  out.stdout = "";
  await main(["--socket", socket, "funnel", "status", "--json"], io);
  expect(JSON.parse(out.stdout)).toMatchObject({
    AllowFunnel: { [`${NAME}:443`]: true },
    Observed: [{ Target: `${NAME}:443`, At: "1970-01-01T00:00:00.000Z", Findings: [{ Hop: "dns", IsGood: false }] }],
  });
  out.stdout = "";
  await main(["--socket", socket, "serve", "status", "--json"], io);
  expect(JSON.parse(out.stdout)).not.toHaveProperty("Observed");
});

test("FN-9 what holds ends with the address, and on a terminal with its QR code", async () => {
  const { io, out, client } = await scene();
  expect(await proveOn(TARGET, io, client, rounds(undefined))).toBe(true);
  expect(out.stderr).toMatch(/✓ backend +good backend\n\nhttps:\/\/web\.tail\.test\/\n$/);
  out.stderr = "";
  await proveOn({ ...TARGET, port: 8443 }, { ...io, isTerminal: true }, client, rounds(undefined));
  expect(out.stderr).toMatch(/\n(?:.*[▀▄█].*\n){10,}\nhttps:\/\/web\.tail\.test:8443\/\n$/);
  for (const [columns, isThere] of [
    [20, false],
    [80, true],
  ] as const) {
    out.stderr = "";
    await proveOn(TARGET, { ...io, isTerminal: true, columns }, client, rounds(undefined));
    expect(/[▀▄█]/.test(out.stderr), String(columns)).toBe(isThere);
    expect(out.stderr.endsWith("\n\nhttps://web.tail.test/\n")).toBe(true);
  }
});

const cert = (more: Partial<CertificateStatus>): CertificateStatus => ({
  ...{ id: NAME, names: [NAME], state: "valid", observed: 0 },
  ...more,
});

test.each<[what: string, has: readonly CertificateStatus[], isLasting: boolean, said: RegExp]>([
  ["of the gateway's own CA", [cert({ authority: "internal" })], true, /SELF_SIGNED.*: it is of this gateway's own CA/],
  [
    "of a CA that nobody knows",
    [cert({ authority: "staging" })],
    true,
    /certificate +visitors do not know who signed it, "web.tail.test" \(DEPTH_ZERO_SELF_SIGNED_CERT\)\n/,
  ],
  ["by a wildcard", [cert({ names: ["*.tail.test"], authority: "internal" })], true, /gateway's own CA/],
  [
    "that is about to come",
    [cert({ authority: "internal" }), cert({ state: "ordering" })],
    false,
    /SELF_SIGNED_CERT\)\n/,
  ],
  ["of another name", [cert({ names: ["other.tail.test"], authority: "internal" })], false, /SELF_SIGNED_CERT\)\n/],
])("FN-9 a certificate %s was waited for in vain, for 60 s", async (_, has, isLasting, said) => {
  const { io, out, client, stop } = await scene({}, has);
  const { cert: chain, key } = await certificateOf(NAME);
  const server = tls.createServer({ cert: chain, key }).on("tlsClientError", () => undefined);
  const target = { ...TARGET, port: await listening(server) };
  onTestFinished(() => void server.close());
  const way = visitorsWay(client, { resolve: async () => ["127.0.0.1"] });
  let round = 0;
  const look: Look = (...asked) => {
    round += 1;
    if (round < 5) return way(...asked);
    stop.abort(); // it would go on
    return (async function* () {})();
  };
  expect(await prove(target, look, io, client, 0)).toBe(false);
  expect(round).toBe(isLasting ? 2 : 5);
  expect(out.stderr).toMatch(said);
  expect(out.stderr.includes("docs/certificates.md")).toBe(isLasting);
});

const FAILED = {
  ...{ at: 0, authority: "letsencrypt", code: "caa" },
  message: "CAA record for web.tail.test prevents issuance",
};
test.each<[what: string, has: readonly CertificateStatus[], hop: Hop, found: RegExp]>([
  [
    "the CA refuses it (CAA)",
    [cert({ state: "waiting", lastFailure: FAILED, nextAttempt: Date.parse("2027-01-02T03:04:05Z") })],
    "certificate",
    /^letsencrypt gave none: CAA record for web\.tail\.test prevents issuance, again at 2027-01-02T03:04Z$/,
  ],
  ["it is being ordered", [cert({ state: "ordering" })], "certificate", /^it is being ordered$/],
  ["nobody has asked for it", [cert({ state: "none" })], "certificate", /^it has not been ordered yet$/],
  ["there is one: the node is away", [cert({})], "name", /does not reach this node/],
  ["the gateway knows of none", [], "name", /does not reach this node/],
])("FN-9 where no certificate was there, a check named the ingress: %s", async (_, has, hop, found) => {
  const { client } = await scene({}, has);
  const server = net.createServer((socket) =>
    socket.on("error", () => undefined).once("data", () => socket.end(alertRecord(80))),
  );
  const target = { ...TARGET, port: await listening(server) };
  onTestFinished(() => void server.close());
  const look = visitorsWay(client, { resolve: async () => ["127.0.0.1"] });
  const findings = await Array.fromAsync(look(target, AbortSignal.timeout(20_000)));
  expect(findings.at(-1)).toMatchObject({ hop, isGood: false, found: expect.stringMatching(found) });
});

test.each<[string, Omit<SiteRules, "sites">, boolean, Partial<Finding>]>([
  [
    "only others",
    { allow: ["203.0.113.61/32"] },
    false,
    { hop: "name", isLasting: true, found: "only from 203.0.113.61/32" },
  ],
  [
    "not this machine",
    { deny: ["127.0.0.0/8"] },
    false,
    { hop: "name", isLasting: true, found: "not from 127.0.0.0/8" },
  ],
  [
    "on a raw port",
    { deny: ["127.0.0.0/8"] },
    true,
    { hop: "backend", isLasting: true, found: "not from 127.0.0.0/8" },
  ],
  ["everybody may come", {}, false, { hop: "name", found: "not know the name, or not on this port" }],
])(
  "FN-9 who let in others alone was told after a minute that the ingress does not know the name: %s",
  async (_, rules, isRaw, last) => {
    const { client } = await scene({}, [], undefined, rules);
    const server = net.createServer((socket) => {
      socket.on("error", () => undefined);
      if (isRaw) socket.destroy();
      else socket.once("data", () => socket.end(alertRecord(112)));
    });
    const target = { ...TARGET, port: await listening(server), isRaw };
    onTestFinished(() => void server.close());
    const look = visitorsWay(client, { resolve: async () => ["127.0.0.1"] });
    const findings = await Array.fromAsync(look(target, AbortSignal.timeout(20_000)));
    expect(findings.at(-1)).toEqual({
      isGood: false,
      ...last,
      found: expect.stringMatching(new RegExp(`${last.found}$`)),
    });
  },
);

test("FN-9 a name that still led to the machine that had it before, with a good certificate, was proved to be on", async () => {
  const { cert: chain, key } = await certificateOf(NAME);
  const { serialNumber, validTo } = new X509Certificate(chain);
  const answer = (socket: tls.TLSSocket): unknown =>
    socket.on("error", () => undefined).once("data", () => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
  const server = tls.createServer({ cert: chain, key }, answer).on("tlsClientError", () => undefined);
  const target = { ...TARGET, port: await listening(server) };
  onTestFinished(() => void server.close());
  const notAfter = Date.parse(validTo);
  const own = { notAfter, serial: serialNumber.toLowerCase() };
  const elsewhere: Finding = {
    ...{ hop: "dns", isGood: false },
    found: `127.0.0.1 is another machine: it has a good certificate for ${NAME}, and not this node's`,
  };
  const through: Finding = { hop: "backend", isGood: true, found: "status 200" };
  for (const [has, isHttp, last] of [
    [[cert({ ...own, serial: "2a" })], true, elsewhere],
    [[cert({ notAfter: notAfter - 1000 })], true, elsewhere],
    [[cert({ ...own, serial: "2a" }), cert(own)], true, through],
    [[cert({ notAfter: notAfter + 1 })], true, through], // of a file
    [[cert({ state: "none" })], true, through], // nobody can say
    [[cert({ ...own, serial: "2a" })], false, { hop: "certificate", isGood: true }], // the target's own
  ] as const) {
    const { client } = await scene({}, has);
    const way = visitorsWay(client, { resolve: async () => ["127.0.0.1"], ca: chain });
    const findings: Finding[] = [];
    for await (const finding of way({ ...target, isHttp }, AbortSignal.timeout(20_000))) findings.push(finding);
    expect(findings.at(-1), JSON.stringify(has)).toMatchObject(last);
  }
});

test("FN-9 `funnel --bg --check && …` went on where the network allows no funnel at all", async () => {
  const { io, out, socket } = await scene({ CapMap: {} }, [], "an administrator must add it");
  for (const [flags, status] of [
    [["--bg", "--check"], 1],
    [["--bg"], 0], // as upstream
  ] as const) {
    out.stdout = "";
    expect(await main(["--socket", socket, "funnel", ...flags, "3000"], io)).toBe(status);
    expect(out.stdout).toBe("an administrator must add it\n");
  }
});

test("FN-9 a look that breaks off does not end the command", async () => {
  const { io, out, client } = await scene();
  const broken: Look = () => {
    throw new Error("no\u0007 network");
  };
  expect(await proveOn(TARGET, io, client, broken)).toBe(false);
  expect(out.stderr).toContain("Cannot look from outside: no\\u{7} network\n");
});

test.each([
  ["in the background it stays on", ["--bg"], "Funnel started and running in the background.\n"],
  ["in the foreground it ends both", [], "Press Ctrl+C to exit.\n"],
])("FN-9 Ctrl+C while looking: %s, nothing is remembered", async (_, flags, said) => {
  const { io, out, stop, socket } = await scene({
    CapMap: { funnel: null, https: null, "sallyport.dev/public-names": [{ name: "other.tail.test", ports: [443] }] },
  });
  const stderr = (text: string): void => {
    io.stderr(text);
    if (text.includes("… policy")) stop.abort();
  };
  expect(
    await main(["--socket", socket, "funnel", ...flags, "--check", "--https=8443", "3000"], { ...io, stderr }),
  ).toBe(0);
  expect(out.stderr).toMatch(/Looking from outside.*\n {2}… policy +the network brings no visitors/);
  expect(await new LocalClient(socket, new AbortController().signal).observations()).toEqual([]);
  expect(out.stdout).toContain(said);
});
