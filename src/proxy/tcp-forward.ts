import type { Duplex } from "node:stream";
import { type AddressPort, parseAddress } from "../base/address.ts";
import type { Conn, Proof } from "../base/conn.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import type { BackendPlace } from "./options.ts";

const WINDOW_BYTES = 256 * 1024;

/** `host:port`, `[v6]:port` or `unix:path` of a TCPForward value. */
export function forwardPlace(value: string): BackendPlace | undefined {
  if (value.startsWith("unix:")) return { path: value.slice(5) };
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  return match === null || port === 0 || port > 65535 ? undefined : { host: (match[1] ?? match[2])!, port };
}

/** Bytes both ways between a connection of the stack and a backend, each direction ending on its own. */
export function relay(conn: Conn, socket: Duplex, preface: Uint8Array | undefined, log: Log): void {
  let owed = 0;
  let isOver = false;
  conn.attach({
    data(view) {
      if (socket.write(Buffer.from(view))) conn.credit(view.length);
      else owed += view.length;
    },
    end: () => void socket.end(),
    drain: () => void socket.resume(),
    abort: () => {
      isOver = true;
      socket.destroy();
    },
  });
  const open = (): void => {
    if (preface !== undefined) socket.write(preface);
    conn.credit(WINDOW_BYTES); // the backend is there: the caller may send
  };
  if ((socket as { connecting?: boolean }).connecting === true) socket.once("connect", open);
  else open();
  socket.on("drain", () => {
    const bytes = owed;
    owed = 0;
    if (bytes > 0) conn.credit(bytes);
  });
  socket.on("data", (chunk: Buffer) => {
    if (!conn.write(chunk)) socket.pause();
  });
  socket.on("end", () => conn.end());
  socket.on("error", (error) => {
    log.warn("proxy.forward_failed", { error: error.message });
  });
  socket.on("close", () => {
    if (isOver || (socket.readableEnded && socket.writableFinished)) return;
    isOver = true;
    conn.abort(new Fault("PROXY_FORWARD_CLOSED", "Cannot forward the connection: the backend closed it"));
  });
}

/** PROXY protocol, version 1 or 2 (haproxy.org proxy-protocol.txt). The destination is our address and the backend's port, as upstream sends it. */
export function proxyHeader(version: number, proof: Proof, backendPort: number): Uint8Array | undefined {
  const source = proof.kind === "ingress" ? proof.visitor : proof.source;
  const from = parseAddress(source.address);
  if (from === undefined) return undefined;
  const to = sameFamily(proof.destination, from.length);
  const toBytes = parseAddress(to)!;
  if (version === 1) {
    const family = from.length === 4 ? "TCP4" : "TCP6";
    return Buffer.from(`PROXY ${family} ${source.address} ${to} ${source.port} ${backendPort}\r\n`);
  }
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(source.port, 0);
  ports.writeUInt16BE(backendPort, 2);
  const length = from.length * 2 + 4;
  const head = Buffer.from([...SIGNATURE, 0x21, from.length === 4 ? 0x11 : 0x21, length >> 8, length & 0xff]);
  return Buffer.concat([head, from, toBytes, ports]);
}

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

function sameFamily(destination: AddressPort, bytes: number): string {
  if (parseAddress(destination.address)?.length === bytes) return destination.address;
  return bytes === 4 ? "127.0.0.1" : "::1";
}
