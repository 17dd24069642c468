import { constants } from "node:crypto";
import tls, { type SecureContext } from "node:tls";

/** RFC 9325 section 4.2: forward secrecy and authenticated encryption only. */
const SUITES = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

/**
 * How long one context may stay in use. The keys of its session tickets are OpenSSL's own, made with the context, never
 * written down and gone with it: a new context is how they rotate (TL-5).
 */
export const CONTEXT_LIFE_MS: number = 12 * 3_600_000;

interface ContextWish {
  readonly key: string;
  readonly chain: string;
  /** Clients are asked for a certificate. */
  readonly asksClients?: boolean;
}

/**
 * For one name. A ticket that another name's context gave cannot be opened by this one. Takes about half a millisecond.
 * Where clients are asked, there are no tickets: whoever takes up a session from before he had his certificate is not asked again.
 */
export function serverContext({ key, chain, asksClients = false }: ContextWish): SecureContext {
  return tls.createSecureContext({
    key,
    cert: chain,
    minVersion: "TLSv1.2",
    maxVersion: "TLSv1.3",
    ciphers: SUITES,
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (asksClients ? constants.SSL_OP_NO_TICKET : 0),
    // OpenSSL refuses to resume a session that might hold a client's certificate without it.
    sessionIdContext: "sallyport",
    sessionTimeout: CONTEXT_LIFE_MS / 1000,
  });
}
