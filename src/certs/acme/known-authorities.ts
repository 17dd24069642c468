/** Directories of public CAs that speak ACME, by the name under which a configuration asks for them. */
export const knownAuthorities: Readonly<Record<string, string>> = {
  letsencrypt: "https://acme-v02.api.letsencrypt.org/directory",
  "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
  zerossl: "https://acme.zerossl.com/v2/DV90",
  google: "https://dv.acme-v02.api.pki.goog/directory",
};

/** The directory of a known CA, or the URL that was given. */
export function directoryOf(nameOrUrl: string): string {
  return Object.hasOwn(knownAuthorities, nameOrUrl) ? knownAuthorities[nameOrUrl]! : nameOrUrl;
}
