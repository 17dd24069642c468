import { withDeadline } from "../../base/deadline.ts";
import { Fault } from "../../base/fault.ts";
import { formatKey, parseKey } from "../../crypto/keys.ts";
import { CAPABILITY_VERSION } from "../../wire/tailcfg.ts";
import { openByteStream } from "./byte-stream.ts";
import { ControlChannel } from "./control-channel.ts";
import type { ControlClientOptions } from "./control-state.ts";
import { httpOnce } from "./http-once.ts";

const DIAL_MS = 10_000;
const LARGEST_KEY_ANSWER = 64 * 1024;

/** Holds the one channel to the server: fetches the server's key once, dials, and dials anew after trouble. */
export class Connector {
  readonly #options: ControlClientOptions;
  readonly #url: URL;
  #serverKey: Uint8Array | undefined;
  #channel: ControlChannel | undefined;
  #dialling: Promise<ControlChannel> | undefined;
  readonly #closed: AbortController = new AbortController();

  constructor(options: ControlClientOptions) {
    this.#options = options;
    this.#url = parseServerUrl(options.serverUrl);
  }

  get url(): URL {
    return this.#url;
  }

  /** The open channel, or a new one. Dialling is shared by all who wait for it, and bounded by its own time limit. */
  async channel(signal: AbortSignal): Promise<ControlChannel> {
    signal.throwIfAborted();
    if (this.#channel?.isOpen) return this.#channel;
    this.#dialling ??= this.#withTimeout((limit) => this.#dial(limit)).finally(() => {
      this.#dialling = undefined;
    });
    const channel = await this.#dialling;
    signal.throwIfAborted();
    return channel;
  }

  /** Drops the channel: the next use dials. */
  drop(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** The next dial asks for the server's key again, and takes what it gets. */
  forgetServer(): void {
    this.drop();
    this.#serverKey = undefined;
  }

  close(): void {
    this.#closed.abort(new Fault("CONTROL_CLOSED", "Cannot use the control client: found it closed"));
    this.drop();
  }

  /** A plain request to the public side of the server. */
  async askPublic(method: string, url: URL): Promise<{ status: number; body: string }> {
    return this.#withTimeout(async (signal) => {
      const stream = await (this.#options.connect ?? openByteStream)(url, signal);
      return httpOnce(stream, { method, url, signal, largestBody: LARGEST_KEY_ANSWER });
    });
  }

  async #dial(signal: AbortSignal): Promise<ControlChannel> {
    this.#serverKey ??= await this.#fetchKey();
    const { machineKey, random, connect = openByteStream } = this.#options;
    const stream = await connect(this.#url, signal);
    try {
      const channel = await ControlChannel.open({
        stream,
        url: this.#url,
        machineKey,
        serverKey: this.#serverKey,
        version: CAPABILITY_VERSION,
        random,
        signal,
      });
      if (this.#closed.signal.aborted) channel.close();
      this.#channel = channel;
      return channel;
    } catch (error) {
      stream.destroy();
      // Perhaps the server has a new key: ask again next time, and refuse it there if it is another one (CC-1).
      if (error instanceof Fault && error.code.startsWith("CONTROL_")) await this.#compareKey(error);
      throw error;
    }
  }

  async #compareKey(reason: Fault): Promise<void> {
    if (reason.code !== "CONTROL_WRONG_SERVER" && reason.code !== "CONTROL_HANDSHAKE_REFUSED") return;
    const before = this.#serverKey;
    const now = await this.#fetchKey();
    if (before !== undefined && formatKey("mkey", before) !== formatKey("mkey", now)) throw changed(this.#url);
  }

  async #fetchKey(): Promise<Uint8Array> {
    const url = new URL(`/key?v=${CAPABILITY_VERSION}`, this.#url);
    const { status, body } = await this.askPublic("GET", url);
    const key = status === 200 ? keyIn(body) : undefined;
    if (key === undefined) {
      throw new Fault(
        "CONTROL_NO_KEY",
        `Cannot use the control server "${this.#url.origin}": found status ${status} and no key at /key, wanted its Noise key`,
        { hint: "Check the server's URL; servers that are too old have no such key." },
      );
    }
    const known = this.#options.knownServerKey;
    const text = formatKey("mkey", key);
    if (known !== undefined && known !== text) throw changed(this.#url);
    this.#options.onServerKey?.(text);
    return key;
  }

  #withTimeout<T>(act: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock } = this.#options;
    const late = (): Fault =>
      new Fault(
        "CONTROL_TIMEOUT",
        `Cannot reach "${this.#url.origin}": found no answer in ${DIAL_MS / 1000} s, wanted one`,
      );
    return withDeadline(clock, DIAL_MS, late, (limit) => act(AbortSignal.any([limit, this.#closed.signal])));
  }
}

function parseServerUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "http:" || url?.protocol === "https:") return url;
  throw new Fault("CONTROL_BAD_URL", `Cannot use the control server "${text}": found no URL of http or https`);
}

function keyIn(body: string): Uint8Array | undefined {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value !== "object" || value === null || !("publicKey" in value)) return undefined;
    const key = typeof value.publicKey === "string" ? parseKey("mkey", value.publicKey) : undefined;
    return key?.some((byte) => byte !== 0) ? key : undefined;
  } catch {
    return undefined; // not JSON: the bare legacy key of a server that is too old
  }
}

function changed(url: URL): Fault {
  return new Fault(
    "CONTROL_KEY_CHANGED",
    `Cannot trust the control server "${url.origin}": found another key than the one remembered, wanted the same`,
    { hint: "If the server was set up anew on purpose, forget the remembered key and start again." },
  );
}
