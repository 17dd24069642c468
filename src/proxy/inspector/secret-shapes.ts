export const REDACTED = "REDACTED";

/**
 * Values that are secret by their form, whatever stands before them. Each expression can begin in few places, or looks no
 * further than a fixed length: what it reads may be made so that it takes long.
 */
const SHAPES: readonly (readonly [shape: RegExp, shown: string])[] = [
  // JWS and JWE in compact form (RFC 7519): `eyJ` is `{"` in base64url.
  [/(?<![\w-])eyJ[\w-]{6,}\.[\w-]{2,}(?:\.[\w-]*){0,3}/g, REDACTED],
  // What issuers put before their keys so that scanners find them.
  [
    /(?<![\w-])(?:gh[opusr]_|github_pat_|glpat-|xox[abeprs]-|[sr]k_(?:live|test)_|whsec_|sk-|AKIA|ASIA|AIza|ya29\.|npm_|pypi-|hf_|dop_v1_|shpat_|SG\.|tskey-|hskey-)[\w.-]{16,}/g,
    REDACTED,
  ],
  [/-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,60}-----|$)/g, REDACTED],
  // The name and password of an address (RFC 3986 section 3.2.1).
  [/:\/\/[^\s/?#@"'<>\\]{1,512}@/g, `://${REDACTED}@`],
  [/\b(Basic|Bearer|DPoP|Negotiate) {1,4}[\w+/=.~-]{16,}/gi, `$1 ${REDACTED}`],
];
/** The whole of a field, as `Authorization` has it (RFC 9110 section 11.4), and not a challenge, which has parameters. */
const CREDENTIALS = /^(ApiKey|Basic|Bearer|DPoP|Negotiate|NTLM|Token) +[\w+/=.~-]+$/i;

/** `text` without what is secret by its form. */
export function redactShapes(text: string): string {
  return SHAPES.reduce((shown, [shape, instead]) => shown.replace(shape, instead), text);
}

/** The same of a field. */
export function redactValue(value: string): string {
  return redactShapes(value.replace(CREDENTIALS, `$1 ${REDACTED}`));
}

/** What follows is a secret, if it is none of the words below. */
const SECRET_PLACES = /^(?:.*[-_.])?(?:tokens?|secrets?|passw(?:or)?ds?|jwts?|otps?|credentials?|api-?keys?|bearer)$/i;
const VERBS =
  /^(?:change|check|create|delete|edit|exchange|forgot|info|introspect|list|new|refresh|reset|revoke|sign|update|validate|verify)$/i;
/** What follows may be one: a link in a letter, a capability. */
const LINK_PLACES =
  /^(?:.*[-_.])?(?:activat(?:e|ion)|auth|confirm(?:ation)?|hooks?|invit(?:e|ation)s?|keys?|login|magic(?:-link)?|password|recover|reset|sessions?|shares?|unsubscribe|verif(?:y|ication)|webhooks?)$/i;
const LONG = /^(?=.*\d)[\w.~:=-]{16,}$/;
/** Nobody reads such names: digits, capitals and small letters, and no ending of a file. */
const OPAQUE = /^(?=.*\d)(?=.*[A-Z])(?=.*[a-z])[\w~:=-]{20,}$/;

/** 256 bits in base64url. */
const DOOR_TOKEN = /^[\w-]{43}$/;

/** Is this segment of a path a secret, by its form and by the one before it? */
export function isSecretSegment(segment: string, before: string): boolean {
  if (segment.length > 4096) return true;
  if (segment === "") return false;
  if (SECRET_PLACES.test(before.slice(-64))) return !VERBS.test(segment);
  if (before === "link" && DOOR_TOKEN.test(segment)) return true; // in a `Referer`
  return OPAQUE.test(segment) || (LINK_PLACES.test(before.slice(-64)) && LONG.test(segment));
}
