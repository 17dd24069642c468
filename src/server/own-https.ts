import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import net, { type Server, type Socket } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Clock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { mindSlowRequests } from "../base/slow-requests.ts";
import { DEFAULT_LIMITS } from "../proxy/options.ts";
import { TlsFront } from "../proxy/tls/tls-front.ts";
import { plainName } from "../wire/host-name.ts";

const MOST_CONNECTIONS = 20_000;
/** Strangers come in here: who says nothing after TLS holds a descriptor for twenty seconds. */
const PATIENCE = { headersTimeout: 15_000, requestTimeout: 30_000, connectionsCheckingInterval: 5000 } as const;

export interface OwnHttpsOptions {
  /** Where to listen; absent = only where an ingress shares its ports. */
  readonly listen?: { readonly address: string; readonly port: number };
  /** Of the server's own name. */
  readonly secureContext: () => SecureContext | Fault | Promise<SecureContext | Fault>;
  /** While a CA is expected to ask (RFC 8737). */
  readonly challengeContext: (name: string) => SecureContext | undefined;
}

interface Surroundings {
  /** The server's own name, in lower case. */
  readonly name: string;
  /** Puts coordination, sign-in and DERP on a server. */
  readonly attach: (server: HttpServer) => void;
  readonly clock: Clock;
  readonly log: Log;
}

/** Coordination, sign-in and DERP over HTTPS, under the server's own name and no other. */
export interface OwnHttps {
  /** 0 where it does not listen itself. */
  readonly port: number;
  accept(socket: Socket): void;
  close(): Promise<void>;
}

/** With one certificate for good, behind an ingress. */
export function givenHttps(certificate: { readonly key: string; readonly cert: string }): OwnHttpsOptions {
  const context = createSecureContext(certificate);
  return { secureContext: () => context, challengeContext: () => undefined };
}

/** @throws {Fault} SERVER_LISTEN */
export async function openOwnHttps(options: OwnHttpsOptions, around: Surroundings): Promise<OwnHttps> {
  const { name, clock, log } = around;
  const { listen, secureContext, challengeContext } = options;
  const http = createHttpServer(PATIENCE);
  around.attach(http);
  mindSlowRequests(http);
  const front = new TlsFront({ clock, log, secureContext, challengeContext }, DEFAULT_LIMITS);
  const open = new Set<Socket>();
  const accept = (socket: Socket): void => {
    socket.on("error", () => socket.destroy());
    if (open.size >= MOST_CONNECTIONS) return void socket.destroy();
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    front.accept(socket, proofOf(socket), {
      known: (asked) => (plainName(asked) === name ? name : undefined),
      protocols: ["http/1.1"], // ts2021 and DERP leave HTTP by an upgrade
      accept: (secure) => void http.emit("connection", secure),
    });
    socket.resume(); // an ingress that has read the hello hands it over paused
  };
  const server = listen === undefined ? undefined : await listening(net.createServer(accept), listen);
  return {
    port: server === undefined ? 0 : (server.address() as net.AddressInfo).port,
    accept,
    close: () =>
      new Promise((resolve) => {
        if (server === undefined) resolve();
        else server.close(() => resolve());
        for (const socket of open) socket.destroySoon();
      }),
  };
}

function proofOf(socket: Socket) {
  const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = socket;
  const source = { address: remoteAddress, port: remotePort };
  return { kind: "public", source, destination: { address: localAddress, port: localPort } } as const;
}

async function listening(server: Server, { address, port }: { address: string; port: number }): Promise<Server> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", (cause) =>
    reject(new Fault("SERVER_LISTEN", `Cannot listen on "${address}:${port}": ${cause.message}`, { cause })),
  );
  server.listen(port, address, resolve);
  await promise;
  return server;
}
