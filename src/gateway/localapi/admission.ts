import type { IncomingHttpHeaders } from "node:http";

/** The only name that a client of the socket may use; anything else comes from a browser or a rebinding attack. */
const LOCAL_HOST = "local-tailscaled.sock";

/**
 * May this request be looked at? Rules of upstream's `localapi.go:ServeHTTP` (CVE-2022-41924, CVE-2022-41925): a page in a
 * browser must not reach the interface, whatever name it resolves to the socket's address.
 */
export function isAdmitted(headers: IncomingHttpHeaders): boolean {
  if (headers.referer !== undefined && headers.referer !== "") return false;
  if (headers.origin !== undefined) return false;
  const host = headers.host ?? "";
  return host === "" || host === LOCAL_HOST;
}

const WATCH = { rateLimit: 256, unlimited: 4096 | 8192 | 16384 | 32768, inProcess: 65536 } as const;

/** The mask of `watch-ipn-bus`, or why not. Unknown bits are ignored. */
export function parseWatchMask(text: string | null): { readonly mask: number } | { readonly refusal: string } {
  if (text === null || text === "") return { mask: 0 };
  if (!/^\d{1,19}$/.test(text)) return { refusal: "bad mask" };
  const wide = BigInt(text);
  const mask = Number(wide & 0xffffffffn);
  if ((mask & WATCH.inProcess) !== 0) return { refusal: "mask bit 65536 is only for in-process watchers" };
  if ((mask & WATCH.rateLimit) !== 0 && (mask & WATCH.unlimited) !== 0) {
    return { refusal: "rate limit cannot be combined with peer changes or initial status" };
  }
  return { mask };
}

/** A Go duration (`1h30m`, `0s`) in seconds. */
export function parseGoDuration(text: string): number | undefined {
  if (text === "0") return 0;
  const units: Readonly<Record<string, number>> = { ns: 1e-9, us: 1e-6, µs: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3600 };
  if (!/^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  let seconds = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g)) {
    seconds += Number(amount) * (units[unit ?? "s"] ?? 0);
  }
  return text.startsWith("-") ? -seconds : seconds;
}

/** Is this what `whois` takes: an address, `address:port`, or a node key? */
export function isWhoIsAddress(text: string, isIp: (text: string) => boolean): boolean {
  if (/^nodekey:[0-9a-f]{64}$/.test(text)) return true;
  if (isIp(text)) return true;
  const withPort = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  if (withPort === null) return false;
  const [, six, four, port] = withPort;
  return isIp(six ?? four ?? "") && Number(port) <= 65535;
}

/** What a caller of the socket may do (serve-and-funnel.md 7.2, upstream `ipnauth`). Reading is everyone's on this machine. */
export interface Permission {
  readonly write: boolean;
  /** May have files, folders and sockets served that the gateway can open. */
  readonly localAdmin: boolean;
}

export const ALL_PERMITTED: Permission = { write: true, localAdmin: true };

/**
 * By the caller's user ID: root and the gateway's own user may do everything, `operator` all but expose what only the
 * gateway can open, everybody else may read.
 */
export function permissionOf(uid: number, own: number, operator: number | undefined): Permission {
  if (uid === 0 || uid === own) return ALL_PERMITTED;
  return { write: uid === operator, localAdmin: false };
}

/** What needs the right to write; the word is upstream's in `<word> access denied`. Methods apart, GET is reading. */
const WRITES: ReadonlyMap<string, string> = new Map([
  ["POST serve-config", "serve config denied"],
  ["PATCH prefs", "prefs write access denied"],
  ["POST check-prefs", "checkprefs access denied"],
  ["POST start", "access denied"],
  ["POST login-interactive", "login access denied"],
  ["POST logout", "logout access denied"],
  ["GET dns-query", "dns-query access denied"], // what somebody asks is nobody else's business
  ["POST bugreport", "bugreport access denied"],
  ["POST id-token", "id-token access denied"],
  ["GET doors", "doors access denied"], // it says who visits
  ["POST doors/invite", "doors access denied"],
  ["POST doors/certify", "doors access denied"],
  ["POST doors/revoke", "doors access denied"],
  ["GET funnel/door", "funnel access denied"],
  ["POST funnel/door", "funnel access denied"],
  ["POST funnel/visitors", "funnel access denied"],
  ["POST funnel/observed", "funnel access denied"],
  ["POST inspector", "inspector access denied"], // it shows what others send
  ["POST inspector/off", "inspector access denied"],
  ["POST certificates/renew", "cert access denied"],
  ["POST certificates/revoke", "cert access denied"],
  ["POST certificates/roll-key", "cert access denied"],
  ["POST certificates/advice", "cert access denied"],
]);

/** Why this call is refused, or nothing. */
export function refusalOfCall(method: string, name: string, { write }: Permission): string | undefined {
  if (write) return undefined;
  if (name.startsWith("cert/")) return "cert access denied"; // it answers with the private key
  return WRITES.get(`${method} ${name}`);
}
