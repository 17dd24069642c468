import { logTransport } from "./log-transport.ts";
import { rfc6962Log } from "./rfc6962-log.ts";
import { staticLog } from "./static-log.ts";
import { TransparencyWatch, type WatchOptions } from "./transparency-watch.ts";
import { readLogKey } from "./tree-head.ts";
import { WatchedNames } from "./watched-names.ts";

const MINUTE_MS = 60_000;
const EVERY_MS = 10 * MINUTE_MS;

export type WatchSurroundings = Pick<WatchOptions, "held" | "stored" | "store" | "clock" | "log"> & {
  /** Names that this gateway has certificates for. */
  readonly names: () => readonly string[];
};

/** What the operator says of it (docs/certificates.md). */
export interface WatchSettings {
  readonly logs: readonly {
    readonly url: string;
    /** base64 of its public key. */
    readonly key: string;
    readonly kind?: "rfc6962" | "static" | undefined;
  }[];
  readonly domains?: readonly string[] | undefined;
  /** `sha256:…` */
  readonly known?: readonly string[] | undefined;
  /** Such as `10m`. */
  readonly every?: string | undefined;
}

/** @throws {Fault} CERT_TRANSPARENCY_KEY, CERT_TRANSPARENCY_URL, STATE_DAMAGED */
export function openWatch(settings: WatchSettings, around: WatchSurroundings): Promise<TransparencyWatch> {
  const { domains = [], known = [], every } = settings;
  const logs = settings.logs.map(({ url, key, kind = "rfc6962" }) => {
    const open = kind === "static" ? staticLog : rfc6962Log;
    return open(url, readLogKey(key), logTransport(url));
  });
  return TransparencyWatch.open({
    ...around,
    logs,
    names: () => new WatchedNames(around.names(), domains),
    known: known.map((text) => text.slice("sha256:".length)),
    everyMs: every === undefined ? EVERY_MS : Number.parseInt(every, 10) * MINUTE_MS,
  });
}
