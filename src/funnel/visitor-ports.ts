import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";

const HINTS: Readonly<Record<string, string>> = {
  EACCES: "Ports below 1024 want root or the capability CAP_NET_BIND_SERVICE.",
  EADDRINUSE: "Another program has the port: `ss -ltnp` shows which. Or give an address of its own by --address.",
  EADDRNOTAVAIL: "This machine does not have that address.",
};

/** Where visitors come in. Once closed, none of them opens any more. */
export class VisitorPorts {
  readonly #log: Log;
  readonly #servers: Set<Server> = new Set();
  #isClosed = false;

  constructor(log: Log) {
    this.#log = log;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * `welcome` gets each visitor and the port that he came to. `address`: empty = all of this machine.
   * @throws {Fault} INGRESS_LISTEN
   */
  open(port: number, address: string, welcome: (socket: Socket, port: number) => void): Promise<VisitorPort> {
    let own = port;
    const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true }, (socket) =>
      welcome(socket, own),
    );
    return new Promise((resolve, reject) => {
      server.on("error", (error: Error) => {
        // Later ones are connections that could not be taken, for want of files: they wait in the kernel.
        if (this.#servers.has(server)) return this.#log.warn("ingress.accept_failed", { error: error.message });
        const found = `Cannot listen on "${address}:${port}": ${error.message}`;
        const hint = HINTS[(error as NodeJS.ErrnoException).code ?? ""];
        reject(new Fault("INGRESS_LISTEN", found, { cause: error, ...(hint === undefined ? {} : { hint }) }));
      });
      server.listen({ port, ...(address === "" ? {} : { host: address }) }, () => {
        this.#servers.add(server);
        own = (server.address() as AddressInfo).port;
        const opened = { port: own, close: () => this.#shut(server) };
        if (this.#isClosed) opened.close();
        resolve(opened);
      });
    });
  }

  #shut(server: Server): void {
    if (this.#servers.delete(server)) server.close();
  }

  /** Who is here stays. */
  close(): void {
    this.#isClosed = true;
    for (const server of this.#servers) this.#shut(server);
  }
}

export interface VisitorPort {
  readonly port: number;
  /** Who is here stays. */
  readonly close: () => void;
}
