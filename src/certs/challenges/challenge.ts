/** What a CA asks to see before it believes that a name is ours (RFC 8555 section 8, RFC 8737). */
export type Challenge =
  | {
      readonly type: "dns-01";
      /** The name to be proved, without `*.`. */
      readonly name: string;
      /** Where the CA looks: `_acme-challenge.` and the name. */
      readonly record: string;
      /** Of the TXT record. */
      readonly value: string;
    }
  | {
      readonly type: "http-01";
      readonly name: string;
      readonly token: string;
      readonly keyAuthorization: string;
    }
  | { readonly type: "tls-alpn-01"; readonly name: string; readonly keyAuthorization: string };

export type ChallengeType = Challenge["type"];

/** Something that can show a CA what it asks for. */
export interface ChallengeSolver {
  readonly type: ChallengeType;
  /** `name` may be a wildcard, which only DNS proves. */
  canProve(name: string): boolean;
  /**
   * Settles when the CA may look; the result takes it away again, whether or not the CA liked it.
   * @throws {Fault} CERT_CHALLENGE_…
   */
  present(challenge: Challenge, signal: AbortSignal): Promise<() => Promise<void>>;
}
