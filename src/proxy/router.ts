import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { formatAddress, parseAddress } from "../base/address.ts";
import { Fault, messageOf } from "../base/fault.ts";
import type { Caller } from "../identity/caller.ts";
import { type HeaderPair, identityHeaders, LONGEST_VALUE } from "../identity/headers.ts";
import type { HttpHandler } from "../wire/serve-config.ts";
import { sendError, sendText } from "./answers.ts";
import { type Backend, backendOf } from "./backend.ts";
import type { BackendPool } from "./backend-pool.ts";
import { sendPath } from "./files.ts";
import { forward } from "./forward.ts";
import type { Front, ProxyLimits, ProxyOptions } from "./options.ts";
import { belowMount, findMount, joinPaths, readTarget, type Target } from "./path.ts";
import { sendRedirect } from "./redirect.ts";
import { type Checked, checkRequest, type Refusal } from "./request-checks.ts";
import { hasOtherName, isCrossSite, type RouteRules, takeListed } from "./route-rules.ts";
import { findSite, foldHost, type Site } from "./serve-lookup.ts";
import { forwardUpgrade } from "./upgrade.ts";

export interface Upgrade {
  readonly stream: Duplex;
  readonly head: Buffer;
}

/** From a request to its handler. Identity is looked up per request; in doubt no backend is contacted. */
export class Router {
  readonly #options: ProxyOptions;
  readonly #limits: ProxyLimits;
  readonly #pool: BackendPool;

  readonly #kept: WeakMap<Front, KeptIdentity> = new WeakMap();

  constructor(options: ProxyOptions, limits: ProxyLimits, pool: BackendPool) {
    this.#options = options;
    this.#limits = limits;
    this.#pool = pool;
  }

  async handle(front: Front, request: IncomingMessage, response: ServerResponse, upgrade?: Upgrade): Promise<void> {
    const checked = checkRequest(request, this.#limits);
    if ("status" in checked) return sendError(request, response, checked.status, `${checked.status} ${checked.reason}`);
    if (upgrade === undefined && offersWebSocket(request) && (checked.isChunked || (checked.length ?? 0) > 0)) {
      return sendError(request, response, 400, "400 an upgrade with a body"); // WS-2
    }
    if (checked.target === "/*" || request.url === "*") return this.#asterisk(request, response);
    const target = readTarget(checked.target);
    if (target === undefined) return sendError(request, response, 400, "400 malformed request target");
    if (request.httpVersionMajor === 2 && nameOf(checked.host) !== front.serverName) {
      return sendError(request, response, 421, "421 this connection is for another name"); // H2-8
    }
    const site = this.#siteOf(front, checked.host);
    const mount = site === undefined ? undefined : findMount(site, target.decoded);
    if (mount === undefined) return sendError(request, response, 404, "404 page not found");

    const { handler, point } = mount;
    const rules = this.#options.rulesOf?.({ ...placeOf(front), mount: point }) ?? NO_RULES;
    const refusal = this.#refusalBy(rules, front, request, checked, upgrade !== undefined);
    if (refusal !== undefined)
      return sendError(request, response, refusal.status, `${refusal.status} ${refusal.reason}`);
    if (handler.Text !== undefined && handler.Text !== "") return sendText(request, response, 200, handler.Text);
    if (handler.Redirect !== undefined && handler.Redirect !== "") {
      return sendRedirect(request, response, handler.Redirect, checked.host, target.path);
    }
    if (handler.Path !== undefined && handler.Path !== "") {
      const allow = this.#options.allowPath ?? (() => true);
      const { decoded: path, query } = target;
      const isLiteral = belowMount(target, point) !== undefined;
      return await sendPath(request, response, { root: handler.Path, mount: point, path, query, isLiteral, allow });
    }
    if (handler.Proxy === undefined || handler.Proxy === "") return sendError(request, response, 500, "empty handler");
    await this.#proxy(front, request, response, checked, target, point, handler, rules, upgrade);
  }

  #refusalBy(
    rules: RouteRules,
    front: Front,
    request: IncomingMessage,
    { host, length }: Checked,
    isUpgrade: boolean,
  ): Refusal | undefined {
    if (rules.crossSite === "deny" && isCrossSite(request, originOf(front, host), isUpgrade)) {
      this.#options.count?.("cross_site");
      return { status: 403, reason: "another site asks in your name" };
    }
    if (rules.onOtherName === "reject" && hasOtherName(request.rawHeaders, rules.otherNames)) {
      return { status: 400, reason: "a field name with other characters than letters, digits and dashes" };
    }
    if ((length ?? 0) > (rules.bodyBytes ?? this.#limits.bodyBytes)) {
      this.#options.count?.("body_too_large");
      return { status: 413, reason: "the body is too long" };
    }
    return undefined;
  }

  #asterisk(request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== "OPTIONS") return void sendError(request, response, 400, "400 malformed request target");
    response.removeHeader("connection");
    response.writeHead(200, ["Content-Length", "0"]);
    response.end();
  }

  /** TLS: the name that the certificate was for. Plain: the Host, where a bare name is one of our own tailnet. */
  #siteOf(front: Front, host: string): Site | undefined {
    const config = this.#options.config();
    const { service, port, serverName } = front;
    if (service !== undefined) return findSite(config, service.name, port, service.service);
    if (serverName !== undefined) return findSite(config, serverName, port);
    const name = nameOf(host);
    if (name === "") return undefined;
    const self = this.#options.selfName();
    const isOurs = this.#isOwnAddress(name, front);
    if (isOurs) return findSite(config, self, port);
    const suffix = self.slice(self.indexOf("."));
    return findSite(config, name.endsWith(foldHost(suffix)) ? name : `${name}${suffix}`, port);
  }

  #isOwnAddress(name: string, front: Front): boolean {
    const bytes = parseAddress(name);
    if (bytes === undefined) return false;
    const address = formatAddress(bytes);
    return address === front.proof.destination.address || (this.#options.selfAddresses?.() ?? []).includes(address);
  }

  async #proxy(
    front: Front,
    request: IncomingMessage,
    response: ServerResponse,
    checked: Checked,
    target: Target,
    point: string,
    handler: HttpHandler,
    rules: RouteRules,
    upgrade: Upgrade | undefined,
  ): Promise<void> {
    const { log } = this.#options;
    const rest = belowMount(target, point);
    if (rest === undefined) return sendError(request, response, 404, "404 page not found");
    const backend = backendOf(handler.Proxy ?? "");
    if (backend instanceof Fault) return sendError(request, response, 500, "unknown proxy destination");
    const caller = this.#callerOf(front);
    if (caller instanceof Fault) {
      log.warn("proxy.caller_unknown", { code: caller.code });
      return sendError(request, response, 503, "503 the caller could not be identified");
    }
    const { host } = checked;
    const own = this.#keptIdentity(front, host, handler) ?? (await this.#identity(front, caller, host, handler));
    if (response.destroyed) return;
    const listed = rules.otherNames === undefined ? [] : takeListed(request.rawHeaders, rules.otherNames);
    const identity = listed.length === 0 ? own : [...own, ...listed];
    const work = {
      request,
      response,
      checked,
      backend,
      path: pathTo(backend, rest, target.query),
      identity,
      bodyBytes: rules.bodyBytes ?? this.#limits.bodyBytes,
      pool: this.#pool,
      poolKey: poolKeyOf(caller),
      log,
      rewrite: this.#rewriteOf(front, backend, host),
    };
    if (upgrade === undefined) forward(work);
    else forwardUpgrade(work, upgrade.stream, upgrade.head);
  }

  /** In doubt it is nobody's request (ID-3). */
  #callerOf({ proof }: Front): Caller | Fault {
    const { callers, clock } = this.#options;
    try {
      return callers.of(proof, clock.now());
    } catch (error) {
      return new Fault("PROXY_CALLER_LOOKUP", `Cannot identify the caller: ${messageOf(error)}`, { cause: error });
    }
  }

  /** What the connection's last request was given, while nothing that it says can have changed (ID-9). */
  #keptIdentity(front: Front, host: string, handler: HttpHandler): readonly HeaderPair[] | undefined {
    const { callers, clock } = this.#options;
    const kept = this.#kept.get(front);
    if (kept === undefined || kept.epoch !== callers.epoch || kept.host !== host || kept.handler !== handler) return;
    return clock.now() - kept.at < KEEP_IDENTITY_MS ? kept.pairs : undefined;
  }

  async #identity(front: Front, caller: Caller, host: string, handler: HttpHandler): Promise<readonly HeaderPair[]> {
    const { callers, assertions, log, count, clock } = this.#options;
    const { epoch } = callers;
    const isFunnel = front.proof.kind === "ingress";
    const names = handler.AcceptAppCaps ?? [];
    const { address } = front.proof.destination;
    const capabilities = isFunnel || names.length === 0 ? undefined : callers.capabilities(caller, address, names);
    const isTls = front.serverName !== undefined;
    const audience = originOf(front, host);
    const assertion = assertions === undefined ? undefined : await assertions.sign(caller, audience, capabilities);
    const pairs = identityHeaders({ caller, capabilities, isFunnel, isTls, host, assertion }, (name) => {
      log.warn("proxy.header_omitted", { name, longest: LONGEST_VALUE });
      count?.("header_omitted");
    });
    this.#kept.set(front, { epoch, host, handler, at: clock.now(), pairs });
    return pairs;
  }

  /** Answers that name the backend's own address name ours instead. */
  #rewriteOf(front: Front, backend: Backend, host: string): (name: string, value: string) => string {
    const { origin } = backend;
    if (this.#options.rewritesAnswers === false || origin === undefined) return (_, value) => value;
    const served = originOf(front, host);
    const domain = backend.host.replace(/[.]/g, "\\.");
    return (name, value) => {
      if (name === "location" || name === "content-location") {
        const rest = value.startsWith(origin) ? value.slice(origin.length) : undefined;
        return rest !== undefined && (rest === "" || /^[/?#]/.test(rest)) ? served + rest : value;
      }
      if (name === "set-cookie") return value.replace(new RegExp(`;\\s*domain=\\.?${domain}(?=\\s*(?:;|$))`, "gi"), "");
      return value;
    };
  }
}

const NO_RULES: RouteRules = {};

/** Well below what is left of an assertion's life. */
const KEEP_IDENTITY_MS = 1000;

interface KeptIdentity {
  /** Of the callers: grows with every map and policy. */
  readonly epoch: number;
  readonly host: string;
  readonly handler: HttpHandler;
  /** Monotonic ms. */
  readonly at: number;
  readonly pairs: readonly HeaderPair[];
}

function placeOf({ port, service }: Front): { port: number; service?: string } {
  return service === undefined ? { port } : { port, service: service.service };
}

/** What the caller asked for, as a browser would name it. */
function originOf({ serverName }: Front, host: string): string {
  return `${serverName === undefined ? "http" : "https"}://${host}`;
}

function offersWebSocket(request: IncomingMessage): boolean {
  const { upgrade, connection } = request.headers;
  return upgrade?.toLowerCase() === "websocket" && /(?:^|,)\s*upgrade\s*(?:,|$)/i.test(connection ?? "");
}

/** Without port, brackets and final dot; in brackets only an address is something. */
function nameOf(host: string): string {
  const name = foldHost(host.replace(/:\d*$/, ""));
  if (!name.startsWith("[")) return name;
  const inner = name.slice(1, -1);
  return parseAddress(inner) === undefined ? "" : inner;
}

function pathTo(backend: Backend, rest: string, query: string): string {
  const path = joinPaths(backend.path, rest);
  if (backend.query === "") return path + query;
  return `${path}?${backend.query}${query.length > 1 ? `&${query.slice(1)}` : ""}`;
}

/** Connections to a backend are never shared between callers. */
function poolKeyOf(caller: Caller): string {
  switch (caller.kind) {
    case "user":
    case "tagged":
      return `node ${caller.nodeKey}`;
    case "routed":
      return `routed ${caller.via} ${caller.address}`;
    case "guest":
      return `guest ${caller.issuer} ${caller.subject}`;
    case "anonymous":
    case "probe":
      return `${caller.kind} ${caller.address}`;
  }
}
