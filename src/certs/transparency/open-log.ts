import { logTransport } from "./log-transport.ts";
import { rfc6962Log } from "./rfc6962-log.ts";
import { staticLog } from "./static-log.ts";
import type { TransparencyLog } from "./transparency-log.ts";
import { readLogKey } from "./tree-head.ts";

/** `key` is base64 of its public key. @throws {Fault} CERT_TRANSPARENCY_KEY, CERT_TRANSPARENCY_URL */
export function openLog(url: string, key: string, kind: "rfc6962" | "static" = "rfc6962"): TransparencyLog {
  const open = kind === "static" ? staticLog : rfc6962Log;
  return open(url, readLogKey(key), logTransport(url));
}
