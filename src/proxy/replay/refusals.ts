import { DEFAULT_LIMITS } from "../options.ts";
import type { Sent } from "./request.ts";
import * as asked from "./request.ts";
import { message, type Rule } from "./rule.ts";

/** One answer of ours, the connection closed, the backend not contacted. Two statuses: whichever fault is seen first. */
function refused(status: number, orElse?: number): NonNullable<Rule["change"]> {
  return (expected) => {
    expected.orElse = orElse;
    expected.backend = [];
    expected.client = [message(status)];
    expected.end = "closed";
    expected.isCutShort = false;
  };
}

const codings = (sent: Sent): string => sent.values("transfer-encoding").join(",").toLowerCase();
const isPlainTarget = (sent: Sent): boolean => sent.target === "*" || !/[#\\]|[^\x21-\x7e]/.test(sent.target);

/** Requests that upstream takes and we refuse. What is later in the list is seen earlier by the parser. */
export const REFUSALS: readonly Rule[] = [
  {
    name: "chunk-syntax",
    applies: (sent) => codings(sent) === "chunked" && !asked.isChunked(sent.body),
    change: (expected) => {
      expected.isCutShort = true;
      expected.orElse = 501;
      expected.client = [message(400)];
      expected.end = "closed";
    },
  },
  {
    name: "upgrade-body",
    applies: (sent) =>
      asked.offersUpgrade(sent) &&
      sent.values("upgrade").join().toLowerCase() === "websocket" &&
      (codings(sent) !== "" || Number(sent.values("content-length")[0] ?? 0) > 0),
    change: refused(400),
  },
  {
    name: "trace-and-connect",
    applies: (sent) => sent.method === "TRACE" || sent.method === "CONNECT",
    change: (expected, sent) => {
      refused(405)(expected, sent, undefined as never);
      if (sent.method === "TRACE") expected.end = "open";
    },
  },
  {
    name: "transfer-coding",
    applies: (sent) =>
      sent.values("transfer-encoding").length > 0 &&
      // The parser takes no tab behind the value.
      (codings(sent) !== "chunked" || sent.lines.some((line) => /^transfer-encoding:.*\t *$/i.test(line))),
    change: refused(400, 501),
  },
  {
    name: "transfer-coding",
    applies: (sent) => codings(sent) === "chunked" && sent.version === "HTTP/1.0",
    change: refused(400),
  },
  {
    name: "two-framings",
    applies: (sent) => sent.values("transfer-encoding").length > 0 && sent.values("content-length").length > 0,
    change: refused(400, 501),
  },
  {
    name: "repeated-length",
    applies: (sent) =>
      sent.values("content-length").length > 1 || sent.values("content-length").some((value) => !/^\d+$/.test(value)),
    change: refused(400),
  },
  {
    name: "expectations",
    applies: (sent) => sent.version === "HTTP/1.1" && !/^(?:100-continue)?$/i.test(sent.values("expect").join()),
    change: refused(417),
  },
  {
    name: "sizes",
    applies: (sent) => sent.head.length > DEFAULT_LIMITS.headBytes || sent.lines.length > DEFAULT_LIMITS.headFields,
    change: refused(431),
  },
  {
    name: "sizes",
    applies: (sent) => sent.target.length > DEFAULT_LIMITS.targetBytes,
    change: refused(414),
  },
  {
    name: "asterisk",
    applies: (sent) => sent.target === "*" && sent.method !== "OPTIONS",
    change: refused(400),
  },
  { name: "two-mounts", applies: (_, { isAmbiguous }) => isAmbiguous, change: refused(400) },
  { name: "normal-path", applies: (sent) => asked.hidesDots(asked.pathOf(sent)), change: refused(400) },
  {
    name: "absolute-target",
    applies: (sent) => {
      const authority = asked.authorityOf(sent);
      if (authority === undefined) return /^[a-z][a-z0-9+.-]*:/i.test(sent.target) && sent.method !== "CONNECT";
      return !/^https?:/i.test(sent.target) || authority.toLowerCase() !== (sent.values("host")[0] ?? "").toLowerCase();
    },
    change: refused(400),
  },
  {
    name: "host-port",
    applies: (sent) => sent.values("host").some((host) => !asked.isHost(host)),
    change: refused(400),
  },
  { name: "target-bytes", applies: (sent) => !isPlainTarget(sent), change: refused(400) },
  { name: "folded-lines", applies: (sent) => sent.lines.some((line) => /^[ \t]/.test(line)), change: refused(400) },
  { name: "bare-line-feed", applies: (sent) => /(?:^|[^\r])\n/.test(sent.headBytes), change: refused(400) },
  {
    name: "versions",
    applies: (sent) => /\n/.test(sent.headBytes) && !/^HTTP\/1\.[01]$/.test(sent.version),
    change: refused(400),
  },
  {
    name: "methods",
    applies: (sent) => /^[!-~]+$/.test(sent.method) && !asked.mayBeginRequest(sent.head),
    change: refused(400),
  },
  { name: "no-http", applies: (sent) => !/^[!-~]+$/.test(sent.method), change: refused(400) },
];
