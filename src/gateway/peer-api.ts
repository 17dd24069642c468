import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { parseAddressPort } from "../base/address.ts";
import type { Conn } from "../base/conn.ts";
import { asDuplex } from "../base/duplex.ts";
import type { MeshNode } from "../mesh/node.ts";

const HEAD_BYTES = 16 * 1024;
const HEAD_MS = 10_000;
const MOST_CONNECTIONS = 256;

/**
 * What other nodes may ask of this one over HTTP inside the tunnel (data-plane.md 6.2): for now the greeting, whose HEAD
 * is the `peerapi` ping. A caller that is no peer of the map never gets here: its packets have no tunnel.
 */
export class PeerApi {
  readonly #node: MeshNode;
  readonly #http = createServer({ maxHeaderSize: HEAD_BYTES, headersTimeout: HEAD_MS, requestTimeout: HEAD_MS });
  #open = 0;

  constructor(node: MeshNode) {
    this.#node = node;
    this.#http.on("request", (request, response) => this.#answer(request, response));
  }

  accept(conn: Conn): void {
    const stream = asDuplex(conn);
    stream.on("error", () => stream.destroy());
    if (this.#open >= MOST_CONNECTIONS) {
      stream.destroy();
      return;
    }
    this.#open++;
    stream.once("close", () => {
      this.#open--;
    });
    this.#http.emit("connection", stream);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    // No browser has business here, not even by DNS rebinding (upstream `ipn/ipnlocal/peerapi.go`).
    response.setHeader("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    response.setHeader("X-Frame-Options", "DENY");
    response.setHeader("X-Content-Type-Options", "nosniff");
    if (request.headers.referer !== undefined || request.headers.origin !== undefined || !this.#isOurs(request)) {
      response.writeHead(403).end("forbidden\n");
      return;
    }
    if (request.url !== "/") {
      response.writeHead(404).end("not found\n");
      return;
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.writeHead(405).end("bad method\n");
      return;
    }
    response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" }).end("This is a sallyport node.\n");
  }

  #isOurs({ headers: { host } }: IncomingMessage): boolean {
    if (host === "peer") return true;
    const named = parseAddressPort(host ?? "");
    return named !== undefined && this.#node.addresses.includes(named.address);
  }

  close(): void {
    this.#http.closeAllConnections();
  }
}
