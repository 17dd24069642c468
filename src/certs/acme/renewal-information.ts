import type { RenewalWindow } from "./authority.ts";
import { parseRetryAfter } from "./retry-after.ts";

const SHORTEST_MS = 60_000;
const LONGEST_MS = 86_400_000;
/** RFC 9773 section 4.3.3 leaves it to us when the CA does not say; CAs ask for six hours. */
const USUAL_MS = 6 * 3_600_000;

/** What a certificate is called in renewal information (RFC 9773 section 4.1); undefined where it has no such name. */
export async function certificateId(chain: string): Promise<string | undefined> {
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  try {
    const leaf = new x509.X509Certificate(x509.PemConverter.decodeFirst(chain));
    const issuer = leaf.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId;
    if (issuer === undefined) return undefined;
    const serial = Buffer.from(
      leaf.serialNumber.padStart(leaf.serialNumber.length + (leaf.serialNumber.length % 2), "0"),
      "hex",
    );
    // The DER integer: a leading zero keeps it positive.
    const integer = serial[0]! >= 0x80 ? Buffer.concat([Uint8Array.of(0), serial]) : serial;
    return `${Buffer.from(issuer, "hex").toString("base64url")}.${integer.toString("base64url")}`;
  } catch {
    return undefined;
  }
}

/** RFC 9773 section 4.2; undefined for a window that is none, upon which the usual rule is to be used. */
export function readRenewalWindow(
  body: unknown,
  retryAfter: string | undefined,
  wall: number,
): RenewalWindow | undefined {
  const { suggestedWindow } = (body ?? {}) as { suggestedWindow?: { start?: unknown; end?: unknown } };
  const [start, end] = [timeOf(suggestedWindow?.start), timeOf(suggestedWindow?.end)];
  if (!(end > start)) return undefined;
  const asked = parseRetryAfter(retryAfter, wall) ?? USUAL_MS;
  return { start, end, retryAfter: Math.min(Math.max(asked, SHORTEST_MS), LONGEST_MS) };
}

/** RFC 3339, NaN for anything else. */
function timeOf(text: unknown): number {
  return typeof text === "string" && /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : NaN;
}
