import type { Conn } from "../../base/conn.ts";
import { Fault } from "../../base/fault.ts";
import type { TcpConnection } from "./connection.ts";

/** Who waits for a connection of ours to open. */
export interface Dial {
  readonly resolve: (conn: Conn) => void;
  readonly reject: (fault: Fault) => void;
}

/** Resolves when `connection` is open. `signal` gives it up; `remote` is for the fault. */
export function waitForOpen(connection: TcpConnection, remote: string, signal: AbortSignal | undefined): Promise<Conn> {
  const { promise, resolve, reject } = Promise.withResolvers<Conn>();
  const giveUp = (): void =>
    connection.cut(new Fault("TCPIP_ABORTED", `Cannot connect to "${remote}": given up by the caller`));
  signal?.addEventListener("abort", giveUp, { once: true });
  const done = (): void => signal?.removeEventListener("abort", giveUp);
  connection.dial = {
    resolve: (conn) => {
      done();
      resolve(conn);
    },
    reject: (fault) => {
      done();
      reject(fault);
    },
  };
  return promise;
}

/** False: nobody waits for it; it was not dialed. */
export function tellOpened(connection: TcpConnection): boolean {
  const dial = take(connection);
  dial?.resolve(connection);
  return dial !== undefined;
}

/** It is gone, and perhaps never opened. */
export function tellGone(connection: TcpConnection, fault: Fault | undefined): void {
  take(connection)?.reject(fault ?? new Fault("TCPIP_RESET", "Cannot connect: the connection ended while opening"));
}

function take(connection: TcpConnection): Dial | undefined {
  const { dial } = connection;
  connection.dial = undefined;
  return dial;
}
