import { randomBytes, timingSafeEqual } from "node:crypto";
import type { Server as HttpServer, IncomingMessage, ServerResponse } from "node:http";
import { readAtMost } from "../base/bounded-read.ts";
import type { Clock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import { htmlPageHeaders } from "../base/html.ts";
import type { Log } from "../base/log.ts";
import type { Coordinator } from "../coordination/coordinator.ts";
import type { User } from "../coordination/records.ts";
import type { OidcAttempt } from "../identity/oidc-client.ts";
import { approvedPage, confirmPage, overPage, refusedPage, signInPage, waitingPage } from "./login-html.ts";
import type { OidcProvider } from "./oidc-provider.ts";

const PAGE = /^\/register\/([A-Za-z0-9-]{1,80})$/;
const COOKIE = "sallyport-login";
const MOST_VISITS = 1024;
const VISIT_MS = 10 * 60_000;
const LARGEST_FORM_BYTES = 4096;

export interface LoginPagesOptions {
  readonly coordinator: Coordinator;
  readonly clock: Clock;
  readonly log: Log;
  /** Where the pages are, as browsers see them. */
  readonly serverUrl: string;
  /** Absent: the server's owner approves by the command line. */
  readonly oidc?: OidcProvider;
}

/** One browser's way from the page to the device's approval. */
interface Visit {
  readonly loginId: string;
  readonly until: number;
  attempt?: OidcAttempt | undefined;
  /** Who signed in; the token of the form that approves. */
  signedIn?: { readonly user: User; readonly token: string };
}

/** The pages that a person opens to let a node in. */
export class LoginPages {
  readonly #options: LoginPagesOptions;
  /** By the secret in the browser's cookie. */
  readonly #visits: Map<string, Visit> = new Map();

  constructor(options: LoginPagesOptions) {
    this.#options = options;
  }

  /** Answers whatever nobody else on `server` does. */
  attach(server: HttpServer): void {
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      if (response.headersSent) return;
      const url = URL.parse(request.url ?? "/", "http://unused");
      const answer = url === null ? undefined : this.#route(url, request, response);
      if (answer === undefined) response.writeHead(404, { "Content-Type": "text/plain" }).end("not found\n");
      answer?.catch((thrown: unknown) => {
        const { log } = this.#options;
        if (!(thrown instanceof Fault)) log.error("login.failed", { error: thrown });
        else log.warn("login.refused", { code: thrown.code, error: thrown.message });
        const text = thrown instanceof Fault ? thrown.message : "Something went wrong. The server's log says what.";
        if (!response.headersSent) send(response, 403, refusedPage(text));
      });
    });
  }

  #route(url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> | undefined {
    const id = PAGE.exec(url.pathname)?.[1];
    const isRead = request.method === "GET" || request.method === "HEAD";
    if (id !== undefined && isRead) return this.#show(id, response);
    if (this.#options.oidc === undefined) return undefined;
    if (url.pathname === "/oidc/start" && isRead) return this.#start(url.searchParams.get("login") ?? "", response);
    if (url.pathname === "/oidc/callback" && isRead) return this.#callback(url.search, request, response);
    if (url.pathname === "/oidc/confirm" && request.method === "POST") return this.#confirm(request, response);
    return undefined;
  }

  async #show(id: string, response: ServerResponse): Promise<void> {
    const login = this.#options.coordinator.pendingLogin(id);
    if (login === undefined) send(response, 404, overPage());
    else send(response, 200, this.#options.oidc === undefined ? waitingPage(login) : signInPage(login));
  }

  async #start(loginId: string, response: ServerResponse): Promise<void> {
    const { coordinator, clock, oidc, serverUrl } = this.#options;
    if (coordinator.pendingLogin(loginId) === undefined) return send(response, 404, overPage());
    const attempt = await oidc!.begin();
    this.#prune();
    const secret = randomBytes(32).toString("base64url");
    this.#visits.set(secret, { loginId, until: clock.now() + VISIT_MS, attempt });
    const secure = serverUrl.startsWith("https:") ? "; Secure" : "";
    // Lax: the provider sends the browser back here from another site.
    response.setHeader("Set-Cookie", `${COOKIE}=${secret}; HttpOnly; SameSite=Lax; Path=/oidc; Max-Age=600${secure}`);
    response.writeHead(302, { Location: attempt.url.href, "Cache-Control": "no-store" }).end();
  }

  async #callback(query: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { coordinator, oidc } = this.#options;
    const visit = this.#visitOf(request);
    const attempt = visit?.attempt;
    if (visit === undefined || attempt === undefined) return send(response, 403, refusedPage(NOT_BEGUN));
    visit.attempt = undefined; // an answer counts once
    const who = await oidc!.finish(query, attempt);
    const user = await coordinator.signIn(who, (mail) => oidc!.mayJoin(mail));
    const login = coordinator.pendingLogin(visit.loginId);
    if (login === undefined) return send(response, 404, overPage());
    const token = randomBytes(32).toString("base64url");
    visit.signedIn = { user, token };
    send(response, 200, confirmPage(login, user, token));
  }

  async #confirm(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { coordinator, serverUrl } = this.#options;
    const { origin } = request.headers;
    const visit = this.#visitOf(request);
    const form = new URLSearchParams(await formOf(request));
    const isOwn = origin === undefined || origin === new URL(serverUrl).origin;
    if (!isOwn || visit?.signedIn === undefined || !isSame(form.get("token") ?? "", visit.signedIn.token)) {
      return send(response, 403, refusedPage(NOT_BEGUN));
    }
    const { user } = visit.signedIn;
    this.#forget(request);
    const { isUnapproved = false } = await coordinator.approveRegistration(visit.loginId, user.id, user.login);
    send(response, 200, approvedPage(user, isUnapproved));
  }

  #visitOf(request: IncomingMessage): Visit | undefined {
    const visit = this.#visits.get(secretOf(request));
    return visit !== undefined && visit.until > this.#options.clock.now() ? visit : undefined;
  }

  #forget(request: IncomingMessage): void {
    this.#visits.delete(secretOf(request));
  }

  #prune(): void {
    const now = this.#options.clock.now();
    for (const [secret, { until }] of this.#visits) {
      if (until > now && this.#visits.size < MOST_VISITS) break;
      this.#visits.delete(secret);
    }
  }
}

const NOT_BEGUN = "This browser has not begun to sign in, or that was too long ago. Open the device's address again.";

function secretOf({ headers }: IncomingMessage): string {
  return new RegExp(`(?:^|; )${COOKIE}=([\\w-]{43})(?:;|$)`).exec(headers.cookie ?? "")?.[1] ?? "";
}

function isSame(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

async function formOf(request: IncomingMessage): Promise<string> {
  const read = await readAtMost(request, LARGEST_FORM_BYTES);
  if (read === undefined) throw new Fault("LOGIN_FORM", "Cannot read the form: it is too long");
  return read.toString("utf8");
}

function send(response: ServerResponse, status: number, html: string): void {
  response.writeHead(status, Object.fromEntries(htmlPageHeaders())); // matrix CS-6
  response.end(html);
}
