/**
 * Names of header fields that only we may set. Backends behind CGI, WSGI, Rack or PHP turn `-`, `_`, `.` and other
 * punctuation into one variable name, so names are compared folded (reliability matrix ID-1).
 */
export function foldName(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}

const OURS = ["tailscale", "sallyport"];

/** Upstream's names and ours (ID-1, ID-20), under every spelling that folds into them. */
export function isReserved(name: string): boolean {
  const first = name.charCodeAt(0) | 0x20;
  // Nearly every field begins with another letter: t, s, or punctuation that folds away.
  if (first >= 0x61 && first <= 0x7a && first !== 0x74 && first !== 0x73) return false;
  const folded = foldName(name);
  return OURS.some((prefix) => folded === prefix || folded.startsWith(`${prefix}-`));
}

/** Fields that say where a request came from or what it asked for: a caller's are removed, ours are set (ID-4). */
const FORWARDING: ReadonlySet<string> = new Set([
  "forwarded",
  "proxy", // CGI makes HTTP_PROXY of it, which programs take for their proxy (CVE-2016-5385)
  "x-forwarded",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-forwarded-scheme",
  "x-forwarded-ssl",
  "x-forwarded-port",
  "x-forwarded-prefix",
  "x-forwarded-server",
  "x-forwarded-user",
  "x-forwarded-email",
  "x-forwarded-groups",
  "x-forwarded-preferred-username",
  "x-real-ip",
  "true-client-ip",
  "x-client-ip",
  "x-cluster-client-ip",
  "x-original-url",
  "x-rewrite-url",
  "x-http-method-override",
  "x-http-method",
  "x-method-override",
]);

export function isForwarding(name: string): boolean {
  return FORWARDING.has(foldName(name));
}

/** Letters, digits and dashes: no backend can fold such a name into another one (ID-2). */
export function isPlainName(name: string): boolean {
  return /^[A-Za-z0-9-]+$/.test(name);
}
