import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";

/** One line of a recording. `at`: milliseconds since its beginning. Keys are hex, bytes are base64. */
export type Entry =
  | { readonly kind: "about"; readonly client: string; readonly server: string; readonly address: string }
  /** What was done next, in words, and by `status` what `tailscale status --json` of a node said afterwards. */
  | { readonly kind: "step"; readonly at: number; readonly what: string }
  | { readonly kind: "status"; readonly at: number; readonly node: string; readonly status: StatusSeen }
  | ControlOpened
  | DerpOpened
  | { readonly kind: "bytes"; readonly at: number; readonly id: number; readonly way: Way; readonly bytes: string }
  | { readonly kind: "end"; readonly at: number; readonly id: number; readonly way: Way }
  | DiscoNode
  | Datagram;

/** `up`: from the client. */
export type Way = "up" | "down";

/**
 * A control connection. Somebody in the middle opened and sealed again with keys of their own: `up` are the client's
 * bytes, to `responder`; `down` are the server's, to `initiator`.
 */
export interface ControlOpened {
  readonly kind: "control";
  readonly at: number;
  readonly id: number;
  readonly responder: { readonly privateKey: string; readonly ephemeral: string };
  readonly initiator: { readonly privateKey: string; readonly ephemeral: string; readonly serverKey: string };
}

/** A relay's connection, without TLS, with the private keys of both ends. */
export interface DerpOpened {
  readonly kind: "derp";
  readonly at: number;
  readonly id: number;
  readonly node: string;
  readonly server: string;
}

export interface DiscoNode {
  readonly kind: "disco";
  readonly name: string;
  readonly nodeKey: string;
  readonly discoPrivate: string;
}

/** Disco and STUN, as it passed the node `by`. */
export interface Datagram {
  readonly kind: "datagram";
  readonly at: number;
  readonly by: string;
  readonly from: string;
  readonly to: string;
  readonly bytes: string;
}

/** Of a stock client's own `status --json`. */
export interface StatusSeen {
  readonly BackendState: string;
  readonly Self: SeenNode;
  readonly Peers: readonly SeenNode[];
}

export interface SeenNode {
  readonly ID: string;
  readonly PublicKey: string;
  readonly DNSName: string;
  readonly UserID: number;
  readonly TailscaleIPs: readonly string[] | null;
  readonly AllowedIPs?: readonly string[] | null;
  readonly Tags?: readonly string[];
  readonly PrimaryRoutes?: readonly string[];
  readonly Relay: string;
  readonly Online: boolean;
  readonly Expired?: boolean;
}

/** The entries that were told by `kind`. */
export function ofKind<K extends Entry["kind"]>(entries: readonly Entry[], kind: K): Extract<Entry, { kind: K }>[] {
  return entries.filter((entry): entry is Extract<Entry, { kind: K }> => entry.kind === kind);
}

export const RECORDINGS: readonly string[] = [
  "life-1.103.0",
  "visit-1.82.5",
  "visit-1.90.9",
  "visit-1.98.10",
  "visit-1.102.3",
];

export function readRecording(name: string): Entry[] {
  const text = gunzipSync(readFileSync(path.join(import.meta.dirname, `${name}.jsonl.gz`))).toString("utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Entry);
}

export function writeRecording(name: string, entries: readonly Entry[]): void {
  const text = entries.map((entry) => `${JSON.stringify(entry)}\n`).join("");
  writeFileSync(path.join(import.meta.dirname, `${name}.jsonl.gz`), gzipSync(text, { level: 9 }));
}
