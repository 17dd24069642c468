import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { memoryStore } from "../../src/base/store.ts";
import { openAuthority } from "../../src/certs/acme/acme-authority.ts";
import { newCertificateKey } from "../../src/certs/certificate-key.ts";
import { ChallengeJournal } from "../../src/certs/challenges/challenge-journal.ts";
import { dnsClient } from "../../src/certs/challenges/dns-client.ts";
import { recordsOf } from "../../src/certs/challenges/dns-lookup.ts";
import type { DnsProvider } from "../../src/certs/challenges/dns-provider.ts";
import { dnsSolver } from "../../src/certs/challenges/dns-solver.ts";
import { dnsProvider } from "../../src/certs/challenges/providers/provider.ts";
import { setDnsProvider } from "../../src/certs/challenges/providers/set-dns.ts";
import { memoryCertificateStore } from "../../src/certs/store/memory-store.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { Gateway } from "../../src/gateway/gateway.ts";
import { txtPublisher } from "../../src/mesh/control/node-requests.ts";
import { Server } from "../../src/server/server.ts";
import { RECORD } from "../../src/wire/dns.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { BIND_SECRETS, startBind } from "./bind.ts";
import { startReachablePebble } from "./reachable-pebble.ts";

const pebble = peersOrSkip("pebble");
const bind = peersOrSkip("pebble", "named", "ip");
const never = new AbortController().signal;

/** Orders one certificate at a Pebble that believes `dnsServer`, and gives the names in it. */
async function issued(names: readonly string[], provider: DnsProvider, dnsServer: string): Promise<readonly string[]> {
  const folder = scratchFolder(onTestFinished);
  const ca = await startReachablePebble({ folder, address: "127.0.0.1", dnsServer });
  onTestFinished(() => ca.stop());
  const store = memoryCertificateStore();
  const usual = { clock: systemClock, log: silentLog };
  const authority = openAuthority({
    ...{ ...usual, id: "pebble", directory: ca.directory, store, agreeToTerms: true },
    caBundle: readFileSync(ca.listenerRoot, "utf8"),
  });
  const journal = new ChallengeJournal(store, systemClock);
  const solver = dnsSolver({ ...usual, id: "dns", provider, lookup: dnsClient({ servers: [dnsServer] }), journal });
  const progress = { key: await newCertificateKey() };
  const { chain } = await authority.issue({ names, solvers: [solver], progress, save: async () => {} }, never);
  expect(await store.list("challenges/")).toEqual([]);
  return new X509Certificate(chain).subjectAltName?.replaceAll("DNS:", "").split(", ").toSorted() ?? [];
}

describe("a certificate by dns-01, from a CA that asks DNS itself", () => {
  test.skipIf(pebble.missing !== undefined)(
    `AC-11 our node by set-dns of our server, with its wildcard${pebble.missing ? ` (${pebble.missing})` : ""}`,
    { timeout: 120_000 },
    async () => {
      const server = await Server.open({
        ...{ store: new MemoryCoordinationStore(), state: memoryStore(), baseDomain: "mesh.example" },
        publicZone: { zone: "mesh.example", nameServer: "ns1.mesh.example", address: "127.0.0.1", port: 0 },
      });
      onTestFinished(() => server.close());
      await server.coordinator.createUser({ login: "alice@example.com" }, "test");
      const { key } = await server.coordinator.createAuthKey({ user: "alice@example.com" }, "test");
      const gateway = await Gateway.open({
        controlUrl: server.url,
        authKey: key,
        hostname: "gw",
        store: memoryStore(),
      });
      onTestFinished(() => gateway.close());
      await gateway.node.ready(AbortSignal.timeout(60_000));
      const provider = setDnsProvider(txtPublisher(gateway.node));
      const names = ["*.gw.mesh.example", "gw.mesh.example"];
      expect(await issued(names, provider, `127.0.0.1:${server.publicZone!.port}`)).toEqual(names);
      await expect(
        issued(["other.mesh.example"], provider, `127.0.0.1:${server.publicZone!.port}`),
      ).rejects.toMatchObject({ code: expect.stringMatching(/^(CERT|CONTROL)_/) });
    },
  );

  test.skipIf(!isRoot || bind.missing !== undefined)(
    `AC-11 by RFC 2136 at BIND, over a CNAME, and nothing stays behind${bind.missing ? ` (${bind.missing})` : ""}`,
    { timeout: 120_000 },
    async () => {
      const dns = await startBind();
      onTestFinished(() => dns.close());
      const lookup = dnsClient({ servers: [dns.address] });
      const provider = dnsProvider(
        { type: "rfc2136", keyName: "good.key", secret: "env:GOOD" },
        {
          ...{ lookup, clock: systemClock, random: systemRandom, fetch, env: BIND_SECRETS },
          writeFile: async () => {},
        },
      );
      const names = ["*.www.led.example", "example.com", "www.led.example"];
      expect(await issued(names, provider, `${dns.address}:53`)).toEqual(names);
      for (const name of ["_acme-challenge.example.com", "proofs.example.com"]) {
        const message = await lookup.ask(name, RECORD.TXT, { signal: never });
        expect(recordsOf(message, name, RECORD.TXT)).toEqual([]);
      }
    },
  );
});
