import { withDeadline } from "../../base/deadline.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { sleep } from "../../base/pause.ts";
import { applyMapResponse } from "../../wire/map-apply.ts";
import { checkMapResponse } from "../../wire/map-check.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { MapResponse, Node } from "../../wire/tailcfg.ts";
import { Backoff, fraction } from "./backoff.ts";
import { Bell } from "./bell.ts";
import { Connector } from "./connector.ts";
import type { ControlClientOptions, ControlState, LoginWish } from "./control-state.ts";
import { KeyWatch } from "./key-watch.ts";
import { pollMap, postUpdate } from "./map-calls.ts";
import { type NodeRequest, postAsNode } from "./node-requests.ts";
import { PingAnswerer } from "./ping-answerer.ts";
import { type LoginGoal, Registration } from "./registration.ts";
import { faultOf, retryAfterMs, StatusError } from "./requests.ts";

export type { C2nRequest, C2nResponse, ControlClientOptions, ControlState, FunnelWish } from "./control-state.ts";

/** Without a frame for this long a poll is dead; servers say keep-alive about every 55 s. */
const WATCHDOG_MS = 120_000;
/** Changes within this time share one update. */
const COALESCE_MS = 100;
const UPDATE_WITHIN_MS = 60_000;
const LOGOUT_WITHIN_MS = 10_000;
/**
 * As often we repeat what we told the server: Headscale goes on sending keep-alives to a node that was deleted, and only
 * a request of its own tells such a node.
 */
const PRESENCE_MS = 30_000;
/** The server has to say "no such node" for this long: one 404 may be a server that has only begun. */
const REMOVED_AFTER_MS = 3000;

/**
 * Three loops as in upstream control/controlclient/auto.go: login, map and updates. Nothing here ends the data plane:
 * while the server is away, the last map stays in force.
 */
export class ControlClient {
  readonly #options: ControlClientOptions;
  readonly #connector: Connector;
  readonly #registration: Registration;
  readonly #pings: PingAnswerer;
  readonly #closed: AbortController = new AbortController();
  readonly #loops: Promise<void>[] = [];
  readonly #keyWatch: KeyWatch;
  readonly #mapBackoff: Backoff;
  /** Rings when goals change; loops look at the state again then. */
  readonly #bell: Bell = new Bell();
  #goal: LoginGoal | undefined;
  #loginRun: AbortController = new AbortController();
  #pollRun: AbortController = new AbortController();
  #isLoggedIn = false;
  #generation = 1;
  #sentGeneration = 0;
  #state: ControlState = { kind: "connecting" };
  #renewedFor = "";
  #unknownSince: number | undefined;

  constructor(options: ControlClientOptions) {
    this.#options = options;
    this.#connector = new Connector(options);
    this.#registration = new Registration(options, this.#connector);
    this.#pings = new PingAnswerer(options, this.#connector);
    this.#keyWatch = new KeyWatch(options.clock, {
      onValid: () => {
        if (this.#goal === undefined) this.#become({ kind: "running" });
      },
      onExpired: (self, wasCutShort) => this.#expired(self, wasCutShort),
    });
    this.#mapBackoff = new Backoff(options.random);
  }

  get state(): ControlState {
    return this.#state;
  }

  /** The server's time in Unix ms, by which keys expire: ours where the two differ by less than a minute. */
  wall(): number {
    return this.#keyWatch.wall();
  }

  start(): void {
    if (this.#loops.length > 0) return;
    this.#goal = { authKey: this.#options.authKey, isRenewal: false };
    this.#options.onState(this.#state);
    this.#loops.push(this.#loginLoop(), this.#mapLoop(), this.#updateLoop());
  }

  /** Endpoints, Hostinfo or NetInfo changed: posts the whole present state; calls within a moment share one request. */
  update(): void {
    this.#generation++;
    this.#bell.ring();
  }

  /** Registers again: with `authKey` the present key comes back to life unless `isRenewal`, without one a new key is made. */
  login({ authKey, isRenewal = authKey === undefined }: LoginWish = {}): void {
    const isUnknown = this.#state.kind === "logged-out"; // its key was never seen by the server
    this.#goal = { authKey, isRenewal: isRenewal && !isUnknown };
    this.#registration.begin(this.#goal);
    this.#loginRun.abort(new Fault("CONTROL_RESTARTED", "Login was started again"));
    this.#bell.ring();
  }

  /** Asks the server something as this node; the body of its answer. @throws {Fault} CONTROL_* */
  async post(request: NodeRequest, signal: AbortSignal): Promise<string> {
    try {
      return await postAsNode(await this.#connector.channel(signal), this.#options, request, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw faultOf(error);
    }
  }

  /** The network under us changed: what is open may be dead, so the poll begins anew. */
  linkChanged(): void {
    if (!this.#isLoggedIn) return;
    this.#connector.drop();
    this.#restartMap();
  }

  /** Tells the server, and stops in any case; the caller forgets its keys afterwards whatever the answer. */
  async logout(): Promise<void> {
    this.#stopSession();
    const { clock, log } = this.#options;
    const late = (): Fault => timeout("logout", LOGOUT_WITHIN_MS);
    try {
      await withDeadline(clock, LOGOUT_WITHIN_MS, late, (limit) =>
        this.#registration.logout(AbortSignal.any([limit, this.#closed.signal])),
      );
    } catch (error) {
      log.warn("control.logout.failed", { error: messageOf(error) });
    }
    this.#connector.forgetServer();
    this.#become({ kind: "logged-out" });
  }

  /** Leaves the server alone until `resume`. */
  pause(): void {
    this.#stopSession();
    this.#connector.drop();
    this.#become({ kind: "stopped" });
  }

  /** After `pause`: comes back under the same key. */
  resume(): void {
    if (this.#state.kind !== "stopped") return;
    this.#goal = { authKey: this.#options.authKey, isRenewal: false };
    this.#registration.begin(this.#goal);
    this.#bell.ring();
  }

  async close(): Promise<void> {
    this.#closed.abort(new Fault("CONTROL_CLOSED", "Cannot use the control client: found it closed"));
    this.#stopSession();
    this.#connector.close();
    await Promise.all(this.#loops);
    this.#become({ kind: "closed" });
  }

  #stopSession(): void {
    this.#goal = undefined;
    this.#isLoggedIn = false;
    this.#unknownSince = undefined;
    this.#keyWatch.stop();
    const stopped = new Fault("CONTROL_RESTARTED", "The session was ended");
    this.#loginRun.abort(stopped);
    this.#pollRun.abort(stopped);
    this.#bell.ring();
  }

  // --- login ---

  async #loginLoop(): Promise<void> {
    const backoff = new Backoff(this.#options.random);
    while (!this.#closed.signal.aborted) {
      const goal = this.#goal;
      if (goal === undefined) {
        await this.#bell.next();
        continue;
      }
      this.#loginRun = new AbortController();
      const signal = AbortSignal.any([this.#loginRun.signal, this.#closed.signal]);
      if (this.#state.kind !== "needs-login" && !this.#isLoggedIn) this.#become({ kind: "connecting" });
      try {
        await this.#registration.login(goal, signal, {
          onRefused: (reason) => {
            this.#become({ kind: "needs-login", reason });
            this.#options.onRefused?.(reason);
          },
          onUrl: (url) => {
            this.#become({ kind: "needs-login", url, reason: "the server wants a login in a browser" });
            this.#options.onAuthUrl(url);
          },
          pause: (signal) => sleep(this.#options.clock, backoff.next(), signal),
        });
        if (signal.aborted) continue;
        if (this.#goal === goal) this.#goal = undefined;
        backoff.reset();
        this.#isLoggedIn = true;
        this.#restartMap();
      } catch (error) {
        if (signal.aborted) continue;
        await this.#backOff("control.login.failed", error, backoff.next(), signal);
      }
    }
  }

  // --- map ---

  #restartMap(): void {
    this.#generation++;
    this.#unknownSince = undefined;
    this.#pollRun.abort(new Fault("CONTROL_RESTARTED", "A new poll is wanted"));
    this.#bell.ring();
  }

  async #mapLoop(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      if (!this.#isLoggedIn) {
        await this.#bell.next();
        continue;
      }
      this.#pollRun = new AbortController();
      const signal = AbortSignal.any([this.#pollRun.signal, this.#closed.signal]);
      try {
        await this.#poll(signal);
        throw new Fault("CONTROL_MAP_ENDED", "The server ended the map stream");
      } catch (error) {
        if (signal.aborted && this.#pollRun.signal.aborted && !isWatchdog(this.#pollRun.signal.reason)) continue;
        if (this.#closed.signal.aborted) return;
        if (!(error instanceof StatusError)) this.#connector.drop();
        if (error instanceof StatusError && error.status === 404) this.#countUnknown();
        await this.#backOff("control.map.failed", error, this.#mapBackoff.next(), this.#sleepSignal());
      }
    }
  }

  /** What ends a sleep of the map loop: a new login or the end, but not the watchdog that began it. */
  #sleepSignal(): AbortSignal {
    this.#pollRun = new AbortController();
    return AbortSignal.any([this.#pollRun.signal, this.#closed.signal]);
  }

  async #poll(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const run = this.#pollRun;
    let cancel = () => {};
    const feed = () => {
      cancel();
      cancel = clock.at(clock.now() + WATCHDOG_MS, () => run.abort(new Fault(WATCHDOG, "No map frame for 120 s")));
    };
    feed();
    try {
      const channel = await this.#connector.channel(signal);
      let map: NetworkMap | undefined;
      await pollMap(channel, this.#options, signal, (response) => {
        feed();
        map = this.#digest(map, response);
      });
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      cancel();
    }
  }

  #digest(previous: NetworkMap | undefined, message: MapResponse): NetworkMap | undefined {
    const { response, rejected } = checkMapResponse(message);
    if (Object.keys(rejected).length > 0) this.#options.log.warn("control.map.rejected", { ...rejected });
    if (response.PingRequest != null) this.#pings.answer(response.PingRequest);
    if (response.KeepAlive === true) return previous;
    this.#keyWatch.learnTime(response.ControlTime);
    const map = applyMapResponse(previous, response, new Date(this.#options.clock.wall()).toISOString());
    if (previous === undefined) this.#mapBackoff.reset();
    if (response.PeersRemoved?.includes(map.self.ID)) {
      this.#becomeRemoved();
      return map;
    }
    this.#unknownSince = undefined;
    this.#options.onMap(map, response);
    this.#keyWatch.watch(map.self);
    return map;
  }

  /**
   * A gateway has nobody at hand: when its key's time is over, its auth key brings the same key back to life, once per
   * expiry. A key that was made to expire before its time is somebody's decision, and stays so.
   */
  #expired(self: Node, wasCutShort: boolean): void {
    if (this.#goal !== undefined) return;
    this.#become({ kind: "expired" });
    const { authKey } = this.#options;
    const mark = `${self.Key} ${self.KeyExpiry}`;
    if (authKey === undefined || wasCutShort || this.#renewedFor === mark) return;
    this.#renewedFor = mark;
    this.#goal = { authKey, isRenewal: false };
    this.#registration.begin(this.#goal);
    this.#bell.ring();
  }

  #countUnknown(): void {
    const now = this.#options.clock.now();
    this.#unknownSince ??= now;
    if (now - this.#unknownSince >= REMOVED_AFTER_MS) this.#becomeRemoved();
  }

  /** It does not join again by itself, even with an auth key at hand: somebody took it out. */
  #becomeRemoved(): void {
    this.#keyWatch.stop();
    if (this.#goal === undefined) this.#become({ kind: "removed" });
  }

  // --- updates ---

  async #updateLoop(): Promise<void> {
    const backoff = new Backoff(this.#options.random);
    const { clock } = this.#options;
    while (!this.#closed.signal.aborted) {
      if (!this.#isLoggedIn) {
        await this.#bell.next();
        continue;
      }
      if (this.#sentGeneration === this.#generation && (await this.#bell.ringsWithin(clock, PRESENCE_MS))) continue;
      if (this.#sentGeneration > 0) await sleep(clock, COALESCE_MS, this.#closed.signal);
      const generation = this.#generation;
      const late = (): Fault => timeout("update", UPDATE_WITHIN_MS);
      try {
        await withDeadline(clock, UPDATE_WITHIN_MS, late, async (limit) => {
          const signal = AbortSignal.any([limit, this.#pollRun.signal, this.#closed.signal]);
          await postUpdate(await this.#connector.channel(signal), this.#options, signal);
        });
        this.#sentGeneration = generation;
        backoff.reset();
      } catch (error) {
        this.#options.log.debug("control.update.failed", { error: messageOf(error) });
        if (error instanceof StatusError && error.status === 404) this.#pollRun.abort(unknownNode());
        await sleep(clock, backoff.next(), this.#closed.signal);
      }
    }
  }

  // --- common ---

  async #backOff(event: string, error: unknown, delay: number, signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#options;
    const fault = faultOf(error);
    const isBusy = error instanceof StatusError && error.status === 429;
    const ms = isBusy ? retryAfterMs(error.retryAfter, clock.wall(), fraction(random)) : delay;
    log.warn(event, { code: fault.code, error: fault.message, retryMs: Math.round(ms) });
    if (!ASKS_FOR_LOGIN.has(this.#state.kind)) this.#become({ kind: "backing-off", untilMs: clock.now() + ms, fault });
    await sleep(clock, ms, signal);
  }

  #become(state: ControlState): void {
    const isSame = JSON.stringify(state) === JSON.stringify(this.#state);
    if (isSame || this.#state.kind === "closed") return;
    this.#state = state;
    this.#options.onState(state);
  }
}

const WATCHDOG = "CONTROL_SILENT";
/** States that say more than that the server cannot be reached just now. */
const ASKS_FOR_LOGIN: ReadonlySet<ControlState["kind"]> = new Set([
  "needs-login",
  "expired",
  "removed",
  "logged-out",
  "stopped",
]);

function isWatchdog(reason: unknown): boolean {
  return reason instanceof Fault && reason.code === WATCHDOG;
}

function unknownNode(): Fault {
  return new Fault("CONTROL_RESTARTED", "The server does not know this node: the poll will tell");
}

function timeout(what: string, ms: number): Fault {
  return new Fault("CONTROL_TIMEOUT", `Cannot finish the ${what}: found no answer in ${ms / 1000} s, wanted one`);
}
