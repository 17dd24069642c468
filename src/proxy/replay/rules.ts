import { isForwarding, isReserved } from "../../identity/reserved.ts";
import type { Message } from "./messages.ts";
import { readMessages } from "./messages.ts";
import type { Sent } from "./request.ts";
import * as asked from "./request.ts";
import { hostOf, isOurs, isUpstreamSpelling, type Route, SELF_NAME } from "./route.ts";

/** What ours must do. */
export interface Expected {
  backend: readonly Message[];
  client: readonly Message[];
  end: "open" | "closed";
  /** The request is refused as it is read: the backend may have the head and a part of the body, never all of it. */
  isCutShort?: boolean;
}

/**
 * A deliberate difference between upstream and ours: when it holds, by the request and its route alone, and what is
 * expected then. Every one has its reason in docs/identity.md, under the same name.
 */
export interface Rule {
  readonly name: string;
  applies(sent: Sent, route: Route): boolean;
  /** The bytes of a request that must have the same outcome, but for the fields that `change` adapts. */
  plain?(sent: Sent): string;
  change?(expected: Expected, sent: Sent, route: Route): void;
}

type Fields = Message["fields"];

const message = (status: number, fields: Fields = []): Message => ({
  line: `HTTP/1.1 ${status}`,
  fields,
  body: "",
  isCut: false,
});

/** One answer of ours, the connection closed, the backend not contacted. */
function refused(status: number): NonNullable<Rule["change"]> {
  return (expected) => {
    expected.backend = [];
    expected.client = [message(status)];
    expected.end = "closed";
    expected.isCutShort = false;
  };
}

const without = (messages: readonly Message[], drop: (name: string) => boolean): Message[] =>
  messages.map((one) => ({ ...one, fields: one.fields.filter(([name]) => !drop(name)) }));

const withFields = (messages: readonly Message[], change: (name: string, value: string) => string): Message[] =>
  messages.map((one) => ({
    ...one,
    fields: one.fields.map(([name, value]) => [name, change(name, value)] as const),
  }));

const closing = (fields: Fields): Fields => [
  ["connection", "close"],
  ...fields.filter(([name]) => name !== "connection"),
];

const codings = (sent: Sent): string => sent.values("transfer-encoding").join(",").toLowerCase();
const isFolder = ({ handler, mount }: Route): boolean => handler.Path !== undefined && mount?.endsWith("/") === true;
const isPlainTarget = (sent: Sent): boolean => sent.target === "*" || !/[#\\]|[^\x21-\x7e]/.test(sent.target);

/** The order matters: what refuses comes last, as it overrules everything before. */
export const RULES: readonly Rule[] = [
  {
    name: "one-host-spelling",
    applies: (sent, { isHttp }) => isHttp && isOurs(hostOf(sent)) && !isUpstreamSpelling(hostOf(sent)),
    plain: ({ headBytes, body }) =>
      headBytes
        .replace(/^(\S+ https?:\/\/)[^/?# ]*/i, `$1${SELF_NAME}`)
        .replace(/^(host:[ \t]*)[^\r\n]*?([ \t]*\r?)$/im, `$1${SELF_NAME}$2`) + body,
    change: (expected, sent) => {
      const host = sent.values("host")[0] ?? "";
      expected.backend = withFields(expected.backend, (name, value) =>
        (name === "host" && value !== "localhost") || name === "x-forwarded-host" ? host : value,
      );
      expected.client = withFields(expected.client, (name, value) =>
        name === "location" && value.startsWith(`http://${SELF_NAME}/`)
          ? `http://${host}${value.slice(SELF_NAME.length + 7)}`
          : value,
      );
    },
  },
  {
    name: "normal-path",
    applies: (sent) => asked.hasDots(asked.pathOf(sent)),
    plain: (sent) => {
      const path = asked.pathOf(sent);
      const at = sent.headBytes.indexOf(path, sent.method.length + 1);
      const end = at + path.length;
      return sent.headBytes.slice(0, at) + asked.withoutDots(path) + sent.headBytes.slice(end) + sent.body;
    },
  },
  {
    name: "ranges",
    applies: (sent, { handler }) =>
      handler.Path !== undefined &&
      sent.values("range").some((value) => !value.startsWith("bytes=") || value.includes(",")),
    plain: ({ headBytes, body }) => headBytes.replace(/^range:[^\n]*\n/gim, "") + body,
  },
  {
    name: "ranges",
    applies: (sent, { handler }) =>
      handler.Path !== undefined && sent.values("range").some((value) => /^bytes=\s*-\s*0+\s*$/.test(value)),
    change: (expected) => {
      expected.client = expected.client.map((one) => (one.line.includes(" 206 ") ? message(416) : one));
    },
  },
  {
    name: "folded-names",
    applies: (sent) => asked.headerNames(sent).some((name) => isReserved(name)),
    change: (expected, sent) => {
      const names = new Set(asked.headerNames(sent).map((name) => name.trim().toLowerCase()));
      const ours = /^tailscale-(?:user-(?:login|name|profile-pic)|headers-info|app-capabilities|funnel-request)$/;
      expected.backend = without(expected.backend, (name) => names.has(name) && isReserved(name) && !ours.test(name));
    },
  },
  {
    name: "forwarding-fields",
    applies: (sent) => asked.headerNames(sent).some((name) => isForwarding(name)),
    change: (expected) => {
      const ours = /^x-forwarded-(?:for|host|proto)$/;
      expected.backend = without(expected.backend, (name) => isForwarding(name) && !ours.test(name));
    },
  },
  {
    name: "plain-names",
    applies: (sent) => asked.headerNames(sent).some((name) => /[^A-Za-z0-9-]/.test(name)),
    change: (expected) => {
      expected.backend = without(expected.backend, (name) => /[^a-z0-9-]/.test(name));
    },
  },
  {
    name: "h2c-settings",
    applies: (sent) => sent.values("http2-settings").length > 0,
    change: (expected) => {
      expected.backend = without(expected.backend, (name) => name === "http2-settings");
    },
  },
  {
    name: "connection-words",
    applies: (sent) => {
      const first = sent.values("connection")[0]?.toLowerCase() ?? "";
      return sent.version === "HTTP/1.1" && /(?:^|[ ,])close(?:[ ,]|$)/.test(first) && !asked.asksToClose(sent);
    },
    change: (expected) => {
      expected.client = without(expected.client, (name) => name === "connection");
      expected.end = "open";
    },
  },
  {
    name: "answer-addresses",
    applies: (_, { answer }) => answer !== "",
    change: (expected, sent, { handler }) => {
      const host = sent.values("host")[0] ?? "";
      const origin = /^http:\/\/([0-9.]+):\d+/.exec(handler.Proxy ?? "");
      expected.client = withFields(
        without(expected.client, (name) => isReserved(name) || name.startsWith("x-forwarded-")),
        (name, value) => {
          if (origin === null) return value;
          if (name === "location" && value.startsWith(`${origin[0]}/`)) {
            return `http://${host}${value.slice(origin[0].length)}`;
          }
          return name === "set-cookie" ? value.replace(`; Domain=${origin[1]}`, "") : value;
        },
      );
    },
  },
  {
    name: "empty-trailer-announcement",
    applies: (sent) => sent.method === "HEAD" || sent.version === "HTTP/1.0",
    change: (expected) => {
      expected.client = without(expected.client, (name) => name === "trailer");
    },
  },
  {
    name: "dot-files",
    applies: (_, route) => isFolder(route),
    change: (expected) => {
      expected.client = expected.client.map((one) => {
        const body = one.body.replace(/<a href="\.[^\n]*\n/g, "");
        if (body === one.body) return one;
        const fields = one.fields.map(([name, value]) =>
          name === "content-length" ? ([name, String(body.length)] as const) : ([name, value] as const),
        );
        return { ...one, body, fields };
      });
    },
  },
  {
    name: "dot-files",
    applies: (sent, route) => isFolder(route) && /\/\.[^./][^/]*/.test(asked.withoutDots(asked.pathOf(sent))),
    change: (expected) => {
      expected.client = [message(404)];
    },
  },
  {
    name: "capability-json",
    applies: (_, { handler }) => (handler.AcceptAppCaps ?? []).length > 0,
    change: (expected) => {
      expected.backend = withFields(expected.backend, (name, value) =>
        name === "tailscale-app-capabilities" && value.startsWith("=?utf-8?q?") ? asciiOf(value) : value,
      );
    },
  },
  {
    name: "other-upgrades",
    applies: (sent) => asked.offersUpgrade(sent) && !asked.isWebSocketOffer(sent),
    change: (expected, sent, { answer }) => {
      expected.backend = without(expected.backend, (name) => name === "upgrade" || name === "connection");
      if (answer.startsWith("HTTP/1.1 101")) {
        expected.client = [message(502)]; // it switches, though nobody asked
        expected.end = asked.goesOn(sent) ? "open" : "closed";
      }
    },
  },
  {
    name: "early-bytes",
    applies: (sent, { answer }) =>
      asked.isWebSocketOffer(sent) &&
      asked.offersUpgrade(sent) &&
      sent.early !== "" &&
      !answer.startsWith("HTTP/1.1 101"),
    change: (expected) => {
      expected.client = expected.client.slice(0, 1).map((one) => ({ ...one, fields: closing(one.fields) }));
      expected.end = "closed";
    },
  },
  {
    name: "no-http",
    applies: (sent, { answer }) => {
      const rest = asked.afterRequest(sent);
      const isTunnel = asked.offersUpgrade(sent) && answer.startsWith("HTTP/1.1 101");
      return rest !== "" && !rest.includes("\n") && !asked.mayBeginRequest(rest) && !isTunnel;
    },
    change: (expected) => {
      if (expected.end === "closed") return;
      expected.client = [...expected.client, message(400)];
      expected.end = "closed";
    },
  },
  {
    name: "hostile-answers",
    applies: (_, { answer }) => {
      const head = answer.split("\r\n\r\n")[0]!;
      const lengths = head.match(/^content-length:/gim)?.length ?? 0;
      return lengths > 1 || (lengths > 0 && /^transfer-encoding:/im.test(head));
    },
    change: (expected) => {
      expected.client = [message(502)];
    },
  },
  {
    name: "short-answers",
    applies: (sent, { answer }) => sent.method !== "HEAD" && isShort(answer),
    change: (expected, _, { answer }) => {
      const [first] = readMessages(answer, true);
      expected.client = [{ ...first!, isCut: true }];
      expected.end = "closed";
    },
  },
  {
    name: "chunk-syntax",
    applies: (sent) => codings(sent) === "chunked" && !asked.isChunked(sent.body),
    change: (expected) => {
      expected.isCutShort = true;
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
      sent.values("transfer-encoding").length > 1 ||
      (codings(sent) !== "" && codings(sent) !== "chunked" && asked.isLegible(sent)),
    change: refused(501),
  },
  {
    name: "transfer-coding",
    applies: (sent) => codings(sent) === "chunked" && sent.version === "HTTP/1.0",
    change: refused(400),
  },
  {
    name: "two-framings",
    applies: (sent) => codings(sent) !== "" && sent.values("content-length").length > 0,
    change: refused(400),
  },
  {
    name: "repeated-length",
    applies: (sent) =>
      sent.values("content-length").length > 1 || sent.values("content-length").some((value) => !/^\d+$/.test(value)),
    change: refused(400),
  },
  {
    name: "asterisk",
    applies: (sent) => sent.target === "*" && sent.method !== "OPTIONS",
    change: refused(400),
  },
  { name: "normal-path", applies: (sent) => asked.hidesDots(asked.pathOf(sent)), change: refused(400) },
  {
    name: "absolute-target",
    applies: (sent) => {
      const authority = asked.authorityOf(sent);
      if (authority === undefined) return false;
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
  { name: "versions", applies: (sent) => !/^HTTP\/1\.[01]$/.test(sent.version), change: refused(400) },
  {
    name: "methods",
    applies: (sent) => /^[!-~]+$/.test(sent.method) && !asked.isKnownMethod(sent.method),
    change: refused(400),
  },
  { name: "no-http", applies: (sent) => !/^[!-~]+$/.test(sent.method), change: refused(400) },
];

/** Does the answer end before its length? */
function isShort(answer: string): boolean {
  return answer !== "" && readMessages(answer, true).some((one) => one.isCut && !one.line.includes("\0"));
}

/** RFC 2047 words, as upstream writes them, to JSON that is ASCII by itself. */
function asciiOf(value: string): string {
  const text = value
    .split("?= =?utf-8?q?")
    .join("")
    .replace(/^=\?utf-8\?q\?|\?=$/g, "")
    .replaceAll("_", " ")
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  const unicode = Buffer.from(text, "latin1").toString();
  return unicode.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
