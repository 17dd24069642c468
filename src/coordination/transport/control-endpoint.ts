import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { performServerHandshake, type ServerHttp2Session } from "node:http2";
import type { Duplex } from "node:stream";
import { concatBytes } from "../../base/bytes.ts";
import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { RecordDuplex } from "../../base/record-duplex.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { respondNoise } from "../../crypto/noise.ts";
import { noiseRecords } from "../../mesh/control/noise-channel.ts";
import {
  controlPrologue,
  decodeInitiation,
  encodeEarlyPayload,
  encodeErrorFrame,
  encodeResponse,
  HANDSHAKE_HEADER,
  UPGRADE_PROTOCOL,
} from "../../wire/control.ts";
import type { ControlHandler } from "../control-handler.ts";
import { serveMachine } from "./machine-session.ts";
import type { MapTraffic } from "./map-stream.ts";
import { acceptWebSocket } from "./websocket-duplex.ts";

export interface ControlEndpointOptions {
  /** The server's Noise key. */
  readonly privateKey: Uint8Array;
  readonly handler: ControlHandler;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  /** Channels at once; further ones are refused with 503. */
  readonly largestChannels?: number;
}

const EARLY_FROM_VERSION = 49;

/** The server's end of ts2021: `GET /key` and the upgrade at `/ts2021`, then the requests inside the channel. */
export class ControlEndpoint {
  readonly traffic: Readonly<MapTraffic>;
  readonly #options: ControlEndpointOptions;
  readonly #traffic: MapTraffic = { messages: 0, bytes: 0 };
  readonly #publicKey: string;
  readonly #largest: number;
  readonly #sessions: Set<ServerHttp2Session> = new Set();
  readonly #detach: (() => void)[] = [];
  #isClosed = false;

  constructor(options: ControlEndpointOptions) {
    this.#options = options;
    this.traffic = this.#traffic;
    this.#publicKey = formatKey("mkey", publicKeyOf(options.privateKey));
    this.#largest = options.largestChannels ?? 20_000;
  }

  /** Machines that are connected. */
  get channels(): number {
    return this.#sessions.size;
  }

  /** Takes `/key` and `/ts2021`; the request listeners already there get everything else, unless there is none: 404. */
  attach(server: Server): void {
    const others = server.listeners("request");
    server.removeAllListeners("request");
    const onRequest = (request: IncomingMessage, response: ServerResponse) => {
      if (this.answer(request, response)) return;
      for (const other of others) Reflect.apply(other, server, [request, response]);
      if (others.length === 0) refuse(response, 404, "not found");
    };
    const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      if (this.upgrade(request, socket, head) || server.listenerCount("upgrade") > 1) return;
      socket.on("error", () => socket.destroy());
      refuseUpgrade(socket, 400, "nothing here to upgrade to");
    };
    server.on("request", onRequest);
    server.on("upgrade", onUpgrade);
    this.#detach.push(() => {
      server.off("request", onRequest);
      server.off("upgrade", onUpgrade);
      for (const other of others) server.on("request", (...args) => void Reflect.apply(other, server, args));
    });
  }

  /** Answers a plain request if it is ours; `false` = not ours, nothing done. */
  answer(request: IncomingMessage, response: ServerResponse): boolean {
    const url = URL.parse(request.url ?? "/", "http://unused"); // null for `//`, which anybody may ask for
    if (url === null) return false;
    if (url.pathname === "/ts2021") {
      const text = request.httpVersionMajor === 1 ? "missing next protocol" : "make request over HTTP/1";
      refuse(response, 400, text);
      return true;
    }
    if (url.pathname !== "/key") return false;
    if (request.method !== "GET" && request.method !== "HEAD") refuse(response, 405, "bad method");
    else if (!/^\d{1,9}$/.test(url.searchParams.get("v") ?? ""))
      refuse(response, 400, "version query parameter missing");
    else {
      const body = { legacyPublicKey: formatKey("mkey", new Uint8Array(32)), publicKey: this.#publicKey };
      response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(body));
    }
    return true;
  }

  /** Takes an upgrade if it is ours; `false` = not ours, nothing done. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const url = URL.parse(request.url ?? "/", "http://unused");
    if (url?.pathname !== "/ts2021") return false;
    socket.on("error", () => socket.destroy());
    const protocol = request.headers.upgrade?.toLowerCase();
    const isWebSocket = protocol === "websocket" && request.method === "GET";
    if (this.#isClosed || this.#sessions.size >= this.#largest) return refuseUpgrade(socket, 503, "too many channels");
    if (!isWebSocket && (protocol !== UPGRADE_PROTOCOL || request.method !== "POST")) {
      return refuseUpgrade(socket, 400, "unknown next protocol");
    }
    const text = isWebSocket
      ? (url.searchParams.get(HANDSHAKE_HEADER) ?? undefined)
      : request.headers[HANDSHAKE_HEADER.toLowerCase()];
    if (typeof text !== "string" || text === "") {
      return refuseUpgrade(socket, 400, "missing Tailscale handshake header");
    }
    if (text.length > 1024 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) {
      return refuseUpgrade(socket, 400, "invalid tailscale handshake header");
    }
    const initiation = Buffer.from(text, "base64");
    if (isWebSocket) {
      const stream = acceptWebSocket(request, socket, head, UPGRADE_PROTOCOL);
      if (stream === undefined) return refuseUpgrade(socket, 400, "unknown next protocol");
      this.#open(stream, initiation, new Uint8Array(0), false);
      return true;
    }
    socket.cork(); // the 101, the Noise answer and the early payload leave together
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${UPGRADE_PROTOCOL}\r\nConnection: upgrade\r\n\r\n`);
    this.#open(socket, initiation, Uint8Array.from(head), true);
    socket.uncork();
    return true;
  }

  #open(stream: Duplex, initiation: Uint8Array, head: Uint8Array, hasEarlyPayload: boolean): void {
    const { privateKey, random, handler, log, clock } = this.#options;
    const frame = decodeInitiation(initiation);
    const answer =
      frame &&
      respondNoise({
        prologue: controlPrologue(frame.version),
        staticKey: privateKey,
        ephemeralKey: generatePrivateKey(random),
        initiation: frame.payload,
      });
    if (frame === undefined || answer === undefined) {
      stream.end(encodeErrorFrame("noise handshake failed"), () => stream.destroy());
      return;
    }
    const codec = noiseRecords(answer.session);
    const early =
      hasEarlyPayload && frame.version >= EARLY_FROM_VERSION
        ? codec.seal(
            encodeEarlyPayload({ nodeKeyChallenge: formatKey("chalpub", publicKeyOf(generatePrivateKey(random))) }),
          )
        : new Uint8Array(0);
    stream.write(concatBytes(encodeResponse(answer.response), early));
    const records = new RecordDuplex(stream, codec, head);
    records.on("error", (error) => log.debug("control.channel.broken", { error: messageOf(error) }));
    const session = performServerHandshake(records, {
      maxSessionMemory: 32,
      maxHeaderListPairs: 64,
      settings: { maxConcurrentStreams: 64, initialWindowSize: 256 * 1024, maxHeaderListSize: 16 * 1024 },
    });
    this.#sessions.add(session);
    session.on("error", (error) => {
      log.debug("control.session.broken", { error: messageOf(error) });
      records.destroy();
    });
    session.on("close", () => {
      this.#sessions.delete(session);
      records.destroy();
    });
    const machineKey = formatKey("mkey", answer.session.peerKey);
    serveMachine(session, { machineKey, handler, log, clock, traffic: this.#traffic });
  }

  /** Ends every channel: streams of maps do not end by themselves. */
  close(): void {
    this.#isClosed = true;
    for (const detach of this.#detach.splice(0)) detach();
    for (const session of this.#sessions) session.destroy();
    this.#sessions.clear();
  }
}

function refuse(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8" }).end(`${text}\n`);
}

function refuseUpgrade(socket: Duplex, status: number, text: string): true {
  const head = `HTTP/1.1 ${status} ${status === 400 ? "Bad Request" : "Service Unavailable"}`;
  const fields = `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${text.length + 1}\r\nConnection: close`;
  socket.end(`${head}\r\n${fields}\r\n\r\n${text}\n`, () => socket.destroy());
  return true;
}
