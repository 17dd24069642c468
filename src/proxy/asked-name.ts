import { parseAddress } from "../base/address.ts";
import type { Front } from "./options.ts";
import { foldHost } from "./serve-lookup.ts";

const HTTPS_PORT = 443;

/** Without port, brackets and final dot; in brackets only an address is something. */
export function nameOf(host: string): string {
  const name = foldHost(host.replace(/:\d*$/, ""));
  if (!name.startsWith("[")) return name;
  const inner = name.slice(1, -1);
  return parseAddress(inner) === undefined ? "" : inner;
}

/**
 * What the caller asked for, as a browser would name it. With TLS the certificate's name counts: a Host of the caller's
 * choice must not make an assertion one for another service.
 */
export function originOf({ serverName, port }: Front, host: string): string {
  if (serverName === undefined) return `http://${host}`;
  if (nameOf(host) === serverName) return `https://${host}`;
  return `https://${serverName}${port === HTTPS_PORT ? "" : `:${port}`}`;
}
