import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { dnsClient } from "../../src/certs/challenges/dns-client.ts";
import { recordsOf } from "../../src/certs/challenges/dns-lookup.ts";
import type { DnsProvider } from "../../src/certs/challenges/dns-provider.ts";
import { dnsSolver } from "../../src/certs/challenges/dns-solver.ts";
import { dnsProvider } from "../../src/certs/challenges/providers/provider.ts";
import { RECORD } from "../../src/wire/dns.ts";
import { readText } from "../../src/wire/dns-data.ts";
import type { TsigAlgorithm } from "../../src/wire/tsig.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { BIND_SECRETS, type Bind, startBind } from "./bind.ts";

const peers = peersOrSkip("named", "ip");
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `RFC 2136 with BIND${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const never = new AbortController().signal;
    let bind: Bind;
    beforeAll(async () => {
      bind = await startBind();
    }, 90_000);
    afterAll(() => bind?.close());

    const lookup = () => dnsClient({ servers: [bind.address] });
    interface Key {
      readonly keyName?: string;
      readonly secret?: keyof typeof BIND_SECRETS;
      readonly algorithm?: TsigAlgorithm;
      readonly transport?: "udp" | "tcp";
      readonly server?: string;
    }
    const providerOf = ({ secret = "GOOD", ...more }: Key = {}): DnsProvider =>
      dnsProvider(
        { type: "rfc2136", keyName: "good.key", ...more, secret: `env:${secret}` },
        {
          ...{ lookup: lookup(), clock: systemClock, random: systemRandom, fetch, env: BIND_SECRETS },
          writeFile: async () => {},
        },
      );
    const textsOf = async (name: string): Promise<readonly (string | undefined)[]> => {
      const message = await lookup().ask(name, RECORD.TXT, { signal: never });
      return recordsOf(message, name, RECORD.TXT)
        .map(({ data }) => readText(data))
        .toSorted();
    };

    test.each<Key>([
      {},
      { transport: "udp" },
      { keyName: "good512.key.", secret: "GOOD512", algorithm: "hmac-sha512" },
      { keyName: "GOOD.key", transport: "tcp", server: "ns1.example.com" },
    ])("AC-11 two values stand side by side and go one by one: %o", { timeout: 60_000 }, async (key) => {
      const provider = providerOf(key);
      const record = "_acme-challenge.example.com";
      await provider.set(record, "one", never);
      await provider.set(record, "two", never);
      await provider.set(record, "two", never);
      expect(await textsOf(record)).toEqual(["one", "two"]);
      await provider.remove(record, "one", never);
      expect(await textsOf(record)).toEqual(["two"]);
      await provider.remove(record, "two", never);
      await provider.remove(record, "two", never);
      expect(await textsOf(record)).toEqual([]);
    });

    test.each<[string, Key, RegExp]>([
      ["a wrong secret", { secret: "WRONG" }, /BADSIG/],
      ["an unknown key", { keyName: "unknown.key" }, /BADKEY/],
      ["a key of another algorithm", { algorithm: "hmac-sha512", secret: "GOOD512" }, /BADKEY/],
      ["a key that may not", { keyName: "other.key" }, /REFUSED/],
    ])("%s is told apart", { timeout: 60_000 }, async (_name, key, said) => {
      await expect(providerOf(key).set("_acme-challenge.example.com", "v", never)).rejects.toMatchObject({
        ...{ code: "CERT_CHALLENGE_PROVIDER", message: expect.stringMatching(said) },
      });
    });

    test("AC-11 the whole way: a CNAME is followed, the zone's servers are asked, the record goes", {
      timeout: 60_000,
    }, async () => {
      const solver = dnsSolver({
        ...{ id: "bind", provider: providerOf(), lookup: lookup(), clock: systemClock, log: silentLog },
      });
      const challenge = { type: "dns-01", name: "www.led.example", record: "_acme-challenge.www.led.example" } as const;
      const away = await solver.present({ ...challenge, value: "proof" }, never);
      expect(await textsOf("proofs.example.com")).toEqual(["proof"]);
      await away();
      expect(await textsOf("proofs.example.com")).toEqual([]);
    });

    test("an answer that does not fit comes over TCP", { timeout: 60_000 }, async () => {
      const provider = providerOf();
      const values = Array.from({ length: 30 }, (_, i) => `${i}`.padStart(2, "0").padEnd(60, "x"));
      for (const value of values) await provider.set("large.example.com", value, never);
      expect(await textsOf("large.example.com")).toEqual(values);
    });
  },
);
