import { createLocalJWKSet, createRemoteJWKSet, type JSONWebKeySet, type JWTPayload, jwtVerify } from "jose";
import { Fault, messageOf } from "../base/fault.ts";
import type { CapMap } from "../wire/tailcfg.ts";
import type { RequestHeaders } from "./header-reader.ts";

export interface AssertionVerifierOptions {
  /** The gateway's public keys: the document itself, or where the gateway publishes it. */
  readonly jwks: JSONWebKeySet | URL;
  readonly issuer: string;
  /** The origin that callers ask for, such as `https://app.example.ts.net`. */
  readonly audience: string;
  /** Unix time in ms. @default the system's */
  readonly wall?: () => number;
}

/** What the gateway has signed of a caller. */
export interface AssertedIdentity {
  readonly kind: string;
  /** Login, name of a tagged node, or subject of a guest; absent for callers that are nobody. */
  readonly subject: string | undefined;
  readonly name: string | undefined;
  readonly node: string | undefined;
  readonly tags: readonly string[];
  readonly address: string;
  readonly capabilities: CapMap;
}

const HEADER = "sallyport-assertion";

/**
 * Checks `Sallyport-Assertion` of a request: signature, issuer, audience and time.
 * The result throws a Fault IDENTITY_ASSERTION for anything but a good one.
 */
export function assertionVerifier(
  options: AssertionVerifierOptions,
): (headers: RequestHeaders) => Promise<AssertedIdentity> {
  const { jwks, issuer, audience, wall = Date.now } = options;
  const keys = jwks instanceof URL ? createRemoteJWKSet(jwks) : createLocalJWKSet(jwks);
  return async (headers) => {
    const token = typeof headers["get"] === "function" ? headers.get(HEADER) : (headers as Plain)[HEADER];
    if (typeof token !== "string") throw refused("it is missing or there are several");
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer,
        audience,
        algorithms: ["EdDSA"], // never what the token asks for
        requiredClaims: ["exp", "iat", "kind", "address"],
        currentDate: new Date(wall()),
      });
      return identityOf(payload);
    } catch (error) {
      throw error instanceof Fault ? error : refused(messageOf(error), error);
    }
  };
}

type Plain = Readonly<Record<string, unknown>>;

function identityOf(payload: JWTPayload): AssertedIdentity {
  const { kind, address, name, node, tags, capabilities } = payload;
  if (typeof kind !== "string" || typeof address !== "string") throw refused("its kind or address is no text");
  return {
    kind,
    address,
    subject: payload.sub,
    name: typeof name === "string" ? name : undefined,
    node: typeof node === "string" ? node : undefined,
    tags: Array.isArray(tags) ? tags.filter((tag) => typeof tag === "string") : [],
    capabilities: Object.assign(Object.create(null) as CapMap, capabilities),
  };
}

function refused(found: string, cause?: unknown): Fault {
  return new Fault("IDENTITY_ASSERTION", `Cannot believe the assertion: ${found}, wanted one that the gateway signed`, {
    cause,
    hint: "Compare issuer and audience with the gateway's, and the clocks of both machines.",
  });
}
