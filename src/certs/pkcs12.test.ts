import { spawnSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import tls from "node:tls";
import { expect, test } from "vitest";
import { systemClock } from "../base/clock.ts";
import { systemRandom } from "../base/random.ts";
import { LocalCa } from "./local-ca.ts";
import { pkcs12Of } from "./pkcs12.ts";

const isMissing = spawnSync("openssl", ["version"]).status !== 0;

async function pair(): Promise<{ key: string; chain: string }> {
  const { key, certificate } = await (await LocalCa.create(systemClock)).issue(["gw.tail.test"]);
  return { key, chain: certificate };
}

test("Node's own reader takes it, with the empty password", async () => {
  const made = await pair();
  const pfx = Buffer.from(pkcs12Of(made, systemRandom));
  expect(() => tls.createSecureContext({ pfx, passphrase: "" })).not.toThrow();
  pfx[pfx.length - 40]! ^= 1; // in the MAC
  expect(() => tls.createSecureContext({ pfx, passphrase: "" })).toThrow(/mac verify failure/);
});

test.skipIf(isMissing)(
  `openssl finds the key and both certificates${isMissing ? " (openssl is not installed)" : ""}`,
  async () => {
    const made = await pair();
    const { stdout, stderr, status } = spawnSync("openssl", ["pkcs12", "-passin", "pass:", "-nodes"], {
      input: pkcs12Of(made, systemRandom),
      encoding: "utf8",
    });
    expect([status, stderr]).toEqual([0, ""]);
    const found = stdout.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    const given = made.chain.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    expect(found.map((pem) => new X509Certificate(pem).fingerprint256)).toEqual(
      given.map((pem) => new X509Certificate(pem).fingerprint256),
    );
    const [key = ""] = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----/.exec(stdout) ?? [];
    expect(createPrivateKey(key).equals(createPrivateKey(made.key))).toBe(true);
    expect(stdout.match(/localKeyID/g)).toHaveLength(2);
  },
);
