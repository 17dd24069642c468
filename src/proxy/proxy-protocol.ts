import { type AddressPort, parseAddress } from "../base/address.ts";
import type { Proof } from "../base/conn.ts";

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
