import { createServer, type ServerResponse } from "node:http";
import { performServerHandshake, type ServerHttp2Stream } from "node:http2";
import { type Duplex, duplexPair } from "node:stream";
import { seededRandom } from "../../base/random.ts";
import { RecordDuplex } from "../../base/record-duplex.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { respondNoise } from "../../crypto/noise.ts";
import {
  controlPrologue,
  decodeInitiation,
  encodeErrorFrame,
  encodeResponse,
  HANDSHAKE_HEADER,
  UPGRADE_PROTOCOL,
} from "../../wire/control.ts";
import { encodeMapFrame } from "../../wire/control-map.ts";
import type { MapRequest, MapResponse, RegisterRequest, RegisterResponse } from "../../wire/tailcfg.ts";
import { noiseRecords } from "./noise-channel.ts";

const UPGRADED = `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${UPGRADE_PROTOCOL}\r\nConnection: upgrade\r\n\r\n`;

/** What the server says to one register call. */
export type RegisterAnswer = RegisterResponse | { readonly status: number; readonly retryAfter?: string };

/** A coordination server that does what a test tells it, in memory. It has no clock: nothing happens by itself. */
export class ScriptedServer {
  readonly registers: RegisterRequest[] = [];
  readonly updates: MapRequest[] = [];
  readonly polls: { readonly request: MapRequest; readonly stream: ServerHttp2Stream }[] = [];
  /** Everything else inside the channel: method, path and body. */
  readonly others: { readonly method: string; readonly path: string; readonly body: string }[] = [];
  /** Requests outside of the channel, `/key` apart. */
  readonly publicRequests: string[] = [];
  /** How often somebody dialled. */
  dials = 0;
  isReachable = true;
  /** Other than 200: what each poll and update gets. */
  mapStatus = 200;
  /** What each of `others` gets. */
  otherStatus = 200;
  answerRegister: (request: RegisterRequest) => RegisterAnswer = () => ({ MachineAuthorized: true });
  #key: Uint8Array = generatePrivateKey(seededRandom(4711));
  readonly #streams: Set<Duplex> = new Set();
  readonly #http = createServer((request, response) => this.#public(request.method, request.url, response));

  constructor() {
    this.#http.on("upgrade", (request, socket) =>
      this.#upgrade(String(request.headers[HANDSHAKE_HEADER.toLowerCase()]), socket),
    );
  }

  get key(): string {
    return formatKey("mkey", publicKeyOf(this.#key));
  }

  /** Set up anew at the same URL. */
  changeKey(seed: number): void {
    this.#key = generatePrivateKey(seededRandom(seed));
  }

  readonly connect = async (): Promise<Duplex> => {
    this.dials++;
    if (!this.isReachable) throw new Error("connect ECONNREFUSED");
    const [theirs, ours] = duplexPair();
    for (const end of [theirs, ours]) end.on("error", () => {});
    this.#streams.add(ours);
    this.#http.emit("connection", ours);
    return theirs;
  };

  /** Sends one message on the newest poll. */
  send(response: MapResponse): void {
    this.polls.at(-1)?.stream.write(encodeMapFrame(response, "none"));
  }

  /** Cuts every connection, as a crash would. */
  cut(): void {
    for (const stream of this.#streams) stream.destroy();
    this.#streams.clear();
  }

  #public(method: string | undefined, url: string | undefined, response: ServerResponse): void {
    if (url?.startsWith("/key?") === true) response.end(JSON.stringify({ publicKey: this.key }));
    else {
      this.publicRequests.push(`${method} ${url}`);
      response.end();
    }
  }

  #upgrade(handshake: string, socket: Duplex): void {
    const frame = decodeInitiation(Buffer.from(handshake, "base64"))!;
    const answer = respondNoise({
      prologue: controlPrologue(frame.version),
      staticKey: this.#key,
      ephemeralKey: generatePrivateKey(seededRandom(this.dials)),
      initiation: frame.payload,
    });
    if (answer === undefined) {
      socket.write(UPGRADED);
      socket.end(encodeErrorFrame("noise handshake failed"));
      return;
    }
    socket.write(UPGRADED);
    socket.write(encodeResponse(answer.response));
    const records = new RecordDuplex(socket, noiseRecords(answer.session));
    records.on("error", () => {});
    const session = performServerHandshake(records);
    session.on("error", () => {});
    session.on("stream", (stream, headers) =>
      this.#request(stream, String(headers[":method"]), String(headers[":path"])),
    );
  }

  #request(stream: ServerHttp2Stream, method: string, path: string): void {
    stream.on("error", () => {});
    let body = "";
    stream.on("data", (chunk) => {
      body += String(chunk);
    });
    stream.on("end", () => {
      if (path === "/machine/register") this.#register(stream, JSON.parse(body) as RegisterRequest);
      else if (path === "/machine/map") this.#map(stream, JSON.parse(body) as MapRequest);
      else {
        this.others.push({ method, path, body });
        stream.respond({ ":status": this.otherStatus });
        stream.end(this.otherStatus === 200 ? "{}" : "not yours");
      }
    });
  }

  #register(stream: ServerHttp2Stream, request: RegisterRequest): void {
    this.registers.push(request);
    const answer = this.answerRegister(request);
    const isStatus = "status" in answer;
    stream.respond({
      ":status": isStatus ? answer.status : 200,
      ...(isStatus && answer.retryAfter !== undefined ? { "retry-after": answer.retryAfter } : {}),
    });
    stream.end(isStatus ? "busy" : JSON.stringify(answer));
  }

  #map(stream: ServerHttp2Stream, request: MapRequest): void {
    if (request.Stream === true) this.polls.push({ request, stream });
    else this.updates.push(request);
    stream.respond({ ":status": this.mapStatus });
    if (this.mapStatus !== 200 || request.Stream !== true) stream.end();
  }
}
