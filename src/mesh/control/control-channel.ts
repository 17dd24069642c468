import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import type { Duplex } from "node:stream";
import { concatBytes } from "../../base/bytes.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Random } from "../../base/random.ts";
import { generatePrivateKey } from "../../crypto/keys.ts";
import { NoiseInitiator, type NoiseSession } from "../../crypto/noise.ts";
import {
  controlPrologue,
  decodeHandshakeAnswer,
  encodeInitiation,
  HANDSHAKE_HEADER,
  UPGRADE_PROTOCOL,
} from "../../wire/control.ts";
import { httpUpgrade } from "./http-once.ts";
import { clientChannel } from "./noise-channel.ts";

/** What we keep of an answer that is not a stream: more is cut off, as upstream does. */
const LARGEST_ANSWER = 1024 * 1024;

export interface ChannelOptions {
  /** An open byte stream to the server. */
  readonly stream: Duplex;
  readonly url: URL;
  readonly machineKey: Uint8Array;
  readonly serverKey: Uint8Array;
  readonly version: number;
  readonly random: Random;
  readonly signal: AbortSignal;
}

export interface ChannelRequest {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string | Uint8Array;
  readonly signal: AbortSignal;
}

export interface ChannelAnswer {
  readonly status: number;
  readonly retryAfter: string | undefined;
}

const CANCEL = 0x8; // RFC 9113 section 7

/** One Noise connection with HTTP/2 inside. Never reused after trouble: a new one has new keys. */
export class ControlChannel {
  readonly #session: ClientHttp2Session;
  readonly #authority: string;
  #isClosed = false;

  private constructor(session: ClientHttp2Session, authority: string) {
    this.#session = session;
    this.#authority = authority;
    session.on("error", () => this.close());
    session.on("goaway", () => this.close());
    session.on("close", () => {
      this.#isClosed = true;
    });
  }

  static async open(options: ChannelOptions): Promise<ControlChannel> {
    const { url, random, version, machineKey, serverKey, signal } = options;
    const ephemeralKey = generatePrivateKey(random);
    const started = NoiseInitiator.start({
      prologue: controlPrologue(version),
      staticKey: machineKey,
      ephemeralKey,
      responderKey: serverKey,
    });
    if (started === undefined) {
      throw new Fault("CONTROL_BAD_KEY", "Cannot open the control channel: found a server key of low order");
    }
    const { stream, head } = await httpUpgrade(options.stream, {
      method: "POST",
      url: new URL("/ts2021", url),
      protocol: UPGRADE_PROTOCOL,
      headers: { [HANDSHAKE_HEADER]: Buffer.from(encodeInitiation(version, started.initiation)).toString("base64") },
      signal,
      largestBody: 0,
    });
    try {
      const { session, rest } = await finishHandshake(stream, head, started.initiator, signal);
      const records = clientChannel(stream, session, rest);
      records.on("error", () => {}); // reported by the session, which ends with it
      const http2 = connect(`https://${url.host}`, {
        createConnection: () => records,
        settings: { enablePush: false, initialWindowSize: 1024 * 1024 },
      });
      return new ControlChannel(http2, url.host);
    } catch (error) {
      stream.destroy();
      throw error;
    }
  }

  get isOpen(): boolean {
    return !this.#isClosed && !this.#session.closed && !this.#session.destroyed;
  }

  /**
   * Gives every part of the answer's body to `take`, with the status; settles at its end. The listeners stand before
   * the answer comes: Node lets go of a body that nobody reads at once. What `take` throws ends the request.
   */
  request(request: ChannelRequest, take: (part: Buffer, status: number) => void): Promise<ChannelAnswer> {
    const { method, path, headers, body, signal } = request;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      let stream: ClientHttp2Stream | undefined;
      const abort = () => stream?.close(CANCEL);
      const fail = (error: unknown) => {
        if (signal.aborted) return reject(signal.reason);
        if (error instanceof Fault) return reject(error);
        reject(
          new Fault("CONTROL_BROKEN", `Cannot ask "${path}": ${messageOf(error)}, wanted an answer`, { cause: error }),
        );
      };
      try {
        stream = this.#session.request(
          {
            ...headers,
            ":method": method,
            ":path": path,
            ":scheme": "https",
            ":authority": this.#authority,
            ...(body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) }),
          },
          { endStream: body === undefined },
        );
      } catch (error) {
        return fail(error);
      }
      const open = stream;
      let answer: ChannelAnswer | undefined;
      signal.addEventListener("abort", abort, { once: true });
      const deliver = (part: Buffer, status: number) => {
        try {
          take(part, status);
        } catch (error) {
          fail(error);
          abort();
        }
      };
      // Node hands out data before it tells of the headers when both came in one read: such parts wait for them.
      const early: Buffer[] = [];
      open.on("response", (fields) => {
        answer = { status: fields[":status"] ?? 0, retryAfter: fields["retry-after"] };
        for (const part of early.splice(0)) deliver(part, answer.status);
      });
      open.on("data", (part: Buffer) => {
        if (answer === undefined) early.push(part);
        else deliver(part, answer.status);
      });
      open.on("end", () => {
        if (answer !== undefined && !signal.aborted && open.rstCode === 0) resolve(answer);
      });
      open.on("error", fail);
      open.on("close", () => {
        signal.removeEventListener("abort", abort);
        fail(new Error("found the answer cut"));
      });
      if (body !== undefined) open.end(body);
    });
  }

  /** A request whose answer is read whole. */
  async ask(request: ChannelRequest): Promise<ChannelAnswer & { readonly body: string }> {
    const parts: Buffer[] = [];
    let length = 0;
    const answer = await this.request(request, (part) => {
      if (length < LARGEST_ANSWER) parts.push(part);
      length += part.length;
    });
    return { ...answer, body: Buffer.concat(parts).subarray(0, LARGEST_ANSWER).toString("utf8") };
  }

  close(): void {
    this.#isClosed = true;
    this.#session.destroy();
  }
}

/** Reads the server's Noise answer, which may come in any pieces or together with what follows it. */
function finishHandshake(
  stream: Duplex,
  head: Uint8Array,
  initiator: NoiseInitiator,
  signal: AbortSignal,
): Promise<{ session: NoiseSession; rest: Uint8Array }> {
  return new Promise((resolve, reject) => {
    let held: Uint8Array = head;
    const settle = (act: () => void) => {
      stream.pause();
      stream.off("data", receive);
      stream.off("error", fail);
      stream.off("close", closed);
      signal.removeEventListener("abort", aborted);
      act();
    };
    const fail = (error: unknown) => settle(() => reject(error));
    const closed = () => fail(new Fault("CONTROL_BROKEN", "Cannot open the control channel: found the stream closed"));
    const aborted = () => fail(signal.reason);
    const attempt = () => {
      try {
        const answer = decodeHandshakeAnswer(held);
        if (answer === undefined) return;
        const session = initiator.finish(answer.payload);
        if (session !== undefined) return settle(() => resolve({ session, rest: answer.rest }));
        fail(
          new Fault(
            "CONTROL_WRONG_SERVER",
            "Cannot open the control channel: found an answer made with another key, wanted the key of /key",
            { hint: "The server's key may have changed; restart to fetch it again." },
          ),
        );
      } catch (error) {
        fail(error);
      }
    };
    const receive = (chunk: Buffer) => {
      held = concatBytes(held, chunk);
      attempt();
    };
    if (signal.aborted) return reject(signal.reason);
    signal.addEventListener("abort", aborted, { once: true });
    stream.on("data", receive);
    stream.on("error", fail);
    stream.on("close", closed);
    attempt();
  });
}
