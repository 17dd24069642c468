import { openLog } from "../../certs/transparency/open-log.ts";
import { TransparencyWatch, type WatchOptions } from "../../certs/transparency/transparency-watch.ts";
import { WatchedNames } from "../../certs/transparency/watched-names.ts";
import type { TransparencyConfig } from "../../config/certificates.ts";

const MINUTE_MS = 60_000;
const EVERY_MS = 10 * MINUTE_MS;

export type WatchSurroundings = Pick<WatchOptions, "held" | "stored" | "store" | "clock" | "log"> & {
  /** Names that this gateway has certificates for. */
  readonly names: () => readonly string[];
};

/** @throws {Fault} CERT_TRANSPARENCY_KEY, CERT_TRANSPARENCY_URL, STATE_DAMAGED */
export function openWatch(settings: TransparencyConfig, around: WatchSurroundings): Promise<TransparencyWatch> {
  const { logs, domains = [], known = [], every } = settings;
  return TransparencyWatch.open({
    ...around,
    logs: logs.map(({ url, key, kind }) => openLog(url, key, kind)),
    names: () => new WatchedNames(around.names(), domains),
    known: known.map((text) => text.slice("sha256:".length)),
    everyMs: every === undefined ? EVERY_MS : Number.parseInt(every, 10) * MINUTE_MS,
  });
}
