const LONGEST_LABEL = 63;
const FALLBACK = "node";
const LOCAL_SUFFIX = /\.(?:local|localdomain|lan)$/;

/** A host name as the first label of a name (control-protocol §8.2, upstream util/dnsname SanitizeHostname). */
export function sanitizeName(hostname: string): string {
  const label = hostname
    .slice(0, 256)
    .toLowerCase()
    .replace(LOCAL_SUFFIX, "")
    .replace(/[ .@_]/g, "-")
    .replace(/[^a-z0-9-]/g, "")
    .replace(/^-+/, "")
    .slice(0, LONGEST_LABEL)
    .replace(/-+$/, "");
  return label === "" ? FALLBACK : label;
}

/** `name`, or with the first free of `-1`, `-2`, … */
export function freeName(name: string, isTaken: (name: string) => boolean): string {
  if (!isTaken(name)) return name;
  for (let i = 1; ; i++) {
    const suffix = `-${i}`;
    const candidate = `${name.slice(0, LONGEST_LABEL - suffix.length).replace(/-+$/, "")}${suffix}`;
    if (!isTaken(candidate)) return candidate;
  }
}

/** Would a node of this label be called as the server or its name server? It would get their certificates and visitors. */
export function isOwnName(
  label: string,
  { baseDomain, ownNames = [] }: { readonly baseDomain: string; readonly ownNames?: readonly string[] },
): boolean {
  return ownNames.includes(`${label}.${baseDomain}`.toLowerCase());
}

/** A label that an administrator may give as it is. */
export function isLabel(text: string): boolean {
  return text.length <= LONGEST_LABEL && /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/.test(text);
}

/** upstream tailcfg CheckTag. */
export function isTag(text: string): boolean {
  return /^tag:[a-zA-Z][a-zA-Z0-9-]*$/.test(text);
}
