import { METHODS } from "node:http";
import { isForwarding, isReserved } from "../../identity/reserved.ts";
import type { Message } from "./messages.ts";
import { readMessages } from "./messages.ts";
import type { Case } from "./scene.ts";

/** A request as its bytes say, whether or not it is a proper one. */
export interface Sent {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  readonly lines: readonly string[];
  readonly head: string;
  readonly body: string;
  values(name: string): readonly string[];
}

export function readSent(one: Case): Sent {
  const all = one.send.join("");
  const end = /\r?\n\r?\n/.exec(all);
  const head = end === null ? all : all.slice(0, end.index);
  const [first = "", ...lines] = head.split(/\r?\n/);
  const [method = "", ...rest] = first.split(" ");
  const version = rest.length > 1 ? rest.at(-1)! : "";
  const target = rest.slice(0, rest.length > 1 ? -1 : 1).join(" ");
  const body = end === null ? "" : all.slice(end.index + end[0].length);
  const values = (name: string): string[] =>
    lines.filter((line) => line.toLowerCase().startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim());
  return { method, target, version, lines, head, body, values };
}

/** What ours must do. `undefined` members are not compared. */
export interface Expected {
  backend: Message[] | undefined;
  client: Message[] | undefined;
  end: string | undefined;
  /** Statuses of which the answer's must be one, where the answer itself is not compared. */
  statuses?: readonly number[];
}

/**
 * A deliberate difference between upstream and ours: when it holds, by the request alone, and what is expected then.
 * Every one has its reason in docs/identity.md, under the same name.
 */
export interface Rule {
  readonly name: string;
  applies(sent: Sent, one: Case): boolean;
  change(expected: Expected, sent: Sent, one: Case): void;
}

function refused(...statuses: number[]): Rule["change"] {
  return (expected) => {
    expected.backend = [];
    expected.client = undefined;
    expected.end = "closed";
    expected.statuses = statuses;
  };
}

const without = (messages: Message[] | undefined, drop: (name: string) => boolean): Message[] | undefined =>
  messages?.map((message) => ({ ...message, fields: message.fields.filter(([name]) => !drop(name)) }));

const pathOf = (sent: Sent): string => sent.target.replace(/^https?:\/\/[^/]*/i, "").split("?")[0]!;
const hasDots = (path: string): boolean => /\/(?:\.|%2e){1,2}(?:\/|$)/i.test(path);
/** The tokens that Node's parser knows, upper case as RFC 9110 section 9.1 demands. */
const isKnownMethod = (method: string): boolean => KNOWN_METHODS.has(method);
const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS);

const headerNames = (sent: Sent): string[] =>
  sent.lines.filter((line) => line.includes(":")).map((line) => line.slice(0, line.indexOf(":")));

export const RULES: readonly Rule[] = [
  {
    name: "folded-names",
    applies: (sent) => headerNames(sent).some((name) => isReserved(name)),
    change: (expected, sent) => {
      const sentNames = new Set(headerNames(sent).map((name) => name.trim().toLowerCase()));
      const ours = /^tailscale-(?:user-(?:login|name|profile-pic)|headers-info|app-capabilities|funnel-request)$/;
      expected.backend = without(
        expected.backend,
        (name) => sentNames.has(name) && isReserved(name) && !ours.test(name),
      );
    },
  },
  {
    name: "forwarding-fields",
    applies: (sent) => headerNames(sent).some((name) => isForwarding(name)),
    change: (expected) => {
      const ours = /^x-forwarded-(?:for|host|proto)$/;
      expected.backend = without(expected.backend, (name) => isForwarding(name) && !ours.test(name));
    },
  },
  {
    name: "plain-names",
    applies: (sent) => headerNames(sent).some((name) => /[^A-Za-z0-9-]/.test(name)),
    change: (expected) => {
      expected.backend = without(expected.backend, (name) => /[^a-z0-9-]/.test(name));
    },
  },
  {
    name: "one-host-spelling",
    applies: (sent, one) =>
      one.clientGot.startsWith("HTTP/1.1 404") &&
      one.backendGot.length === 0 &&
      /^(?:gw(?:\.tail\.test)?\.?|100\.64\.0\.1)(?::\d*)?$/i.test(sent.values("host")[0] ?? "") &&
      !["/dir/nope", "*"].includes(sent.target) &&
      sent.method !== "CONNECT" &&
      !pathOf(sent).startsWith("/dir/"),
    change: (expected) => {
      expected.backend = undefined;
      expected.client = undefined;
      expected.statuses = [200];
    },
  },
  {
    name: "normal-path",
    applies: (sent) => hasDots(pathOf(sent)),
    change: (expected, sent) => {
      const normal = new URL(`http://x${pathOf(sent)}`).pathname;
      expected.backend = expected.backend?.map((message) => ({
        ...message,
        line: message.line.replace(/ \S+ /, () => ` ${normal}${sent.target.slice(pathOf(sent).length)} `),
      }));
    },
  },
  {
    name: "unserved-port",
    applies: (_, one) => ![80, 81, 82, 83, 84, 85, 86, 87, 88, 2222, 2223, 2224].includes(one.port),
    change: (expected) => Object.assign(expected, { backend: [], client: [], end: "closed" }),
  },
  {
    name: "answer-addresses",
    applies: () => true,
    change: (expected, sent) => {
      const host = sent.values("host")[0] ?? "";
      expected.client = without(expected.client, (name) => isReserved(name) || name.startsWith("x-forwarded-"))?.map(
        (message) => ({
          ...message,
          fields: message.fields.map(([name, value]) => {
            if (name === "location")
              return [name, value.replace(/^http:\/\/127\.0\.0\.1:3000(?=\/|$)/, `http://${host}`)] as const;
            if (name === "set-cookie") return [name, value.replace(/; Domain=127\.0\.0\.1/i, "")] as const;
            return [name, value] as const;
          }),
        }),
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
    applies: (sent) => pathOf(sent).startsWith("/dir/"),
    change: (expected) => {
      expected.client = expected.client?.map((message) => {
        const body = message.body.replace('<a href=".hidden">.hidden</a>\n', "");
        const fields = message.fields.map(
          ([name, value]) =>
            [name, name === "content-length" && body !== message.body ? String(body.length) : value] as const,
        );
        return { ...message, body, fields };
      });
    },
  },
  {
    name: "capability-json",
    applies: (_, one) => one.backendGot.some((text) => text.includes("Tailscale-App-Capabilities: =?utf-8?q?")),
    change: (expected) => {
      expected.backend = expected.backend?.map((message) => ({
        ...message,
        fields: message.fields.map(
          ([name, value]) => [name, name === "tailscale-app-capabilities" ? asciiOf(value) : value] as const,
        ),
      }));
    },
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
    name: "transfer-coding",
    applies: (sent) =>
      sent.values("transfer-encoding").length > 0 &&
      (sent.version === "HTTP/1.0" || sent.values("transfer-encoding").join(",").toLowerCase() !== "chunked"),
    change: refused(400, 501),
  },
  {
    name: "chunk-syntax",
    applies: (sent) => sent.values("transfer-encoding").length === 1 && !isChunked(sent.body),
    change: (expected) =>
      Object.assign(expected, { backend: undefined, client: undefined, end: "closed", statuses: [400, 502] }),
  },
  { name: "versions", applies: (sent) => !/^HTTP\/1\.[01]$/.test(sent.version), change: refused(400, 505) },
  { name: "asterisk", applies: (sent) => sent.target === "*" && sent.method !== "OPTIONS", change: refused(400) },
  {
    name: "one-range",
    applies: (sent) => sent.values("range").some((value) => value.includes(",")),
    change: (expected) => Object.assign(expected, { client: undefined, statuses: [200] }),
  },
  {
    name: "dot-files",
    applies: (sent) => /^\/dir\/(?:.*\/)?\.[^./]/.test(pathOf(sent)),
    change: (expected) => Object.assign(expected, { client: undefined, statuses: [404] }),
  },
  {
    name: "bare-line-feed",
    applies: (sent, one) => /(?:^|[^\r])\n/.test(one.send.join("").slice(0, sent.head.length + 4)),
    change: refused(400),
  },
  { name: "folded-lines", applies: (sent) => sent.lines.some((line) => /^[ \t]/.test(line)), change: refused(400) },
  { name: "host-port", applies: (sent) => sent.values("host").some((value) => !isHost(value)), change: refused(400) },
  { name: "target-bytes", applies: (sent) => /[#\\]|[^\x21-\x7e]/.test(sent.target), change: refused(400) },
  {
    name: "methods",
    applies: (sent, one) => /^[!-~]+$/.test(sent.method) && !isKnownMethod(sent.method) && one.backendGot.length > 0,
    change: refused(400),
  },
  {
    name: "trace-and-connect",
    applies: (sent) => sent.method === "TRACE" || sent.method === "CONNECT",
    change: (expected) => Object.assign(expected, { backend: [], client: undefined, end: undefined, statuses: [405] }),
  },
  {
    name: "absolute-target",
    applies: (sent) =>
      /^[a-z]+:\/\//i.test(sent.target) &&
      !sent.target.toLowerCase().startsWith(`http://${sent.values("host")[0]}/`) &&
      !sent.target.toLowerCase().startsWith(`https://${sent.values("host")[0]}/`),
    change: refused(400),
  },
  { name: "no-http", applies: (sent) => !/^[!-~]+$/.test(sent.method), change: refused(400) },
  {
    name: "other-upgrades",
    applies: (sent, one) =>
      sent.values("upgrade").length > 0 &&
      one.port < 1000 &&
      !(sent.values("upgrade")[0]!.toLowerCase() === "websocket" && sent.values("sec-websocket-version")[0] === "13"),
    change: (expected) => {
      expected.backend = without(expected.backend, (name) => name === "upgrade" || name === "connection");
    },
  },
  {
    name: "hostile-answers",
    applies: (sent, one) => one.backendGot.length > 0 && /(?:^|\/)(?:dupcl|clte)$/.test(pathOf(sent)),
    change: (expected) => Object.assign(expected, { client: undefined, end: undefined, statuses: [502] }),
  },
  {
    name: "short-answers",
    applies: (sent) => /(?:^|\/)short$/.test(pathOf(sent)),
    change: (expected) => Object.assign(expected, { client: undefined, end: "closed" }),
  },
];

function isHost(text: string): boolean {
  const port = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{0,5}))?$/.exec(text);
  return (
    port !== null && (port[1] === undefined || port[1] === "" || (Number(port[1]) > 0 && Number(port[1]) <= 65535))
  );
}

/** RFC 9112 section 7.1, as far as the body goes. */
function isChunked(body: string): boolean {
  for (let at = 0; at < body.length; ) {
    const rest = body.slice(at);
    if (!rest.includes("\n")) return /^[0-9A-Fa-f]{0,16}(?:;.*)?\r?$/.test(rest);
    const line = /^([0-9A-Fa-f]{1,16})(?:;[^\r\n]*)?\r\n/.exec(rest);
    if (line === null) return false;
    const size = Number.parseInt(line[1]!, 16);
    if (size === 0) return !/[^\r]\n/.test(rest.split("\r\n\r\n")[0]!);
    at += line[0].length + size;
    if (at < body.length && !"\r\n".startsWith(body.slice(at, at + 2))) return false;
    at += 2;
  }
  return true;
}

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

export function expectedOf(one: Case): { expected: Expected; rules: readonly string[] } {
  const sent = readSent(one);
  const expected: Expected = {
    backend: one.backendGot.flatMap((text) => readMessages(text, false)),
    client: readMessages(one.clientGot, true, [sent.method]),
    end: one.end === "open" ? "open" : "closed",
  };
  const rules: string[] = [];
  if (one.port > 2000 && one.port < 3000) return { expected, rules };
  for (const rule of RULES) {
    if (!rule.applies(sent, one)) continue;
    rule.change(expected, sent, one);
    rules.push(rule.name);
  }
  return { expected, rules };
}
