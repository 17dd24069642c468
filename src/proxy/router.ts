import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { formatAddress, parseAddress } from "../base/address.ts";
import { Fault } from "../base/fault.ts";
import type { Caller } from "../identity/caller.ts";
import { hopsOf, MOST_HOPS } from "../identity/headers.ts";
import type { HttpHandler } from "../wire/serve-config.ts";
import { answerRewrite } from "./answer-rewrite.ts";
import { isGone, sendError, sendText } from "./answers.ts";
import { nameOf, originOf } from "./asked-name.ts";
import { type Backend, backendOf } from "./backend.ts";
import { type BackendPool, poolKeyOf } from "./backend-pool.ts";
import { DOOR_PATHS } from "./doors/local-path.ts";
import type { Visit } from "./doors/visit.ts";
import { sendPath } from "./files.ts";
import { cut, forward } from "./forward.ts";
import type { Front, ProxyLimits, ProxyOptions } from "./options.ts";
import { Passages } from "./passages.ts";
import { belowMount, findMount, isAmbiguous, joinPaths, mountsWhateverCase, readTarget, type Target } from "./path.ts";
import { sendRedirect } from "./redirect.ts";
import { type Checked, checkRequest, type Refusal } from "./request-checks.ts";
import { RequestIdentity } from "./request-identity.ts";
import { hasOtherName, isCrossSite, type RouteRules, takeListed } from "./route-rules.ts";
import { findSite, type Site, servedPorts } from "./serve-lookup.ts";
import { forwardUpgrade } from "./upgrade.ts";

const HTTP_PORT = 80;

export interface Upgrade {
  readonly stream: Duplex;
  readonly head: Buffer;
}

/** From a request to its handler. Identity is looked up per request; in doubt no backend is contacted. */
export class Router {
  readonly #options: ProxyOptions;
  readonly #limitsOf: (front: Front) => ProxyLimits;
  readonly #pool: BackendPool;

  readonly #passages: Passages = new Passages();
  readonly #identity: RequestIdentity;

  constructor(options: ProxyOptions, limits: (front: Front) => ProxyLimits, pool: BackendPool) {
    this.#options = options;
    this.#limitsOf = limits;
    this.#pool = pool;
    this.#identity = new RequestIdentity(options);
  }

  async handle(front: Front, request: IncomingMessage, response: ServerResponse, upgrade?: Upgrade): Promise<void> {
    const checked = checkRequest(request, this.#limitsOf(front));
    if ("status" in checked) return sendError(request, response, checked.status, `${checked.status} ${checked.reason}`);
    if (upgrade === undefined && offersWebSocket(request) && (checked.isChunked || (checked.length ?? 0) > 0)) {
      return sendError(request, response, 400, "400 an upgrade with a body"); // WS-2
    }
    if (checked.target === "/*" || request.url === "*") return this.#asterisk(request, response);
    const target = readTarget(checked.target);
    if (target === undefined) return sendError(request, response, 400, "400 malformed request target");
    if ((mustAgree(front, request) && nameOf(checked.host) !== front.serverName) || this.#isPastDoor(front, checked)) {
      return sendError(request, response, 421, "421 this connection is for another name"); // H2-8, FN-5
    }
    const proof = front.port === HTTP_PORT ? this.#options.challengeAnswer?.(checked.host, checked.target) : undefined;
    if (proof !== undefined) return sendText(request, response, 200, proof);
    const site = this.#siteOf(front, checked.host);
    if (site !== undefined && target.decoded.startsWith(DOOR_PATHS)) {
      if (await this.#doorRoom(front, request, response, checked, target, site)) return;
    }
    if (this.#isSecretRoom(target)) return sendError(request, response, 404, "404 page not found");
    const mount = site === undefined ? undefined : findMount(site, target.decoded);
    if (site === undefined || mount === undefined) return sendError(request, response, 404, "404 page not found");
    if (isAmbiguous(site, target, mount)) return sendError(request, response, 400, "400 a path with two meanings");

    const { handler, point } = mount;
    const rules = this.#rulesAt(front, checked.host, point);
    const refusal = this.#refusalBy(rules, front, request, checked, upgrade !== undefined);
    if (refusal !== undefined)
      return sendError(request, response, refusal.status, `${refusal.status} ${refusal.reason}`);
    // Else the door of `/admin` would be walked around by `/ADMIN`, at a backend that stands behind `/` as well.
    const near = mountsWhateverCase(site, target, mount).map((other) =>
      this.#rulesAt(front, checked.host, other.point),
    );
    if (near.some(({ door }) => door !== undefined && door !== rules.door))
      return sendError(request, response, 400, "400 a path with two meanings");
    let guest: Caller | undefined;
    const isUpgrade = upgrade !== undefined;
    const end = upgrade === undefined ? () => cut(response) : () => void upgrade.stream.destroy();
    if (rules.door !== undefined) {
      const { door, guestsAsUsers } = rules;
      const visit = this.#visitOf(front, request, response, checked, target, end, isUpgrade);
      if (visit === undefined) return;
      if (this.#options.gatekeeper === undefined) return sendError(request, response, 503, "503 no door is there yet");
      guest = this.#options.gatekeeper.admit(visit, { door, guestsAsUsers });
      if (guest === undefined) return;
    }
    this.#options.gatekeeper?.dropTokens(request.rawHeaders);
    const passed = rules.door === undefined ? undefined : this.#options.gatekeeper?.door(rules.door);
    const userBy = guest?.kind === "guest" && guest.user !== undefined ? rules.guestsAsUsers : undefined;
    const passage = { front, host: checked.host, point, passed, userBy, cut: end };
    this.#passages.enter(passage, { request, response, isUpgrade });
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
    await this.#proxy(front, request, response, checked, target, point, handler, rules, upgrade, guest);
  }

  /**
   * Does the connection belong to one name and Host say another one, which has a door? The backend may be that of both, and go by
   * Host.
   */
  #isPastDoor(front: Front, { host }: Checked): boolean {
    const own = front.serverName ?? front.service?.name;
    if (own === undefined) return false;
    const name = nameOf(host);
    if (name === own) return false;
    const config = this.#options.config();
    return servedPorts(config).some((port) => {
      const site = findSite(config, name, port);
      const there = { ...front, port, serverName: name, service: undefined };
      return site !== undefined && this.#doorsOf(there, host, site).size > 0;
    });
  }

  #rulesAt(front: Front, host: string, point: string): RouteRules {
    // Rules know mounts by the text of the file, not by its bytes.
    const mount = /[\x80-\xff]/.test(point) ? Buffer.from(point, "latin1").toString() : point;
    return this.#options.rulesOf?.({ ...placeOf(front, host), mount }) ?? NO_RULES;
  }

  /** What a door needs to know; `undefined` when nobody can say who came: that has been answered. */
  #visitOf(
    front: Front,
    request: IncomingMessage,
    response: ServerResponse,
    { host }: Checked,
    target: Target,
    end: () => void = () => cut(response),
    isUpgrade = false,
  ): Visit | undefined {
    const caller = this.#identity.callerOf(front);
    if (caller instanceof Fault) {
      this.#options.log.warn("proxy.caller_unknown", { code: caller.code });
      return void sendError(request, response, 503, "503 the caller could not be identified");
    }
    return {
      request,
      response,
      caller,
      origin: originOf(front, host),
      isTls: front.serverName !== undefined,
      isUpgrade,
      certificate: front.clientCertificate,
      target: target.path + target.query,
      cut: end,
    };
  }

  /** Cuts what is under way and would not be let in now, or not as a user: a door was put before it, changed, or is demanded. */
  review(): void {
    this.#passages.review(({ front, host, point, passed, userBy }) => {
      const { door, visitorsNeedDoor, guestsAsUsers } = this.#rulesAt(front, host, point);
      if (userBy !== undefined && userBy !== guestsAsUsers) return false;
      if (door === undefined) return visitorsNeedDoor !== true || front.proof.kind === "mesh";
      const caller = this.#identity.callerOf(front);
      return !(caller instanceof Fault) && this.#options.gatekeeper?.mayStay(door, passed, caller) === true;
    });
  }

  /** Also one that was put together with a slash too many, or below a path, or that a backend may read so. */
  #isSecretRoom({ decoded, readings }: Target): boolean {
    const { gatekeeper } = this.#options;
    return (
      gatekeeper !== undefined &&
      (gatekeeper.isSecretRoom(decoded) || readings.some((path) => gatekeeper.isSecretRoom(path)))
    );
  }

  #doorsOf(front: Front, host: string, site: Site): ReadonlySet<string> {
    const doors = [...site.keys()].map((point) => this.#rulesAt(front, host, point).door);
    return new Set(doors.filter((door) => door !== undefined));
  }

  /** Is a client asked for its certificate on this connection? Browsers bother people with that. */
  wantsCertificate(front: Front, name: string): boolean {
    const { gatekeeper } = this.#options;
    if (gatekeeper === undefined || !gatekeeper.doors.some(({ hasCertificates }) => hasCertificates)) return false;
    const site = this.#siteOf(front, name);
    if (site === undefined) return false;
    return gatekeeper.wantsCertificate(this.#doorsOf(front, name, site), this.#identity.callerOf(front));
  }

  /** The pages of the doors that stand on this site; false when the path is none of theirs. */
  async #doorRoom(
    front: Front,
    request: IncomingMessage,
    response: ServerResponse,
    checked: Checked,
    target: Target,
    site: Site,
  ): Promise<boolean> {
    const { gatekeeper } = this.#options;
    if (gatekeeper === undefined || front.serverName === undefined) return false;
    const names = this.#doorsOf(front, checked.host, site);
    if (names.size === 0) return false;
    const visit = this.#visitOf(front, request, response, checked, target);
    return visit === undefined || (await gatekeeper.answer(visit, names));
  }

  #refusalBy(
    rules: RouteRules,
    front: Front,
    request: IncomingMessage,
    { host, length }: Checked,
    isUpgrade: boolean,
  ): Refusal | undefined {
    if (rules.visitorsNeedDoor === true && rules.door === undefined && front.proof.kind !== "mesh")
      return { status: 403, reason: "the policy of this network wants a door here" };
    if (rules.crossSite === "deny" && isCrossSite(request, originOf(front, host), isUpgrade)) {
      this.#options.count?.("cross_site");
      return { status: 403, reason: "another site asks in your name" };
    }
    if (rules.onOtherName === "reject" && hasOtherName(request.rawHeaders, rules.otherNames)) {
      return { status: 400, reason: "a field name with other characters than letters, digits and dashes" };
    }
    if ((length ?? 0) > (rules.bodyBytes ?? this.#limitsOf(front).bodyBytes)) {
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
    if (name === "" || name.endsWith(".")) return undefined; // one dot is gone already
    const self = this.#options.selfName();
    const isOurs = this.#isOwnAddress(name, front);
    if (isOurs) return findSite(config, self, port);
    const suffix = self.slice(self.indexOf("."));
    return findSite(config, name, port) ?? findSite(config, `${name}${suffix}`, port);
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
    guest: Caller | undefined,
  ): Promise<void> {
    const { log } = this.#options;
    const rest = belowMount(target, point);
    if (rest === undefined) return sendError(request, response, 404, "404 page not found");
    const backend = backendOf(handler.Proxy ?? "");
    if (backend instanceof Fault) return sendError(request, response, 500, "unknown proxy destination");
    const hops = hopsOf(request.rawHeaders);
    if (hops >= MOST_HOPS) {
      log.warn("proxy.loop", { host: backend.host, port: backend.port });
      return sendError(request, response, 508, "508 a backend of this gateway leads back to it");
    }
    const caller = guest ?? this.#identity.callerOf(front);
    if (caller instanceof Fault) {
      log.warn("proxy.caller_unknown", { code: caller.code });
      return sendError(request, response, 503, "503 the caller could not be identified");
    }
    const { host } = checked;
    const asked = { host, handler, hops };
    const own = this.#identity.kept(front, caller, asked) ?? (await this.#identity.fields(front, caller, asked));
    if (isGone(response)) return;
    const listed = rules.otherNames === undefined ? [] : takeListed(request.rawHeaders, rules.otherNames);
    const identity = listed.length === 0 ? own : [...own, ...listed];
    const work = {
      request,
      response,
      checked,
      backend,
      path: pathTo(backend, rest, target.query),
      identity,
      readsBodies: handler.Proxy === rules.keepAliveAfterBody,
      bodyBytes: rules.bodyBytes ?? this.#limitsOf(front).bodyBytes,
      pool: this.#pool,
      poolKey: poolKeyOf(caller),
      log,
      count: this.#options.count,
      rewrite: answerRewrite(backend, this.#options.rewritesAnswers === false ? undefined : originOf(front, host)),
    };
    if (upgrade === undefined) forward(work);
    else forwardUpgrade(work, upgrade.stream, upgrade.head);
  }
}

const NO_RULES: RouteRules = {};

function placeOf({ port, service, serverName }: Front, host: string): { port: number; name: string; service?: string } {
  const name = serverName ?? nameOf(host);
  return service === undefined ? { port, name } : { port, name, service: service.service };
}

/** HTTP/2 connections are shared by names; a visitor's may be, by a relay that lies about whom he asked for. */
function mustAgree({ proof, serverName }: Front, request: IncomingMessage): boolean {
  return request.httpVersionMajor === 2 || (proof.kind === "ingress" && serverName !== undefined);
}

function offersWebSocket(request: IncomingMessage): boolean {
  const { upgrade, connection } = request.headers;
  return upgrade?.toLowerCase() === "websocket" && /(?:^|,)\s*upgrade\s*(?:,|$)/i.test(connection ?? "");
}

function pathTo(backend: Backend, rest: string, query: string): string {
  const path = joinPaths(backend.path, rest);
  if (backend.query === "") return path + query;
  return `${path}?${backend.query}${query.length > 1 ? `&${query.slice(1)}` : ""}`;
}
