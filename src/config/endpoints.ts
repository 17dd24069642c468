/** A range of ports that a gateway listens on. */
export interface SourcePorts {
  readonly first: number;
  readonly last: number;
}

/** Where connections go. `http` and its kin keep host, port and path; `tcp` a range of ports. */
export type Target =
  | { readonly kind: "proxy"; readonly scheme: "http" | "https" | "https+insecure"; readonly url: string }
  | {
      readonly kind: "ports";
      readonly scheme: string;
      readonly host: string;
      readonly first: number;
      readonly last: number;
    }
  | { readonly kind: "socket"; readonly scheme: string; readonly path: string }
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "redirect"; readonly value: string }
  | { readonly kind: "tun" };

/** The text says why not. */
export type Refusal = { readonly refusal: string };

/** `tcp:443`, `tcp:8000-8002`, `443`, or `*` (upstream `tailcfg/proto_port_range.go`). */
export function parseSource(text: string): SourcePorts | "all" | Refusal {
  if (text === "*") return "all";
  const colon = text.indexOf(":");
  const protocol = colon < 0 ? "tcp" : text.slice(0, colon).toLowerCase();
  const ports = colon < 0 ? text : text.slice(colon + 1);
  if (protocol !== "tcp") return { refusal: `found protocol "${protocol}", source ports must be TCP` };
  const range = parsePorts(ports);
  if (range === undefined) return { refusal: `found ports "${ports}", wanted 1 to 65535 or a range of them` };
  return range;
}

function parsePorts(text: string): SourcePorts | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  return first >= 1 && last >= first && last <= 65535 ? { first, last } : undefined;
}

const WEB_SCHEMES: readonly string[] = ["http", "https", "https+insecure"];
const TCP_SCHEMES: readonly string[] = ["tcp", "tls-terminated-tcp"];

/** `<proto>://<destination>` of upstream's Services file, and `text:`, `redirect:`, `unix:` of the serve configuration. */
export function parseTarget(text: string): Target | Refusal {
  if (text === "TUN") return { kind: "tun" };
  if (text.startsWith("text:")) {
    return text.length > 5 ? { kind: "text", text: text.slice(5) } : { refusal: "found no text after text:" };
  }
  if (text.startsWith("redirect:")) return parseRedirect(text.slice("redirect:".length));
  if (text.startsWith("unix:")) return socket("http", text);
  const at = text.indexOf("://");
  if (at < 0) return { refusal: `found "${text}", wanted <proto>://<destination>` };
  const scheme = text.slice(0, at).toLowerCase();
  const rest = text.slice(at + 3);
  if (scheme === "file") {
    if (!rest.startsWith("/")) return { refusal: `found "${rest}", wanted an absolute path` };
    return { kind: "path", path: rest.length > 1 ? rest.replace(/\/+$/, "") : rest };
  }
  if (!WEB_SCHEMES.includes(scheme) && !TCP_SCHEMES.includes(scheme)) {
    return {
      refusal: `found scheme "${scheme}", wanted one of ${[...WEB_SCHEMES, ...TCP_SCHEMES, "file"].join(", ")}`,
    };
  }
  if (rest.startsWith("unix:")) return socket(scheme, rest);
  const ports = /^(\[[0-9a-f:.%]+\]|[^/:@?#[\]]+):(\d{1,5}(?:-\d{1,5})?)$/i.exec(rest);
  if (ports !== null) {
    const range = parsePorts(ports[2] ?? "");
    if (range === undefined) return { refusal: `found port "${ports[2]}", wanted 1 to 65535 or a range of them` };
    return { kind: "ports", scheme, host: (ports[1] ?? "").toLowerCase(), ...range };
  }
  if (TCP_SCHEMES.includes(scheme)) return { refusal: `found "${rest}", wanted host:port` };
  return parseWeb(scheme as "http", rest);
}

function socket(scheme: string, text: string): Target | Refusal {
  const path = text.slice("unix:".length);
  if (path === "") return { refusal: "found an empty socket path" };
  // In another folder it would be another socket, and nobody knows which folder the gateway was started in.
  if (!/^[/\0]/.test(path)) return { refusal: `found "${path}", wanted an absolute path after unix:` };
  if (scheme.startsWith("https"))
    return { refusal: `found ${scheme} over a socket, wanted http: no TLS is spoken there` };
  return { kind: "socket", scheme, path };
}

function parseRedirect(value: string): Target | Refusal {
  const match = /^(?:(30[12378]):)?(.+)$/s.exec(value);
  if (match === null) return { refusal: "found no address after redirect:" };
  return { kind: "redirect", value };
}

/** A web address with a path or without a port. */
function parseWeb(scheme: "http" | "https" | "https+insecure", rest: string): Target | Refusal {
  const plain = `${scheme === "http" ? "http" : "https"}://${rest}`;
  if (!URL.canParse(plain)) return { refusal: `found "${rest}", wanted host[:port][/path]` };
  const url = new URL(plain);
  if (url.username !== "" || url.password !== "") {
    return {
      refusal: "found a user or password, wanted an address without (every reader of the configuration sees it)",
    };
  }
  if (url.hostname === "") return { refusal: "found no host" };
  return { kind: "proxy", scheme, url: `${scheme}://${rest}` };
}
