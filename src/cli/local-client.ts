import { type IncomingMessage, request } from "node:http";
import { StringDecoder } from "node:string_decoder";
import { readAtMost } from "../base/bounded-read.ts";
import { decodeServeConfig, encodeServeConfig } from "../config/serve-document.ts";
import type { Observation } from "../funnel/observations.ts";
import type { ClientCertificate, DoorsDocument, Invitation } from "../gateway/doors/door-admin.ts";
import type {
  IpnStatus,
  MaskedPrefs,
  Notify,
  PingResult,
  Prefs,
  QueryFeatureResponse,
  StartOptions,
  StoredServeConfig,
  WhoIsResponse,
} from "../wire/ipn.ts";
import type { SiteRules } from "../wire/visitor-rules.ts";
import { CliExit } from "./io.ts";

export interface StandingDoor {
  readonly door?: string;
  /** It is declared nowhere: whom it stops gets 503. */
  readonly isMissing?: boolean;
  /** The network's policy wants one before what is public. */
  readonly isDemanded?: boolean;
}

const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

interface Reply {
  readonly status: number;
  readonly statusText: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** The gateway's local admin interface from the caller's side. Texts of refusals are those of upstream's `client/local`. */
export class LocalClient {
  readonly #socketPath: string;
  readonly #signal: AbortSignal;

  constructor(socketPath: string, signal: AbortSignal) {
    this.#socketPath = socketPath;
    this.#signal = signal;
  }

  /** A document outside of upstream's interface, such as `/metrics`. */
  async document(path: string, statuses: readonly number[] = [200]): Promise<{ status: number; body: string }> {
    const reply = await this.#send("GET", path);
    if (!statuses.includes(reply.status)) throw refusal(reply);
    return reply;
  }

  async status(options: { readonly peers: boolean } = { peers: true }): Promise<IpnStatus> {
    return (await this.#json("GET", options.peers ? "status" : "status?peers=false")) as IpnStatus;
  }

  async serveConfig(): Promise<{ readonly config: StoredServeConfig; readonly etag: string }> {
    const reply = await this.#expect(200, "GET", "serve-config");
    const etag = reply.headers.etag ?? "";
    return { config: decodeServeConfig(reply.body), etag };
  }

  async setServeConfig(config: StoredServeConfig, etag: string): Promise<void> {
    await this.#expect(200, "POST", "serve-config", encodeServeConfig(config), { "If-Match": etag });
  }

  async whois(address: string, proto: string): Promise<WhoIsResponse> {
    const query = new URLSearchParams({ proto, addr: address });
    const reply = await this.#send("GET", `whois?${query}`);
    if (reply.status === 404) throw new CliExit("peer not found");
    return this.#read(200, reply) as WhoIsResponse;
  }

  async ping(ip: string, type: string, size: number, signal: AbortSignal): Promise<PingResult> {
    const query = new URLSearchParams({ ip, size: String(size), type });
    return this.#read(200, await this.#send("POST", `ping?${query}`, undefined, {}, signal)) as PingResult;
  }

  async prefs(): Promise<Prefs> {
    return (await this.#json("GET", "prefs")) as Prefs;
  }

  async editPrefs(change: MaskedPrefs): Promise<Prefs> {
    return (await this.#json("PATCH", "prefs", JSON.stringify(change))) as Prefs;
  }

  async start(options: StartOptions): Promise<void> {
    await this.#expect(204, "POST", "start", JSON.stringify(options));
  }

  async loginInteractive(): Promise<void> {
    await this.#expect(204, "POST", "login-interactive");
  }

  async logout(): Promise<void> {
    await this.#expect(204, "POST", "logout");
  }

  async queryFeature(feature: string): Promise<QueryFeatureResponse> {
    return (await this.#json("POST", `query-feature?feature=${encodeURIComponent(feature)}`)) as QueryFeatureResponse;
  }

  /** Key and chain. `onWait` hears of it when that takes longer than a second. */
  async certificatePair(
    name: string,
    minValidityMs: number,
    onWait: (name: string) => void = () => {},
  ): Promise<{ readonly key: string; readonly chain: string }> {
    const waiting = setTimeout(() => onWait(name), 1000);
    try {
      const query = `type=pair&min_validity=${Math.round(minValidityMs / 1000)}s`;
      const { body } = await this.#expect(200, "GET", `cert/${encodeURIComponent(name)}?${query}`);
      const end = body.indexOf("-----BEGIN CERTIFICATE-----");
      if (end < 0) throw new CliExit("the gateway's answer holds no certificate");
      return { key: body.slice(0, end), chain: body.slice(end) };
    } finally {
      clearTimeout(waiting);
    }
  }

  async doors(): Promise<DoorsDocument> {
    return (await this.#json("GET", "doors")) as DoorsDocument;
  }

  async invite(door: string, name: string, seconds: number, isMany: boolean): Promise<Invitation> {
    const query = new URLSearchParams({ door, name, seconds: String(seconds), many: String(isMany) });
    return (await this.#json("POST", `doors/invite?${query}`)) as Invitation;
  }

  /** What was last seen of public names; undefined where the daemon keeps no such thing. */
  async observations(): Promise<readonly Observation[] | undefined> {
    const reply = await this.#send("GET", "funnel/observed");
    return reply.status === 404 ? undefined : (this.#read(200, reply) as readonly Observation[]);
  }

  /** The door before a mount of `name:port`; undefined where the daemon knows no doors. */
  async doorAt(site: string, mount: string): Promise<StandingDoor | undefined> {
    const reply = await this.#send("GET", `funnel/door?${new URLSearchParams({ site, mount })}`);
    return reply.status === 404 ? undefined : (this.#read(200, reply) as StandingDoor);
  }

  /** Before a mount of `name:port`, and what has none of its own below it; an empty name takes it away. */
  async setDoor(site: string, mount: string, door: string): Promise<void> {
    await this.#expect(200, "POST", `funnel/door?${new URLSearchParams({ site, mount, door })}`);
  }

  /** Which visitors may come to `name:port`; undefined where the daemon keeps no such thing. */
  async visitorRules(site: string): Promise<Omit<SiteRules, "sites"> | undefined> {
    const reply = await this.#send("GET", `funnel/visitors?${new URLSearchParams({ site })}`);
    return reply.status === 404 ? undefined : (this.#read(200, reply) as Omit<SiteRules, "sites">);
  }

  async setVisitorRules(site: string, lists: Required<Pick<SiteRules, "allow" | "deny">>): Promise<void> {
    await this.#expect(200, "POST", `funnel/visitors?${new URLSearchParams({ site })}`, JSON.stringify(lists));
  }

  async observed({ target, findings }: Pick<Observation, "target" | "findings">): Promise<void> {
    await this.#expect(200, "POST", "funnel/observed", JSON.stringify({ target, findings }));
  }

  async inspect(port: number): Promise<string> {
    return String(((await this.#json("POST", `inspector?port=${port}`)) as { url: unknown }).url);
  }

  async stopInspecting(): Promise<void> {
    await this.#json("POST", "inspector/off");
  }

  async certifyGuest(door: string, name: string, seconds: number): Promise<ClientCertificate> {
    const query = new URLSearchParams({ door, name, seconds: String(seconds) });
    return (await this.#json("POST", `doors/certify?${query}`)) as ClientCertificate;
  }

  async revokeGuest(id: string): Promise<void> {
    await this.#json("POST", `doors/revoke?id=${encodeURIComponent(id)}`);
  }

  certificates(): Promise<unknown> {
    return this.#json("GET", "certificates");
  }

  certificateBudget(): Promise<unknown> {
    return this.#json("GET", "certificates/budget");
  }

  renewCertificate(name: string): Promise<unknown> {
    return this.#json("POST", `certificates/renew?name=${encodeURIComponent(name)}`);
  }

  async revokeCertificate(name: string): Promise<void> {
    await this.#json("POST", `certificates/revoke?name=${encodeURIComponent(name)}`);
  }

  async rollAccountKey(authority: string): Promise<void> {
    await this.#json("POST", `certificates/roll-key?name=${encodeURIComponent(authority)}`);
  }

  async certificateAdvice(name: string): Promise<string> {
    return String(await this.#json("POST", `certificates/advice?name=${encodeURIComponent(name)}`));
  }

  /** Notifications until the gateway ends the stream, `signal` fires, or the caller stops asking. */
  async *watch(mask: number, signal: AbortSignal = this.#signal): AsyncGenerator<Notify, void, void> {
    const response = await this.#open("GET", `watch-ipn-bus?mask=${mask}`, undefined, {}, signal);
    if (response.statusCode !== 200) throw refusal(await collect(response));
    const decoder = new StringDecoder("utf8");
    let rest = "";
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        const lines = (rest + decoder.write(chunk)).split("\n");
        rest = lines.pop() ?? "";
        if (rest.length > MAX_ANSWER_BYTES) throw new CliExit("notification too large");
        for (const line of lines) if (line !== "") yield JSON.parse(line) as Notify;
      }
    } catch (thrown) {
      if (signal.aborted) return;
      throw isCutOff(thrown) ? new CliExit("lost connection to the gateway") : thrown;
    } finally {
      response.destroy();
    }
  }

  async #json(method: string, path: string, body?: string): Promise<unknown> {
    return this.#read(200, await this.#send(method, path, body));
  }

  async #expect(status: number, method: string, path: string, body?: string, headers: Headers = {}): Promise<Reply> {
    const reply = await this.#send(method, path, body, headers);
    if (reply.status !== status) throw refusal(reply);
    return reply;
  }

  #read(status: number, reply: Reply): unknown {
    if (reply.status !== status) throw refusal(reply);
    try {
      return JSON.parse(reply.body);
    } catch (cause) {
      throw new CliExit(`invalid JSON from the gateway: ${cause instanceof Error ? cause.message : String(cause)}`);
    }
  }

  async #send(
    method: string,
    path: string,
    body?: string,
    headers: Headers = {},
    signal?: AbortSignal,
  ): Promise<Reply> {
    return collect(await this.#open(method, path, body, headers, signal ?? this.#signal));
  }

  #open(
    method: string,
    path: string,
    body: string | undefined,
    headers: Headers,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const call = request(
        {
          socketPath: this.#socketPath,
          method,
          path: path.startsWith("/") ? path : `/localapi/v0/${path}`,
          headers: { Host: "local-tailscaled.sock", "Tailscale-Cap": "142", ...headers },
          signal,
        },
        resolve,
      );
      call.once("error", (cause) => reject(this.#explain(cause)));
      call.end(body);
    });
  }

  #explain(cause: Error & { code?: string }): Error {
    if (cause.name === "AbortError") return new CliExit("interrupted", 0);
    if (cause.code === "EACCES") {
      return new CliExit(`Access denied: ${this.#socketPath} belongs to the user that runs the gateway. Use 'sudo'.`);
    }
    if (cause.code === "ENOENT" || cause.code === "ECONNREFUSED") {
      return new CliExit(
        `failed to connect to the gateway at ${this.#socketPath}: not running? Start it with 'sallyport run', or name its socket with --socket`,
      );
    }
    return new CliExit(`failed to talk to the gateway at ${this.#socketPath}: ${cause.message}`);
  }
}

type Headers = Readonly<Record<string, string>>;

/** The gateway stopped in the middle: for a stream that is an end. */
function isCutOff(thrown: unknown): boolean {
  return thrown instanceof Error && "code" in thrown && (thrown.code === "ECONNRESET" || thrown.code === "ABORT_ERR");
}

async function collect(response: IncomingMessage): Promise<Reply> {
  const body = await readAtMost(response, MAX_ANSWER_BYTES);
  if (body === undefined) throw new CliExit("answer of the gateway is too large");
  return {
    status: response.statusCode ?? 0,
    statusText: response.statusMessage ?? "",
    headers: response.headers,
    body: body.toString("utf8"),
  };
}

/** An unexpected answer, in words (`client/local/local.go:bestError`, `errorMessageFromBody`). */
export class AnswerRefusal extends CliExit {
  readonly answered: number;
  constructor(text: string, answered: number) {
    super(text);
    this.answered = answered;
  }
}

function refusal(reply: Reply): AnswerRefusal {
  const said = reply.body.trim();
  let text = errorMember(said) ?? `${reply.status} ${reply.statusText}: ${said}`;
  if (reply.status === 403) text = `Access denied: ${errorMember(said) ?? said}`;
  if (reply.status === 412) text = `Preconditions failed: ${errorMember(said) ?? said}`;
  return new AnswerRefusal(text, reply.status);
}

function errorMember(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return undefined;
    const found = (value as Record<string, unknown>)["error"] ?? (value as Record<string, unknown>)["Error"];
    return typeof found === "string" && found !== "" ? found : undefined;
  } catch {
    return undefined; // not JSON: a plain text refusal
  }
}
