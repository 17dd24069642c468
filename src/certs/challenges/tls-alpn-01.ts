import { createHash } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { ChallengeSolver } from "./challenge.ts";
import { tooMany } from "./http-01.ts";

export const ACME_TLS = "acme-tls/1";
const ACME_IDENTIFIER = "1.3.6.1.5.5.7.1.31";
const OCTET_STRING = 0x04;
const DAY_MS = 86_400_000;
const MOST_PENDING = 1000;

export interface ChallengeCertificate {
  /** PEM, PKCS #8. */
  readonly key: string;
  /** PEM. */
  readonly certificate: string;
}

/** What a CA is shown in a handshake that is for nothing else (RFC 8737). */
export class TlsAlpnChallenges {
  /** The last of a name is the one shown. */
  readonly #pending: Map<string, ChallengeCertificate[]> = new Map();
  readonly #mayProve: (name: string) => boolean;
  readonly #clock: Clock;

  /** `mayProve`: names whose port 443 leads to us. */
  constructor(options: { readonly mayProve: (name: string) => boolean; readonly clock: Clock }) {
    this.#mayProve = options.mayProve;
    this.#clock = options.clock;
  }

  get solver(): ChallengeSolver {
    return {
      type: "tls-alpn-01",
      canProve: (name) => !name.startsWith("*.") && this.#mayProve(name),
      present: async (challenge) => {
        if (challenge.type !== "tls-alpn-01") {
          throw new Fault("CERT_CHALLENGE_TOKEN", `Cannot prove "${challenge.name}" by TLS: found ${challenge.type}`);
        }
        const name = challenge.name.toLowerCase();
        if (this.#pending.size >= MOST_PENDING) throw tooMany(name);
        const made = await challengeCertificate(name, challenge.keyAuthorization, this.#clock.wall());
        this.#pending.set(name, [...(this.#pending.get(name) ?? []), made]);
        return async () => {
          const left = (this.#pending.get(name) ?? []).filter((other) => other !== made);
          if (left.length === 0) this.#pending.delete(name);
          else this.#pending.set(name, left);
        };
      },
    };
  }

  /** Whether a listener has to look for `acme-tls/1` at all. */
  get isAny(): boolean {
    return this.#pending.size > 0;
  }

  /**
   * For a hello that offers `acme-tls/1` and nothing else. `undefined`: refuse the handshake; where the CA's protocol is
   * offered, no other certificate may be shown. With one: close after the handshake.
   */
  find(serverName: string, protocols: readonly string[]): ChallengeCertificate | undefined {
    if (protocols.length !== 1 || protocols[0] !== ACME_TLS) return undefined;
    return this.#pending.get(serverName.toLowerCase())?.at(-1);
  }
}

/** RFC 8737 section 3: self-signed, the name alone, and the digest of the key authorization in a critical extension. */
export async function challengeCertificate(
  name: string,
  keyAuthorization: string,
  wall: number,
): Promise<ChallengeCertificate> {
  const { selfSigned } = await import("../self-signed.ts"); // 50 ms: only who proves names this way pays
  const x509 = await import("@peculiar/x509");
  const digest = createHash("sha256").update(keyAuthorization).digest();
  return selfSigned("ACME challenge", wall, wall + DAY_MS, [
    new x509.SubjectAlternativeNameExtension([{ type: "dns", value: name }]),
    new x509.Extension(ACME_IDENTIFIER, true, Uint8Array.of(OCTET_STRING, digest.length, ...digest)),
  ]);
}
