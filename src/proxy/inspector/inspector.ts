import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { htmlPageHeaders } from "../../base/html.ts";
import { tokenDigest } from "../doors/secret-hash.ts";
import { curlOf, harOf } from "./exports.ts";
import { listPage, refusedPage, requestPage } from "./inspector-pages.ts";
import type { Recorder } from "./recorder.ts";
import { type ReplayTarget, replay } from "./replay.ts";

const TOKEN_MS = 10 * 60_000;
const MOST_TOKENS = 8;
const MOST_BROWSERS = 8;
const MOST_CONNECTIONS = 32;

export interface InspectorOptions {
  readonly recorder: Recorder;
  readonly target: ReplayTarget;
  readonly clock: Clock;
  /** On loopback. @default any */
  readonly port?: number;
}

interface Shown {
  readonly status: number;
  readonly type?: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * The local pages on which the last requests are looked at. Only on loopback; only under its own name, so that no other
 * site's name can be made to lead here; only in a browser that has brought a token, each of which opens once.
 */
export class Inspector {
  readonly #options: InspectorOptions;
  readonly #server: Server;
  /** Until when on either clock, by digest: one stands still while a laptop sleeps, the other may be set back. */
  readonly #tokens: Map<string, { readonly now: number; readonly wall: number }> = new Map();
  readonly #browsers: Set<string> = new Set();
  readonly #closing: AbortController = new AbortController();
  /**
   * The path that the pages stand below. A browser sends the cookie to every port of this address, but only below that: other
   * programs here, which it visits too, hear nothing of it.
   */
  readonly #base: string = `/${randomBytes(16).toString("hex")}/`;
  #port = 0;

  private constructor(options: InspectorOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => void this.#answer(request, response));
    this.#server.maxConnections = MOST_CONNECTIONS;
  }

  /** @throws {Fault} INSPECTOR_LISTEN */
  static async open(options: InspectorOptions): Promise<Inspector> {
    const inspector = new Inspector(options);
    const server = inspector.#server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => {
        const asked = options.port ?? 0;
        reject(new Fault("INSPECTOR_LISTEN", `Cannot show requests on port "${asked}": ${cause.message}`, { cause }));
      });
      server.listen(options.port ?? 0, "127.0.0.1", resolve);
    });
    server.unref();
    inspector.#port = (server.address() as AddressInfo).port;
    return inspector;
  }

  get port(): number {
    return this.#port;
  }

  /** An address that opens the pages in one browser, once. */
  invite(): string {
    const token = randomBytes(32).toString("base64url");
    if (this.#tokens.size >= MOST_TOKENS) this.#tokens.delete(this.#tokens.keys().next().value!);
    const { clock } = this.#options;
    this.#tokens.set(tokenDigest(token), { now: clock.now() + TOKEN_MS, wall: clock.wall() + TOKEN_MS });
    return `http://127.0.0.1:${this.#port}/?token=${token}`;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume(); // no form here has a field
    let shown: Shown;
    try {
      shown = await this.#route(request);
    } catch (thrown) {
      shown = { status: 500, body: refusedPage(messageOf(thrown)) };
    }
    const { status, body = "", type, headers = {} } = shown;
    const fixed = Object.fromEntries(htmlPageHeaders());
    response.writeHead(status, {
      ...fixed,
      ...(type === undefined ? {} : { "Content-Type": type }),
      "Cross-Origin-Resource-Policy": "same-origin",
      "Content-Length": Buffer.byteLength(body),
      ...headers,
    });
    response.end(request.method === "HEAD" ? undefined : body);
  }

  async #route(request: IncomingMessage): Promise<Shown> {
    const { method, headers } = request;
    // By its own name only: a name of somebody else's that resolves to us is not it (DNS rebinding).
    if (!this.#isOwnName(headers.host)) {
      return { status: 403, body: refusedPage("This is not the name of this place.") };
    }
    const url = new URL(request.url ?? "/", "http://unused");
    const token = url.searchParams.get("token");
    if (token !== null && method === "GET" && url.pathname === "/") return this.#enter(token);
    if (!this.#isKnown(request)) return { status: 403, body: refusedPage(NO_TOKEN) };
    if (!url.pathname.startsWith(this.#base)) return NOT_FOUND;
    const place = url.pathname.slice(this.#base.length);
    const [, id, part] = /^requests\/(\d{1,15})(?:\/(har|curl|replay))?$/.exec(place) ?? [];
    const { recorder } = this.#options;
    if (method === "POST") {
      if (headers.origin !== `http://${headers.host}`) return { status: 403, body: refusedPage("Not from here.") };
      if (place === "clear") {
        recorder.clear();
        return { status: 303, headers: { Location: this.#base } };
      }
      return id !== undefined && part === "replay" ? await this.#replay(Number(id)) : NOT_FOUND;
    }
    if (method !== "GET" && method !== "HEAD") return { status: 405, body: refusedPage("No such method.") };
    if (place === "") return { status: 200, body: listPage(recorder.list(), this.#base) };
    if (place === "all.har") return har(recorder.list());
    const record = id === undefined ? undefined : recorder.find(Number(id));
    if (record === undefined || part === "replay") return NOT_FOUND;
    if (part === "har") return har([record]);
    if (part === "curl") return { status: 200, type: "text/plain; charset=utf-8", body: `${curlOf(record)}\n` };
    return { status: 200, body: requestPage(record, this.#base) };
  }

  /** Browsers leave port 80 out. */
  #isOwnName(host: string | undefined): boolean {
    const port = this.#port;
    return ["127.0.0.1", "localhost"].some((name) => host === `${name}:${port}` || (port === 80 && host === name));
  }

  #enter(token: string): Shown {
    const digest = tokenDigest(token);
    const until = this.#tokens.get(digest);
    this.#tokens.delete(digest);
    const { clock } = this.#options;
    if (until === undefined || until.now < clock.now() || until.wall < clock.wall())
      return { status: 403, body: refusedPage(NO_TOKEN) };
    const secret = randomBytes(32).toString("base64url");
    if (this.#browsers.size >= MOST_BROWSERS) this.#browsers.delete(this.#browsers.keys().next().value!);
    this.#browsers.add(tokenDigest(secret));
    const cookie = `${this.#cookie}=${secret}; Path=${this.#base}; HttpOnly; SameSite=Lax`;
    return { status: 303, headers: { Location: this.#base, "Set-Cookie": cookie, "Referrer-Policy": "no-referrer" } };
  }

  /** Cookies know no ports: each inspector has a name of its own. */
  get #cookie(): string {
    return `sallyport-inspector-${this.#port}`;
  }

  #isKnown({ headers }: IncomingMessage): boolean {
    return (headers.cookie ?? "").split(";").some((pair) => {
      const [name = "", value = ""] = pair.split("=", 2);
      return name.trim() === this.#cookie && this.#browsers.has(tokenDigest(value.trim()));
    });
  }

  async #replay(id: number): Promise<Shown> {
    const { recorder, target, clock } = this.#options;
    const record = recorder.find(id);
    if (record === undefined) return NOT_FOUND;
    try {
      await replay(record, target, recorder, { clock, signal: this.#closing.signal });
      await recorder.answered(({ replayOf }) => replayOf === id); // its end is on its way from there to here
      const [newest] = recorder.list().filter(({ replayOf }) => replayOf === id);
      return {
        status: 303,
        headers: { Location: `${this.#base}${newest === undefined ? "" : `requests/${newest.id}`}` },
      };
    } catch (thrown) {
      return { status: 502, body: requestPage(record, this.#base, messageOf(thrown)) };
    }
  }
}

const NO_TOKEN = "Open the address that `sallyport inspect` prints: it works once, within ten minutes.";
const NOT_FOUND: Shown = { status: 404, body: refusedPage("It is not here, or not any more.") };

function har(records: Parameters<typeof harOf>[0]): Shown {
  return {
    status: 200,
    type: "application/json",
    body: JSON.stringify(harOf(records), null, 2),
    headers: { "Content-Disposition": 'attachment; filename="requests.har"' },
  };
}
