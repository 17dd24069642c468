import { createServer, type Server as HttpServer } from "node:http";
import net, { type Server } from "node:net";
import { withoutBrackets } from "../../base/address.ts";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { CertificatesConfig } from "../../config/certificates.ts";
import { DEFAULT_LIMITS } from "../../proxy/options.ts";
import { TlsFront } from "../../proxy/tls/tls-front.ts";
import type { Solvers } from "./certificate-solvers.ts";

const MOST_CONNECTIONS = 256;
const REQUEST_MS = 10_000;
const LARGEST_HEAD_BYTES = 8 * 1024;

/**
 * Ports of this machine, outside of the mesh, where a CA finds its proof and nobody finds anything else.
 * @throws {Fault} CERT_LISTEN
 */
export async function openChallengeListeners(
  { challenges = [] }: CertificatesConfig,
  { solvers, clock, log }: { readonly solvers: Solvers; readonly clock: Clock; readonly log: Log },
): Promise<() => Promise<void>> {
  const stack = new AsyncDisposableStack();
  try {
    for (const one of challenges) {
      if ((one.type !== "http-01" && one.type !== "tls-alpn-01") || one.listen === undefined) continue;
      const server = one.type === "http-01" ? httpServer(solvers) : tlsServer(solvers, clock, log);
      server.maxConnections = MOST_CONNECTIONS;
      await listen(server, one.listen);
      log.info("certificates.listening", { for: one.type, listen: one.listen });
      stack.defer(() => closed(server));
    }
    return () => stack.disposeAsync();
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

function httpServer(solvers: Solvers): HttpServer {
  const limits = { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS, maxHeaderSize: LARGEST_HEAD_BYTES };
  return createServer({ ...limits, keepAliveTimeout: 1 }, (request, response) => {
    request.resume();
    const answer = request.method === "GET" && solvers.challengeAnswer(request.headers.host ?? "", request.url ?? "");
    response.writeHead(typeof answer === "string" ? 200 : 404, { "Content-Type": "text/plain", Connection: "close" });
    response.end(typeof answer === "string" ? answer : "404 page not found\n");
  });
}

function tlsServer(solvers: Solvers, clock: Clock, log: Log): Server {
  const nothing = new Fault("CERT_NAME_UNKNOWN", "Cannot present a certificate: this port is for challenges");
  const options = { clock, log, secureContext: () => nothing };
  const challengeContext = solvers.challengeContext.bind(solvers);
  const front = new TlsFront({ ...options, challengeContext }, DEFAULT_LIMITS);
  return net.createServer((socket) => {
    socket.on("error", () => socket.destroy());
    const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket;
    const source = { address: remoteAddress, port: remotePort };
    const destination = { address: localAddress, port: localPort };
    front.accept(
      socket,
      { kind: "public", source, destination },
      { known: () => undefined, protocols: [], accept: (secure) => void secure.destroy() },
    );
  });
}

async function listen(server: Server, place: string): Promise<void> {
  const colon = place.lastIndexOf(":");
  const host = withoutBrackets(place.slice(0, colon));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ port: Number(place.slice(colon + 1)), ...(host === "" ? {} : { host }) }, resolve);
  try {
    await promise;
  } catch (cause) {
    throw new Fault("CERT_LISTEN", `Cannot listen on "${place}" for challenges: ${messageOf(cause)}`, { cause });
  } finally {
    server.off("error", reject);
  }
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
