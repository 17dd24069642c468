import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import path from "node:path";
import { text } from "node:stream/consumers";
import tls from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { startCa } from "../../../test/acme-ca/customer.ts";
import { listening } from "../../../test/suites/listening.ts";
import { certificateOf } from "../../../test/suites/proxy-scene.ts";
import { scratchFolder } from "../../../test/suites/scratch.ts";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import type { CertificatesConfig } from "../../config/certificates.ts";
import { openCertificateSources, type SourceOptions } from "./certificate-sources.ts";
import type { CertificateSources } from "./certificates.ts";

const APP = "app.example.com";

async function open(settings: CertificatesConfig, options: Partial<SourceOptions> = {}): Promise<CertificateSources> {
  const sources = await openCertificateSources(settings, {
    control: { names: () => [], set: async () => {} },
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    env: {},
    ...options,
  });
  onTestFinished(() => sources.close());
  return sources;
}

function folder(): string {
  const made = scratchFolder(onTestFinished);
  return made;
}

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listening(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function get(port: number, host: string, target: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const call = request({ host: "127.0.0.1", port, path: target, headers: { host } }, (answer) => {
      text(answer).then((body) => resolve({ status: answer.statusCode ?? 0, body }), reject);
    });
    call.once("error", reject).end();
  });
}

test("AC-11: a domain of the operator's, proved over a port of this machine that answers nothing else", async () => {
  const port = await freePort();
  const seen: { status: number; body: string }[] = [];
  const ca = await startCa({
    validate: async (challenge) => {
      if (challenge.type !== "http-01") return false;
      const target = `/.well-known/acme-challenge/${challenge.token}`;
      for (const [host, place] of [
        ["other.example.com", target],
        [APP, `${target}x`],
        [APP, `/.well-known/acme-challenge/../acme-challenge/${challenge.token}`],
        [APP, `/.well-known/acme-challenge%2f${challenge.token}`],
        [APP, `/.well-known/acme-challenge/${"a".repeat(2000)}`],
      ] as const)
        seen.push(await get(port, host, place));
      const right = await get(port, `${APP}:80`, target);
      return right.status === 200 && right.body === challenge.keyAuthorization;
    },
  });
  const sources = await open({
    authority: { directory: ca.directory },
    challenges: [{ type: "http-01", listen: `127.0.0.1:${port}` }],
  });
  await sources.keeper?.want([{ names: [APP], when: "needed", keyType: "rsa" }]);
  const { chain } = (await sources.keeper?.obtain(APP)) ?? { chain: "" };
  expect(new X509Certificate(chain).publicKey.asymmetricKeyType).toBe("rsa");
  expect(seen.map(({ status }) => status)).toEqual([404, 404, 404, 404, 404]);
  expect((await get(port, APP, "/.well-known/acme-challenge/gone")).status).toBe(404);
});

test("TL-7: proved by TLS on a port of this machine, which shows nothing to anybody else", async () => {
  const port = await freePort();
  const shown: (string | undefined)[] = [];
  const ask = (servername: string, ALPNProtocols: string[]): Promise<string | undefined> =>
    new Promise((resolve) => {
      const secure = tls.connect({ host: "127.0.0.1", port, servername, ALPNProtocols, rejectUnauthorized: false });
      secure.once("secureConnect", () => {
        resolve(secure.getPeerX509Certificate()?.subjectAltName);
        secure.destroy();
      });
      secure.once("error", () => resolve(undefined));
    });
  const ca = await startCa({
    validate: async (challenge) => {
      if (challenge.type !== "tls-alpn-01") return false;
      shown.push(await ask(APP, ["h2"]), await ask("other.example.com", ["acme-tls/1"]));
      return (await ask(APP, ["acme-tls/1"])) === `DNS:${APP}`;
    },
  });
  const sources = await open({
    authority: { directory: ca.directory },
    challenges: [{ type: "tls-alpn-01", listen: `127.0.0.1:${port}` }],
  });
  await sources.keeper?.want([{ names: [APP], when: "needed" }]);
  await sources.keeper?.obtain(APP);
  expect(shown).toEqual([undefined, undefined]);
  expect(await ask(APP, ["acme-tls/1"])).toBeUndefined();
});

test("what is kept in the folder is there for the next process", async () => {
  const ca = await startCa();
  const settings: CertificatesConfig = { authority: { directory: ca.directory }, challenges: [{ type: "http-01" }] };
  const where = folder();
  const first = await open(settings, { folder: where });
  await first.keeper?.want([{ names: [APP], when: "needed" }]);
  await first.keeper?.obtain(APP);
  await first.close();
  const second = await open(settings, { folder: where });
  await second.keeper?.want([{ names: [APP], when: "ahead" }]);
  expect(second.keeper?.certificate(APP)?.names).toEqual([APP]);
  expect(ca.orders).toHaveLength(1);
});

test("external accounts: the key comes from the environment, and is nowhere else", async () => {
  const hmac = Buffer.from("secret of the account, 32 bytes!").toString("base64url");
  const ca = await startCa({ externalAccounts: { kid: hmac } });
  const authority = { directory: ca.directory, externalAccount: { keyId: "kid", hmacKey: "env:EAB" } };
  const settings: CertificatesConfig = { authority, challenges: [{ type: "http-01" }] };
  await expect(open(settings)).rejects.toThrow(/Cannot read the secret at "env:EAB"/);
  const sources = await open(settings, { env: { EAB: hmac } });
  await sources.keeper?.want([{ names: [APP], when: "needed" }]);
  await sources.keeper?.obtain(APP);
  expect(ca.orders).toHaveLength(1);
});

test("the operator's own files need no CA", async () => {
  const where = folder();
  const { cert, key } = await certificateOf(APP);
  writeFileSync(path.join(where, "app.crt"), cert);
  writeFileSync(path.join(where, "app.key"), key);
  const sources = await open({ authority: "internal", files: [where] });
  expect(sources.keeper).toBeUndefined();
  expect(sources.file(APP)?.names).toEqual([APP]);
  expect(sources.file("other.example.com")).toBeUndefined();
});

test("a port that is taken and a bundle that is not there are said", async () => {
  const taken = createServer();
  const port = await listening(taken);
  await expect(open({ challenges: [{ type: "http-01", listen: `127.0.0.1:${port}` }] })).rejects.toThrow(
    /Cannot listen on "127\.0\.0\.1:\d+" for challenges/,
  );
  taken.close();
  const caBundle = "/nowhere/ca.pem";
  await expect(open({ authority: { directory: "https://ca.example/dir", caBundle } })).rejects.toThrow(caBundle);
});
