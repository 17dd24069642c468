import { withoutBrackets } from "../base/address.ts";
import { Fault } from "../base/fault.ts";

/** Where a `Proxy` value of the serve configuration leads. */
export interface Backend {
  readonly scheme: "http" | "https";
  /** Certificates are not verified. */
  readonly isInsecure: boolean;
  readonly host: string;
  readonly port: number;
  readonly socketPath: string | undefined;
  /** Without its final slash only when the value has none. */
  readonly path: string;
  /** Without `?`. */
  readonly query: string;
  /** `http://host:port`, as an answer might name it; `undefined` for sockets. */
  readonly origin: string | undefined;
}

const backends: Map<string, Backend | Fault> = new Map();
const MOST_BACKENDS = 4096;

export function backendOf(value: string): Backend | Fault {
  let backend = backends.get(value);
  if (backend === undefined) {
    if (backends.size >= MOST_BACKENDS) backends.clear();
    backend = parseBackend(value);
    backends.set(value, backend);
  }
  return backend;
}

function parseBackend(value: string): Backend | Fault {
  if (value.startsWith("unix:")) {
    const socketPath = value.slice(5).replace(/^\/\/(?=\/)/, "");
    if (!socketPath.startsWith("/")) return refused(value, "an absolute path after unix:");
    const common = { scheme: "http", isInsecure: false, host: "localhost", port: 0, path: "", query: "" } as const;
    return { ...common, socketPath, origin: undefined };
  }
  const text = /^\d+$/.test(value) ? `http://127.0.0.1:${value}` : value.includes("://") ? value : `http://${value}`;
  const isInsecure = text.startsWith("https+insecure://");
  const url = URL.parse(isInsecure ? `https${text.slice(14)}` : text);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    return refused(value, "http://, https://, https+insecure:// or unix:");
  }
  if (url.username !== "" || url.password !== "") return refused(value, "no user and password");
  const scheme = url.protocol === "https:" ? "https" : "http";
  const port = url.port === "" ? (scheme === "https" ? 443 : 80) : Number(url.port);
  const path = /^[^:]+:\/\/[^/?]*(\/[^?]*)?/.exec(text)?.[1] ?? "";
  const host = withoutBrackets(url.hostname);
  return {
    scheme,
    isInsecure,
    host,
    port,
    socketPath: undefined,
    path,
    query: url.search.slice(1),
    origin: url.origin,
  };
}

function refused(value: string, wanted: string): Fault {
  return new Fault("PROXY_BAD_TARGET", `Cannot proxy to "${value}": not a backend address, wanted ${wanted}`);
}
