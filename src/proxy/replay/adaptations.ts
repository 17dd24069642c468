import { isForwarding, isReserved } from "../../identity/reserved.ts";
import { type Message, readMessages } from "./messages.ts";
import * as asked from "./request.ts";
import { hostOf, isOurs, isUpstreamSpelling, type Route, SELF_NAME } from "./route.ts";
import { message, type Rule } from "./rule.ts";

type Fields = Message["fields"];

const without = (messages: readonly Message[], drop: (name: string) => boolean): Message[] =>
  messages.map((one) => ({ ...one, fields: one.fields.filter(([name]) => !drop(name)) }));

const withFields = (messages: readonly Message[], change: (name: string, value: string) => string): Message[] =>
  messages.map((one) => ({
    ...one,
    fields: one.fields.map(([name, value]) => [name, change(name, value)] as const),
  }));

/** In the listing of the captured folder. */
const HIDDEN_LINE = '<a href=".hidden">.hidden</a>\n';

const sorted = (fields: Fields): Fields => [...fields].sort((a, b) => (a.join(":") < b.join(":") ? -1 : 1));

const closing = (fields: Fields): Fields => [
  ["connection", "close"],
  ...fields.filter(([name]) => name !== "connection"),
];

const isFolder = ({ handler, mount }: Route): boolean => handler.Path !== undefined && mount?.endsWith("/") === true;
/** Requests that both serve, and what is other about it in ours. */
export const ADAPTATIONS: readonly Rule[] = [
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
    name: "other-upgrades",
    applies: (sent, route) =>
      asked.offersUpgrade(sent) && !asked.isWebSocketOffer(sent) && route.answer.startsWith("HTTP/1.1 101"),
    plain: ({ headBytes, body }) => headBytes.replace(/^upgrade:[^\n]*\n/gim, "") + body,
  },
  {
    name: "proxy-connection",
    applies: (sent) => sent.values("proxy-connection").some((value) => /^(?:close|keep-alive)$/i.test(value)),
    plain: ({ headBytes, body }) => headBytes.replace(/^proxy-connection:/gim, "Connection:") + body,
  },
  {
    name: "unread-bodies",
    applies: (sent, { handler }) => handler.Proxy !== undefined && asked.hasBody(sent),
    change: (expected) => {
      expected.backend = expected.backend.map((one) => ({ ...one, fields: sorted(closing(one.fields)) }));
    },
  },
  {
    name: "early-answer",
    applies: (sent, { answer, isHttp }) => isHttp && answer === "" && asked.lacksBody(sent, sent.early),
    plain: ({ headBytes }) =>
      headBytes
        .replace(/^content-length:[^\n]*/gim, "Content-Length: 0\r")
        .replace(/^transfer-encoding:[^\n]*\n/gim, ""),
    change: (expected, sent, { handler }) => {
      if (handler.Proxy === undefined && !asked.expectsContinue(sent)) return;
      expected.client = expected.client.map((one) => ({ ...one, fields: closing(one.fields) }));
      expected.end = "closed";
      // What goes to a backend is asked for at once, before the backend is reached.
      if (handler.Proxy !== undefined && asked.expectsContinue(sent))
        expected.client = [message(100), ...expected.client];
    },
  },
  {
    name: "prompt-body",
    applies: (sent, { handler }) =>
      handler.Proxy !== undefined &&
      asked.expectsContinue(sent) &&
      sent.early !== "" &&
      !asked.lacksBody(sent, sent.early),
    plain: ({ headBytes, body }) => headBytes.replace(/^expect:[^\n]*\n/gim, "") + body,
    change: (expected, sent) => {
      expected.client = [message(100), ...expected.client];
      const field = ["expect", sent.values("expect")[0]!] as const;
      expected.backend = expected.backend.map((one) => ({ ...one, fields: sorted([...one.fields, field]) }));
    },
  },
  {
    name: "index-page",
    applies: (sent, route) => isFolder(route) && asked.withoutDots(asked.pathOf(sent)).endsWith("/index.html"),
    change: (expected) => {
      expected.client = [message(404)]; // the captured folder has none
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
      return sent.version === "HTTP/1.1" && /(?:^|[ ,])close(?:[ ,]|$)/.test(first) && asked.goesOn(sent);
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
    name: "folder-locations",
    applies: (_, route) => isFolder(route),
    change: (expected, sent) => {
      const path = asked.withoutDots(asked.pathOf(sent));
      const query = sent.target.includes("?") ? sent.target.slice(sent.target.indexOf("?")) : "";
      const location = path.endsWith("/") ? path.replace(/\/+$/, "") : `${path}/${query}`;
      expected.client = expected.client.map((one) =>
        one.line.includes(" 301 ")
          ? withFields([one], (name, value) => (name === "location" ? location : value))[0]!
          : one,
      );
    },
  },
  {
    name: "informational",
    applies: (sent) => sent.version === "HTTP/1.0",
    change: (expected) => {
      expected.client = expected.client.filter(({ line }) => !/^\S+ 1\d\d /.test(line));
    },
  },
  {
    name: "trailer-names",
    applies: (sent) => sent.values("trailer").length > 0,
    change: (expected) => {
      const allowed = (name: string): boolean =>
        !/[^A-Za-z0-9-]/.test(name) && !isReserved(name) && !isForwarding(name);
      const kept = withFields(expected.backend, (name, value) =>
        name === "trailer" ? value.split(/,\s*/).filter(allowed).join(", ") : value,
      );
      expected.backend = kept.map((one) => ({
        ...one,
        fields: one.fields.filter(([name, value]) => name !== "trailer" || value !== ""),
      }));
    },
  },
  {
    name: "dot-files",
    applies: (sent, route) => isFolder(route) && sent.method === "HEAD" && sent.target.split("?")[0] === route.mount,
    change: (expected) => {
      expected.client = withFields(expected.client, (name, value) =>
        name === "content-length" ? String(Number(value) - HIDDEN_LINE.length) : value,
      );
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
    change: (expected) => {
      expected.backend = without(expected.backend, (name) => name === "upgrade" || name === "connection");
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
      const isTunnel = asked.offersUpgrade(sent) && asked.isWebSocketOffer(sent) && answer.startsWith("HTTP/1.1 101");
      return rest !== "" && !rest.includes("\n") && !asked.mayBeginRequest(rest) && !isTunnel;
    },
    change: (expected) => {
      if (expected.end === "closed") return;
      expected.client = [...expected.client, message(400)];
      expected.end = "closed";
    },
  },
  {
    name: "other-upgrades",
    applies: (sent) => sent.values("upgrade").length > 0 && asked.hasBody(sent) && !asked.lacksBody(sent, sent.body),
    change: (expected) => {
      expected.client = expected.client.slice(0, 1).map((one) => ({ ...one, fields: closing(one.fields) }));
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
