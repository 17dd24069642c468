import { parseAddress } from "../../base/address.ts";
import { withDeadline } from "../../base/deadline.ts";
import { messageOf } from "../../base/fault.ts";
import { decodeC2nRequest, encodeC2nResponse } from "../../wire/control-c2n.ts";
import type { PingRequest } from "../../wire/tailcfg.ts";
import type { Connector } from "./connector.ts";
import type { C2nRequest, C2nResponse, ControlClientOptions } from "./control-state.ts";

const ANSWER_WITHIN_MS = 60_000;
/** Answers under way; the server has to wait for them, more are dropped. */
const LARGEST_BUSY = 8;
const MOST_KINDS = 4;

/**
 * Answers what the server asks of a node. Only inside the channel, or at the server's own origin: a server that could
 * name any URL could use us to reach what it cannot (CC-10).
 */
export class PingAnswerer {
  readonly #options: ControlClientOptions;
  readonly #connector: Connector;
  #lastUrl = "";
  #busy = 0;

  constructor(options: ControlClientOptions, connector: Connector) {
    this.#options = options;
    this.#connector = connector;
  }

  answer(ping: PingRequest): void {
    const { log } = this.#options;
    if (typeof ping.URL !== "string" || ping.URL === "" || ping.URL === this.#lastUrl) return;
    this.#lastUrl = ping.URL;
    const target = this.#target(ping.URL);
    if (target === undefined || this.#busy >= LARGEST_BUSY) {
      log.warn("control.ping.refused", { reason: target === undefined ? "foreign URL" : "too many at once" });
      return;
    }
    this.#busy++;
    this.#act(ping, target)
      .catch((error: unknown) => log.warn("control.ping.failed", { error: messageOf(error) }))
      .finally(() => {
        this.#busy--;
      });
  }

  /** The URL if it is of the server's own host: relative ones are. */
  #target(text: string): URL | undefined {
    const { url } = this.#connector;
    if (!URL.canParse(text, url)) return undefined;
    const target = new URL(text, url);
    const isOurs = target.host === url.host || target.host === "unused";
    return isOurs && (target.protocol === url.protocol || target.protocol === "https:") ? target : undefined;
  }

  async #act(ping: PingRequest, target: URL): Promise<void> {
    if (ping.Types === "c2n") return this.#answerC2n(ping, target);
    if (ping.Types !== undefined && ping.Types !== "") return this.#answerPings(ping, target);
    if (ping.URLIsNoise) return this.#ask("HEAD", target);
    const own = new URL(this.#connector.url);
    own.pathname = target.pathname; // not resolved: `//elsewhere/` would be another host
    own.search = target.search;
    await this.#connector.askPublic("HEAD", own);
  }

  /** Each kind in turn, each with an answer of its own (upstream `control/controlclient/direct.go:doPingerPing`). */
  async #answerPings({ Types = "", IP = "" }: PingRequest, target: URL): Promise<void> {
    const { onPing } = this.#options;
    if (onPing === undefined || parseAddress(IP) === undefined) return;
    for (const type of Types.split(",").slice(0, MOST_KINDS)) {
      const answer = await onPing({ ip: IP, type: type.trim() });
      await this.#ask("POST", target, Buffer.from(JSON.stringify(answer)));
    }
  }

  async #answerC2n(ping: PingRequest, target: URL): Promise<void> {
    if (ping.URLIsNoise === false) return this.#options.log.warn("control.ping.refused", { reason: "c2n in the open" });
    const request = decodeC2nRequest(Buffer.from(ping.Payload ?? "", "base64"));
    const response = request === undefined ? UNREADABLE : await this.#respond(request);
    await this.#ask("POST", target, encodeC2nResponse(response));
  }

  async #respond(request: C2nRequest): Promise<C2nResponse> {
    const { onC2n, log } = this.#options;
    if (request.path === "/echo") return { status: 200, headers: {}, body: request.body };
    if (onC2n === undefined) return UNKNOWN;
    try {
      return await onC2n(request);
    } catch (error) {
      log.warn("control.c2n.failed", { path: request.path, error: messageOf(error) });
      return { status: 500, headers: {}, body: "internal error\n" };
    }
  }

  #ask(method: string, target: URL, body?: Uint8Array): Promise<void> {
    const late = (): Error => new Error("no answer in time");
    return withDeadline(this.#options.clock, ANSWER_WITHIN_MS, late, async (signal) => {
      const channel = await this.#connector.channel(signal);
      const path = `${target.pathname}${target.search}`;
      await channel.ask({ method, path, signal, ...(body === undefined ? {} : { body }) });
    });
  }
}

const UNREADABLE: C2nResponse = { status: 400, headers: {}, body: "unreadable request\n" };
const UNKNOWN: C2nResponse = { status: 400, headers: {}, body: "unknown c2n path\n" };
