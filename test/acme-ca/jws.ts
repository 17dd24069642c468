import { createHash, createHmac, createPublicKey, timingSafeEqual, verify, type webcrypto } from "node:crypto";

export type Jwk = webcrypto.JsonWebKey;

/** RFC 7515, flattened. */
export interface Jws {
  readonly protected: string;
  readonly payload: string;
  readonly signature: string;
}

export interface JwsHeader {
  readonly alg: string;
  readonly url?: string;
  readonly nonce?: string;
  readonly kid?: string;
  readonly jwk?: Jwk;
}

export function headerOf(jws: Jws): JwsHeader {
  return JSON.parse(Buffer.from(jws.protected, "base64url").toString()) as JwsHeader;
}

/** Undefined for the empty payload of a POST-as-GET. */
export function payloadOf(jws: Jws): Record<string, unknown> | undefined {
  const text = Buffer.from(jws.payload, "base64url").toString();
  return text === "" ? undefined : (JSON.parse(text) as Record<string, unknown>);
}

export function isSignedBy(jws: Jws, jwk: Jwk): boolean {
  const { alg } = headerOf(jws);
  if (alg !== "ES256" && alg !== "RS256") return false;
  const signed = Buffer.from(`${jws.protected}.${jws.payload}`);
  const key = createPublicKey({ key: jwk, format: "jwk" });
  return verify("sha256", signed, { key, dsaEncoding: "ieee-p1363" }, Buffer.from(jws.signature, "base64url"));
}

export function isSealedBy(jws: Jws, hmacKey: string): boolean {
  const mac = createHmac("sha256", Buffer.from(hmacKey, "base64url"))
    .update(`${jws.protected}.${jws.payload}`)
    .digest();
  const given = Buffer.from(jws.signature, "base64url");
  return headerOf(jws).alg === "HS256" && given.length === mac.length && timingSafeEqual(given, mac);
}

/** RFC 7638. */
export function thumbprint({ crv, e, kty, n, x, y }: Jwk): string {
  const members = kty === "EC" ? { crv, kty, x, y } : { e, kty, n };
  return createHash("sha256").update(JSON.stringify(members)).digest("base64url");
}
