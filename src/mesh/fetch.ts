import { connect as tlsConnect } from "node:tls";
import { Agent, type RequestInit, type Response, fetch as undiciFetch } from "undici";
import { type AddressPort, withoutBrackets } from "../base/address.ts";
import type { Conn, DialOptions } from "../base/conn.ts";
import { asDuplex } from "../base/duplex.ts";

export type MeshFetch = (url: string | URL, init?: RequestInit) => Promise<Response>;

export interface MeshFetchOptions {
  readonly dial: (target: AddressPort, options?: DialOptions) => Promise<Conn>;
  /** PEM certificates to trust beside nothing else, or who knows them at the time; absent = the system's. */
  readonly ca?: string | readonly string[] | (() => readonly string[]);
}

/** A `fetch` whose connections go over the mesh. `close` ends the kept ones. */
export function meshFetch({ dial, ca }: MeshFetchOptions): { fetch: MeshFetch; close(): Promise<void> } {
  const agent = new Agent({
    connect({ hostname, port, protocol, servername }, callback) {
      const isTls = protocol === "https:";
      const host = withoutBrackets(hostname);
      dial({ address: host, port: Number(port) || (isTls ? 443 : 80) }).then(
        (conn) => {
          const stream = asDuplex(conn);
          if (!isTls) return callback(null, stream as never);
          const secure = tlsConnect({
            socket: stream,
            servername: servername || host,
            ALPNProtocols: ["http/1.1"],
            ...(ca === undefined ? {} : { ca: (typeof ca === "function" ? ca() : ca) as string | string[] }),
          });
          secure.once("secureConnect", () => callback(null, secure));
          secure.once("error", (error) => callback(error, null));
        },
        (error: Error) => callback(error, null),
      );
    },
  });
  return {
    fetch: (url, init) => undiciFetch(url, { ...init, dispatcher: agent }),
    close: () => agent.destroy(),
  };
}
