import { Fault, messageOf } from "../../base/fault.ts";
import { MapFrameReader } from "../../wire/control-map.ts";
import { applyMapResponse, keyExpiryMs } from "../../wire/map-apply.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { MapResponse, RegisterRequest, RegisterResponse } from "../../wire/tailcfg.ts";
import { Backoff, fraction, sleep } from "./backoff.ts";
import { Connector } from "./connector.ts";
import type { ControlClientOptions, ControlState } from "./control-state.ts";
import { PingAnswerer } from "./ping-answerer.ts";
import { balancerHint, mapRequest, registerRequest, retryAfterMs, statusFault } from "./requests.ts";

export type { C2nRequest, C2nResponse, ControlClientOptions, ControlState } from "./control-state.ts";

/** Without a frame for this long a poll is dead; servers say keep-alive about every 55 s. */
const WATCHDOG_MS = 120_000;
/** Changes within this time share one update. */
const COALESCE_MS = 100;
const UPDATE_WITHIN_MS = 60_000;
const LOGOUT_WITHIN_MS = 10_000;

/**
 * Three loops as in upstream control/controlclient/auto.go: login, map and updates. Nothing here ends the data plane:
 * while the server is away, the last map stays in force.
 */
export class ControlClient {
  readonly #options: ControlClientOptions;
  readonly #connector: Connector;
  readonly #pings: PingAnswerer;
  readonly #closed: AbortController = new AbortController();
  readonly #loops: Promise<void>[] = [];
  readonly #mapBackoff: Backoff;
  #wake: PromiseWithResolvers<void> = Promise.withResolvers();
  #goal: { readonly authKey: string | undefined; readonly isRenewal: boolean } | undefined;
  #loginRun: AbortController = new AbortController();
  #pollRun: AbortController = new AbortController();
  #isLoggedIn = false;
  #generation = 1;
  #sentGeneration = 0;
  #state: ControlState = { kind: "connecting" };
  #renewedFor = "";
  #cancelExpiry: () => void = () => {};

  constructor(options: ControlClientOptions) {
    this.#options = options;
    this.#connector = new Connector(options);
    this.#pings = new PingAnswerer(options, this.#connector);
    this.#mapBackoff = new Backoff(options.random);
  }

  get state(): ControlState {
    return this.#state;
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
    this.#signal();
  }

  /** Registers again: with `authKey` the present key comes back to life, without one a new key is made. */
  login(options: { readonly authKey?: string } = {}): void {
    this.#goal = { authKey: options.authKey, isRenewal: options.authKey === undefined };
    this.#loginRun.abort(new Fault("CONTROL_RESTARTED", "Login was started again"));
    this.#signal();
  }

  /** Tells the server, and stops in any case; the caller forgets its keys afterwards whatever the answer. */
  async logout(): Promise<void> {
    this.#stopSession();
    const { clock, log } = this.#options;
    const limit = new AbortController();
    const cancel = clock.at(clock.now() + LOGOUT_WITHIN_MS, () => limit.abort(timeout("logout", LOGOUT_WITHIN_MS)));
    try {
      const details = { authKey: this.#options.authKey, followup: "", isLogout: true };
      await this.#register(
        registerRequest(this.#options, details),
        AbortSignal.any([limit.signal, this.#closed.signal]),
      );
    } catch (error) {
      log.warn("control.logout.failed", { error: messageOf(error) });
    } finally {
      cancel();
    }
    this.#connector.drop();
    this.#become({ kind: "logged-out" });
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
    this.#cancelExpiry();
    const stopped = new Fault("CONTROL_RESTARTED", "The session was ended");
    this.#loginRun.abort(stopped);
    this.#pollRun.abort(stopped);
    this.#signal();
  }

  // --- login ---

  async #loginLoop(): Promise<void> {
    const backoff = new Backoff(this.#options.random);
    while (!this.#closed.signal.aborted) {
      const goal = this.#goal;
      if (goal === undefined) {
        await this.#change();
        continue;
      }
      this.#loginRun = new AbortController();
      const signal = AbortSignal.any([this.#loginRun.signal, this.#closed.signal]);
      try {
        await this.#login(goal, signal, backoff);
        if (signal.aborted) continue;
        if (this.#goal === goal) this.#goal = undefined;
        backoff.reset();
        this.#restartMap();
      } catch (error) {
        if (signal.aborted) continue;
        await this.#backOff("control.login.failed", error, backoff.next(), signal);
      }
    }
  }

  async #login(goal: { authKey: string | undefined; isRenewal: boolean }, signal: AbortSignal, backoff: Backoff) {
    let isFresh = false;
    if (goal.isRenewal) {
      await this.#options.rotateNodeKey();
      isFresh = true;
      if (this.#goal === goal) this.#goal = goal = { ...goal, isRenewal: false }; // retries keep the new key
    }
    if (this.#state.kind !== "needs-login" && !this.#isLoggedIn) this.#become({ kind: "connecting" });
    for (let followup = ""; ; ) {
      const details = { authKey: goal.authKey, followup };
      const response = await this.#register(registerRequest(this.#options, details), signal);
      signal.throwIfAborted();
      if (response.Error) throw this.#refused(response.Error);
      if (response.NodeKeyExpired) {
        if (isFresh) {
          throw new Fault(
            "CONTROL_FRESH_KEY_EXPIRED",
            "Cannot log in: the server calls a key expired that was just made, wanted it accepted",
          );
        }
        await this.#options.rotateNodeKey();
        isFresh = true;
        followup = "";
        continue;
      }
      if (!response.AuthURL) return;
      if (response.AuthURL === followup) await sleep(this.#options.clock, backoff.next(), signal);
      else this.#askForLogin(response.AuthURL);
      followup = response.AuthURL;
    }
  }

  #refused(text: string): Fault {
    const reason = text.slice(0, 200).replace(/[^ -~]/g, "?");
    this.#become({ kind: "needs-login", reason });
    return new Fault("CONTROL_REGISTER_REFUSED", `Cannot log in: the server says "${reason}", wanted its consent`, {
      hint: "Check the auth key, or log in interactively.",
    });
  }

  #askForLogin(url: string): void {
    const isWeb = URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
    if (!isWeb) throw new Fault("CONTROL_BAD_AUTH_URL", "Cannot log in: found a login URL that is not http or https");
    this.#become({ kind: "needs-login", url, reason: "the server wants a login in a browser" });
    this.#options.onAuthUrl(url);
  }

  async #register(request: RegisterRequest, signal: AbortSignal): Promise<RegisterResponse> {
    const path = "/machine/register";
    const channel = await this.#connector.channel(signal);
    const headers = { "ts-lb": balancerHint(request) };
    const body = JSON.stringify(request);
    const answer = await channel.ask({ method: "POST", path, headers, body, signal });
    if (answer.status !== 200) throw new StatusError(statusFault(path, answer.status, answer.body), answer);
    try {
      const value: unknown = JSON.parse(answer.body);
      if (typeof value === "object" && value !== null) return value;
    } catch (error) {
      throw new Fault("CONTROL_BAD_ANSWER", `Cannot read the answer to register: ${messageOf(error)}, wanted JSON`);
    }
    throw new Fault("CONTROL_BAD_ANSWER", "Cannot read the answer to register: found no object, wanted one");
  }

  // --- map ---

  #restartMap(): void {
    this.#isLoggedIn = true;
    this.#generation++;
    this.#pollRun.abort(new Fault("CONTROL_RESTARTED", "Logged in again"));
    this.#signal();
  }

  async #mapLoop(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      if (!this.#isLoggedIn) {
        await this.#change();
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
      const request = mapRequest(this.#options, "poll");
      const path = "/machine/map";
      const headers = { "ts-lb": balancerHint(request) };
      const body = JSON.stringify(request);
      const reader = new MapFrameReader();
      let map: NetworkMap | undefined;
      let refusal = "";
      const answer = await channel.request({ method: "POST", path, headers, body, signal }, (part, status) => {
        if (status !== 200) {
          if (refusal.length < 200) refusal += part.toString("utf8");
          return;
        }
        for (const response of reader.push(part)) {
          if (signal.aborted) return;
          feed();
          map = this.#digest(map, response);
        }
      });
      if (answer.status !== 200) throw new StatusError(statusFault(path, answer.status, refusal), answer);
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      cancel();
    }
  }

  #digest(previous: NetworkMap | undefined, response: MapResponse): NetworkMap | undefined {
    if (response.PingRequest != null) this.#pings.answer(response.PingRequest);
    if (response.KeepAlive === true) return previous;
    const map = applyMapResponse(previous, response, new Date(this.#options.clock.wall()).toISOString());
    if (previous === undefined) this.#mapBackoff.reset();
    this.#options.onMap(map, response);
    this.#watchExpiry(map);
    return map;
  }

  #watchExpiry(map: NetworkMap): void {
    const { clock, authKey } = this.#options;
    this.#cancelExpiry();
    const expiry = keyExpiryMs(map.self);
    const left = expiry - clock.wall();
    if (map.self.Expired !== true && left > 0) {
      if (this.#goal === undefined) this.#become({ kind: "running" });
      if (expiry !== Infinity) this.#cancelExpiry = clock.at(clock.now() + left, () => this.#watchExpiry(map));
      return;
    }
    this.#become({ kind: "expired" });
    // A gateway has nobody at hand: with an auth key it brings the same key back to life, once per expiry.
    const mark = `${map.self.Key} ${map.self.KeyExpiry}`;
    if (authKey === undefined || this.#renewedFor === mark || this.#goal !== undefined) return;
    this.#renewedFor = mark;
    this.#goal = { authKey, isRenewal: false };
    this.#signal();
  }

  // --- updates ---

  async #updateLoop(): Promise<void> {
    const backoff = new Backoff(this.#options.random);
    const { clock } = this.#options;
    while (!this.#closed.signal.aborted) {
      if (!this.#isLoggedIn || this.#sentGeneration === this.#generation) {
        await this.#change();
        continue;
      }
      if (this.#sentGeneration > 0) await sleep(clock, COALESCE_MS, this.#closed.signal);
      const generation = this.#generation;
      const limit = new AbortController();
      const cancel = clock.at(clock.now() + UPDATE_WITHIN_MS, () => limit.abort(timeout("update", UPDATE_WITHIN_MS)));
      try {
        await this.#postUpdate(AbortSignal.any([limit.signal, this.#pollRun.signal, this.#closed.signal]));
        this.#sentGeneration = generation;
        backoff.reset();
      } catch (error) {
        this.#options.log.debug("control.update.failed", { error: messageOf(error) });
        await sleep(clock, backoff.next(), this.#closed.signal);
      } finally {
        cancel();
      }
    }
  }

  async #postUpdate(signal: AbortSignal): Promise<void> {
    const channel = await this.#connector.channel(signal);
    const request = mapRequest(this.#options, "update");
    const headers = { "ts-lb": balancerHint(request) };
    const path = "/machine/map";
    const answer = await channel.ask({ method: "POST", path, headers, body: JSON.stringify(request), signal });
    if (answer.status !== 200) throw statusFault(path, answer.status, answer.body);
  }

  // --- common ---

  async #backOff(event: string, error: unknown, delay: number, signal: AbortSignal): Promise<void> {
    const { clock, log, random } = this.#options;
    const fault = faultOf(error);
    const isBusy = error instanceof StatusError && error.status === 429;
    const ms = isBusy ? retryAfterMs(error.retryAfter, clock.wall(), fraction(random)) : delay;
    log.warn(event, { code: fault.code, error: fault.message, retryMs: Math.round(ms) });
    const isLoginAsked = this.#state.kind === "needs-login" || this.#state.kind === "expired";
    if (!isLoginAsked) this.#become({ kind: "backing-off", untilMs: clock.now() + ms, fault });
    await sleep(clock, ms, signal);
  }

  #become(state: ControlState): void {
    const isSame = JSON.stringify(state) === JSON.stringify(this.#state);
    if (isSame || this.#state.kind === "closed") return;
    this.#state = state;
    this.#options.onState(state);
  }

  /** Resolves at the next change of goals; loops look at the state again afterwards. */
  #change(): Promise<void> {
    return this.#wake.promise;
  }

  #signal(): void {
    const { resolve } = this.#wake;
    this.#wake = Promise.withResolvers();
    resolve();
  }
}

const WATCHDOG = "CONTROL_SILENT";

function isWatchdog(reason: unknown): boolean {
  return reason instanceof Fault && reason.code === WATCHDOG;
}

/** An answer that came: the channel is fine, and may say when to come back. */
class StatusError extends Error {
  readonly fault: Fault;
  readonly status: number;
  readonly retryAfter: string | undefined;

  constructor(fault: Fault, answer: { readonly status: number; readonly retryAfter: string | undefined }) {
    super(fault.message);
    this.fault = fault;
    this.status = answer.status;
    this.retryAfter = answer.retryAfter;
  }
}

function faultOf(error: unknown): Fault {
  if (error instanceof StatusError) return error.fault;
  if (error instanceof Fault) return error;
  return new Fault("CONTROL_BROKEN", `Cannot talk to the control server: ${messageOf(error)}`, { cause: error });
}

function timeout(what: string, ms: number): Fault {
  return new Fault("CONTROL_TIMEOUT", `Cannot finish the ${what}: found no answer in ${ms / 1000} s, wanted one`);
}
