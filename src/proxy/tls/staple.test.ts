import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import tls from "node:tls";
import {
  AuthorityInfoAccessExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../../test/suites/listening.ts";
import { closeScenes, GATE, onClose, proxyScene, webConfig } from "../../../test/suites/proxy-scene.ts";
import { serverContext } from "./tls-context.ts";

afterEach(closeScenes);

const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** Public CAs have ended OCSP or are about to; a renewal window says what a staple said (RFC 9773). */
test("AC-14: a responder that the certificate names is never asked, and no staple is missed", async () => {
  let asked = 0;
  const responder = createServer(() => {
    asked++; // and never answers
  });
  onClose(() => responder.close());
  const ocsp = `http://127.0.0.1:${await listening(responder)}/`;
  const keys = await webcrypto.subtle.generateKey(ECDSA, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: `CN=${GATE}`,
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(Date.now() + 3_600_000),
      signingAlgorithm: ECDSA,
      keys,
      extensions: [
        new SubjectAlternativeNameExtension([{ type: "dns", value: GATE }]),
        new AuthorityInfoAccessExtension({ ocsp }),
      ],
    },
    webcrypto as unknown as Crypto,
  );
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  const context = serverContext({
    chain: certificate.toString("pem"),
    key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`,
  });
  const { connect } = proxyScene(webConfig({ "/": { Text: "hi" } }), { secureContext: () => context });
  const client = tls.connect({
    socket: connect(443),
    servername: GATE,
    ca: [certificate.toString("pem")],
    requestOCSP: true,
  });
  onClose(() => client.destroy());
  const stapled = once(client, "OCSPResponse");
  await once(client, "secureConnect");
  expect((await stapled)[0]).toBeNull();
  expect([client.authorized, asked]).toEqual([true, 0]);
});
