import { connect as connectTcp } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { Fault, messageOf } from "../../base/fault.ts";

/** Opens the byte stream that a URL names: TCP for http, TLS with a verified certificate for https. */
export function openByteStream(url: URL, signal: AbortSignal): Promise<Duplex> {
  const isTls = url.protocol === "https:";
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = url.port === "" ? (isTls ? 443 : 80) : Number(url.port);
  return new Promise((resolve, reject) => {
    const socket = isTls ? connectTls({ host, port, servername: host }) : connectTcp({ host, port });
    const fail = (error: unknown) => {
      socket.destroy();
      reject(
        error instanceof Fault
          ? error
          : new Fault("CONTROL_UNREACHABLE", `Cannot reach "${url.origin}": ${messageOf(error)}, wanted a connection`, {
              cause: error,
            }),
      );
    };
    const abort = () => fail(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    socket.once("error", fail);
    socket.once(isTls ? "secureConnect" : "connect", () => {
      signal.removeEventListener("abort", abort);
      socket.off("error", fail);
      resolve(socket);
    });
  });
}
