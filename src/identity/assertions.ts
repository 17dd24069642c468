import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from "node:crypto";
import { calculateJwkThumbprint, type JSONWebKeySet, type JWK, SignJWT } from "jose";
import type { Clock } from "../base/clock.ts";
import type { Caller } from "./caller.ts";

/** Long enough for one request; a backend that checks needs no more. */
const LIFETIME_S = 60;

/** Signs who the caller is, so that a backend can check instead of trust (the assertion header, a JWT by EdDSA). */
export class Assertions {
  readonly #clock: Clock;
  readonly #issuer: string;
  readonly #key: KeyObject;
  readonly #publicKey: JWK;

  private constructor(clock: Clock, issuer: string, key: KeyObject, publicKey: JWK) {
    this.#clock = clock;
    this.#issuer = issuer;
    this.#key = key;
    this.#publicKey = publicKey;
  }

  /** `key` is an Ed25519 private key in PKCS#8 PEM; without one a new key lives as long as the process. */
  static async create(issuer: string, clock: Clock, key?: string): Promise<Assertions> {
    const privateKey = key === undefined ? generateKeyPairSync("ed25519").privateKey : createPrivateKey(key);
    const jwk = createPublicKey(privateKey).export({ format: "jwk" }) as JWK;
    const kid = await calculateJwkThumbprint(jwk);
    return new Assertions(clock, issuer, privateKey, { ...jwk, kid, alg: "EdDSA", use: "sig" });
  }

  /** The document that the gateway publishes (RFC 7517). */
  get jwks(): JSONWebKeySet {
    return { keys: [this.#publicKey] };
  }

  /** `audience` is the origin that the caller asked for; `capabilities` the JSON that the route accepts. */
  sign(caller: Caller, audience: string, capabilities: string | undefined): Promise<string> {
    const now = Math.floor(this.#clock.wall() / 1000);
    const capabilityClaim = capabilities === undefined ? {} : { capabilities: JSON.parse(capabilities) as unknown };
    return new SignJWT({ kind: caller.kind, address: caller.address, ...claimsOf(caller), ...capabilityClaim })
      .setProtectedHeader({ alg: "EdDSA", kid: this.#publicKey.kid ?? "", typ: "JWT" })
      .setIssuer(this.#issuer)
      .setAudience(audience)
      .setIssuedAt(now)
      .setNotBefore(now - 5)
      .setExpirationTime(now + LIFETIME_S)
      .setJti(randomUUID())
      .sign(this.#key);
  }
}

function claimsOf(caller: Caller): Record<string, unknown> {
  switch (caller.kind) {
    case "user":
      return { sub: caller.login, name: caller.displayName, node: caller.nodeName };
    case "tagged":
      return { sub: caller.nodeName, tags: caller.tags, node: caller.nodeName };
    case "routed":
      return { via: caller.via };
    case "guest":
      return { sub: caller.subject, guest_issuer: caller.issuer };
    case "anonymous":
    case "probe":
      return {};
  }
}
