import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { calculateJwkThumbprint, type JSONWebKeySet, type JWK, SignJWT } from "jose";
import type { Clock } from "../base/clock.ts";
import type { Caller } from "./caller.ts";

/** Long enough for one request; a backend that checks needs no more. */
const LIFETIME_S = 60;
/** The same statement is signed again after this: most requests cost no signature, and each has 40 s left at least. */
const REUSE_MS = 20_000;
const MOST_KEPT = 1024;

/** Signs who the caller is, so that a backend can check instead of trust (the assertion header, a JWT by EdDSA). */
export class Assertions {
  readonly #clock: Clock;
  readonly #issuer: () => string;
  readonly #key: KeyObject;
  readonly #publicKey: JWK;
  readonly #kept: Map<string, Kept> = new Map();

  private constructor(clock: Clock, issuer: () => string, key: KeyObject, publicKey: JWK) {
    this.#clock = clock;
    this.#issuer = issuer;
    this.#key = key;
    this.#publicKey = publicKey;
  }

  /**
   * `issuer` is asked for each statement: a node may be renamed. `key` is an Ed25519 private key in PKCS#8 PEM; without one
   * a new key lives as long as the process.
   */
  static async create(issuer: string | (() => string), clock: Clock, key?: string): Promise<Assertions> {
    const privateKey = key === undefined ? generateKeyPairSync("ed25519").privateKey : createPrivateKey(key);
    const jwk = createPublicKey(privateKey).export({ format: "jwk" }) as JWK;
    const kid = await calculateJwkThumbprint(jwk);
    const issuerNow = typeof issuer === "string" ? () => issuer : issuer;
    return new Assertions(clock, issuerNow, privateKey, { ...jwk, kid, alg: "EdDSA", use: "sig" });
  }

  /** The document that the gateway publishes (RFC 7517). */
  get jwks(): JSONWebKeySet {
    return { keys: [this.#publicKey] };
  }

  /** `audience` is the origin that the caller asked for; `capabilities` the JSON that the route accepts. */
  sign(caller: Caller, audience: string, capabilities: string | undefined): Promise<string> {
    const now = this.#clock.now();
    const issuer = this.#issuer();
    const statement = JSON.stringify([issuer, caller, audience, capabilities]);
    const known = this.#kept.get(statement);
    if (known !== undefined && now - known.at < REUSE_MS) return known.token;
    const token = this.#sign(issuer, caller, audience, capabilities);
    if (this.#kept.size >= MOST_KEPT) this.#kept.clear();
    this.#kept.set(statement, { at: now, token });
    return token;
  }

  #sign(issuer: string, caller: Caller, audience: string, capabilities: string | undefined): Promise<string> {
    const now = Math.floor(this.#clock.wall() / 1000);
    const capabilityClaim = capabilities === undefined ? {} : { capabilities: JSON.parse(capabilities) as unknown };
    const kind = caller.kind === "guest" && caller.user !== undefined ? "user" : caller.kind;
    return new SignJWT({ kind, address: caller.address, ...claimsOf(caller), ...capabilityClaim })
      .setProtectedHeader({ alg: "EdDSA", kid: this.#publicKey.kid ?? "", typ: "JWT" })
      .setIssuer(issuer)
      .setAudience(audience)
      .setIssuedAt(now)
      .setNotBefore(now - 5)
      .setExpirationTime(now + LIFETIME_S)
      .sign(this.#key);
  }
}

interface Kept {
  /** Monotonic ms. */
  readonly at: number;
  readonly token: Promise<string>;
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
      if (caller.user === undefined) return { sub: caller.subject, guest_issuer: caller.issuer };
      return {
        sub: caller.user.login,
        name: caller.user.displayName,
        guest_issuer: caller.issuer,
        guest_subject: caller.subject,
      };
    case "anonymous":
    case "probe":
      return {};
  }
}
