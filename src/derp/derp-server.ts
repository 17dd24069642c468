import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { toHex } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { publicKeyOf } from "../crypto/keys.ts";
import { DERP, DERP_GONE, DERP_VERSION, encodeDerpFrame } from "../wire/derp.ts";
import { looksLikeDisco } from "../wire/disco.ts";
import { DerpSession } from "./derp-session.ts";

export interface DerpServerOptions {
  readonly privateKey: Uint8Array;
  readonly random: Random;
  readonly clock: Clock;
  readonly log: Log;
  /** Who may use the relay, by node key in hex. Anything but true, also a failure, refuses (DD-10). */
  readonly admit: (nodeKeyHex: string) => boolean | Promise<boolean>;
  /** Bytes that one client may send a second; over it, its reads are delayed. Absent = unlimited. */
  readonly bytesPerSecond?: number;
  readonly mostClients?: number;
  /** New connections a minute from one address. */
  readonly acceptsPerMinute?: number;
}

/** How an HTTP server looks from here: `node:http` and `node:https` alike. */
export interface HttpServerLike {
  listenerCount(event: string): number;
  on(event: "request", listener: (request: IncomingMessage, response: ServerResponse) => void): unknown;
  on(event: "upgrade", listener: (request: IncomingMessage, stream: Duplex, head: Buffer) => void): unknown;
}

const MOST_CLIENTS = 65_536;
const ACCEPTS_PER_MINUTE = 600;
const MOST_ADDRESSES = 16_384;
const CHALLENGE = /^[A-Za-z0-9._:-]{1,64}$/;

/** Relays opaque packets between node keys. Upstream `derp/derpserver`, one node per region, no mesh of servers. */
export class DerpServer {
  readonly publicKey: Uint8Array;
  readonly #options: DerpServerOptions;
  /** All connections of a key; the last is the one that packets go to. */
  readonly #sessions: Map<string, DerpSession[]> = new Map();
  readonly #all: Set<DerpSession> = new Set();
  readonly #accepts: Map<string, { count: number; since: number }> = new Map();
  #accepted = 0;
  #isClosed = false;

  constructor(options: DerpServerOptions) {
    this.#options = options;
    this.publicKey = publicKeyOf(options.privateKey);
  }

  /** Distinct node keys that are connected. */
  get clients(): number {
    return this.#sessions.size;
  }

  /** Serves the upgrade and the small HTTP surface on `server`. Other requests are left to other listeners. */
  attach(server: HttpServerLike, path: string = "/derp"): void {
    server.on("upgrade", (request, stream, head) => {
      if (pathOf(request) === path) this.upgrade(request, stream, head);
      else if (server.listenerCount("upgrade") === 1) stream.destroy(); // or it would wait for ever
    });
    server.on("request", (request, response) => {
      if (!this.answer(request, response, path) && server.listenerCount("request") === 1) {
        response.writeHead(404, { connection: "close" }).end("not found\n");
      }
    });
  }

  /** False when the request is not for us. */
  answer(request: IncomingMessage, response: ServerResponse, path: string = "/derp"): boolean {
    const asked = pathOf(request);
    if (asked === path) {
      response.writeHead(426, { upgrade: "derp", connection: "close" }).end("DERP requires connection upgrade\n");
      return true;
    }
    if (asked === `${path}/probe` || asked === `${path}/latency-check`) {
      const isRead = request.method === "GET" || request.method === "HEAD";
      response.writeHead(isRead ? 200 : 405, { "access-control-allow-origin": "*", "content-length": "0" }).end();
      return true;
    }
    if (asked !== "/generate_204") return false;
    const challenge = request.headers["x-tailscale-challenge"];
    const isFit = typeof challenge === "string" && CHALLENGE.test(challenge);
    response
      .writeHead(204, {
        "cache-control": "no-cache, no-store, must-revalidate, no-transform, max-age=0",
        ...(isFit ? { "x-tailscale-response": `response ${challenge}` } : {}),
      })
      .end();
    return true;
  }

  upgrade(request: IncomingMessage, stream: Duplex, head: Uint8Array = new Uint8Array(0)): void {
    stream.on("error", () => stream.destroy());
    if ((request.headers.upgrade ?? "").toLowerCase() !== "derp") {
      refuse(stream, "426 Upgrade Required", "Upgrade: derp\r\n");
      return;
    }
    const address = request.socket.remoteAddress ?? "";
    if (!this.#mayAccept(address)) {
      refuse(stream, "429 Too Many Requests", "Retry-After: 60\r\n");
      return;
    }
    if (this.#all.size >= (this.#options.mostClients ?? MOST_CLIENTS)) {
      refuse(stream, "503 Service Unavailable", "Retry-After: 60\r\n");
      return;
    }
    const isFastStart = request.headers["derp-fast-start"] === "1";
    this.#options.log.debug("derp.upgraded", { address, isFastStart });
    if (!isFastStart) {
      // A fast-start client knows our key from the TLS handshake and reads frames at once: no HTTP for it.
      stream.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n" +
          `Derp-Version: ${DERP_VERSION}\r\nDerp-Public-Key: ${toHex(this.publicKey)}\r\n\r\n`,
      );
    }
    this.accept(stream, head, address);
  }

  /** A connection after the HTTP upgrade; `head` is what came together with the request. */
  accept(stream: Duplex, head: Uint8Array = new Uint8Array(0), address: string = ""): void {
    if (this.#isClosed || this.#all.size >= (this.#options.mostClients ?? MOST_CLIENTS)) {
      stream.destroy();
      return;
    }
    const { privateKey, random, clock, bytesPerSecond } = this.#options;
    const session: DerpSession = new DerpSession({
      number: ++this.#accepted,
      stream,
      privateKey,
      publicKey: this.publicKey,
      random,
      clock,
      bytesPerSecond,
      admit: (key) => this.#admit(key),
      onReady: () => this.#joined(session),
      onPacket: (destination, payload) => this.#relay(session, destination, payload),
      onClose: (reason) => this.#left(session, reason, address),
    });
    this.#all.add(session);
    session.start(head);
  }

  /** Every client has to come again, and to be admitted again: who may use the relay has changed. */
  disconnectAll(): void {
    for (const session of [...this.#all]) session.close("to be admitted again");
  }

  /** Ends the connections of one node key (hex) that is no longer admitted. */
  disconnect(nodeKeyHex: string): void {
    for (const session of [...(this.#sessions.get(nodeKeyHex) ?? [])]) session.close("no longer admitted");
  }

  close(): void {
    this.#isClosed = true;
    for (const session of [...this.#all]) session.close("server closes");
  }

  async #admit(nodeKeyHex: string): Promise<boolean> {
    try {
      return (await this.#options.admit(nodeKeyHex)) === true;
    } catch (thrown) {
      this.#options.log.warn("derp.admission_failed", { error: messageOf(thrown) });
      return false;
    }
  }

  #mayAccept(address: string): boolean {
    const now = this.#options.clock.now();
    const known = this.#accepts.get(address);
    if (known === undefined || now - known.since >= 60_000) {
      this.#accepts.delete(address);
      if (this.#accepts.size >= MOST_ADDRESSES) {
        for (const oldest of this.#accepts.keys()) {
          this.#accepts.delete(oldest);
          break;
        }
      }
      this.#accepts.set(address, { count: 1, since: now });
      return true;
    }
    return ++known.count <= (this.#options.acceptsPerMinute ?? ACCEPTS_PER_MINUTE);
  }

  #joined(session: DerpSession): void {
    const sharing = this.#sessions.get(session.key) ?? [];
    sharing.push(session);
    this.#sessions.set(session.key, sharing);
    this.#options.log.debug("derp.client_connected", { key: session.key.slice(0, 8), connections: sharing.length });
    if (sharing.length > 1) {
      for (const one of sharing) one.send(health("another connection uses the same node key"), true);
    }
  }

  #left(session: DerpSession, reason: string, address: string): void {
    this.#all.delete(session);
    const sharing = (this.#sessions.get(session.key) ?? []).filter((one) => one !== session);
    this.#options.log.debug("derp.client_left", { key: session.key.slice(0, 8), reason, address });
    if (sharing.length > 0) {
      this.#sessions.set(session.key, sharing);
      if (sharing.length === 1) sharing[0]!.send(health(""), true);
      return;
    }
    if (!this.#sessions.delete(session.key)) return; // never got as far as being known
    const gone = peerGone(session.publicKey, DERP_GONE.disconnected);
    for (const [key, number] of session.reached) {
      const target = this.#active(key);
      if (target?.number === number) target.send(gone, true);
    }
  }

  #active(key: string): DerpSession | undefined {
    return this.#sessions.get(key)?.at(-1);
  }

  /** The source is always the key that the sender proved to hold. */
  #relay(source: DerpSession, destination: Uint8Array, payload: Uint8Array): void {
    const sharing = this.#sessions.get(source.key)!;
    if (sharing.length > 1 && sharing.at(-1) !== source) {
      sharing.splice(sharing.indexOf(source), 1); // of several connections with one key the last writer is active
      sharing.push(source);
    }
    const key = toHex(destination);
    const isDisco = looksLikeDisco(payload, 0, payload.length);
    const target = this.#active(key);
    if (target !== undefined) {
      source.hasReached(key, target.number);
      target.send(encodeDerpFrame(DERP.receivePacket, source.publicKey, payload), isDisco);
    } else if (isDisco && source.mayHearOfAbsence()) {
      source.send(peerGone(destination, DERP_GONE.notHere), true);
    }
  }
}

function peerGone(key: Uint8Array, reason: number): Uint8Array {
  return encodeDerpFrame(DERP.peerGone, key, Uint8Array.of(reason));
}

function health(text: string): Uint8Array {
  return encodeDerpFrame(DERP.health, new TextEncoder().encode(text));
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "").split("?")[0] ?? "";
}

function refuse(stream: Duplex, status: string, headers: string): void {
  stream.end(`HTTP/1.1 ${status}\r\n${headers}Connection: close\r\nContent-Length: 0\r\n\r\n`);
}
