/** What a listener presents for its names. */
export interface Certificate {
  /** Lower case, without the trailing dot; a wildcard is `*.example.com`. */
  readonly names: readonly string[];
  /** PKCS #8 PEM. */
  readonly key: string;
  /** PEM, the leaf first. */
  readonly chain: string;
  /** Unix time in ms. */
  readonly notBefore: number;
  readonly notAfter: number;
}
