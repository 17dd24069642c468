import { type AddressPort, parseAddress } from "../base/address.ts";
import type { Proof } from "../base/conn.ts";

/**
 * PROXY protocol, version 1 or 2 (haproxy.org proxy-protocol.txt). The destination is our address and the backend's port, as
 * upstream sends it. A visitor's address is what the ingress says it is; version 2 says so, version 1 has no room for it.
 */
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
  const mark = proof.kind === "ingress" ? FUNNEL_MARK : NO_MARK;
  const length = from.length * 2 + 4 + mark.length;
  const head = Buffer.from([...SIGNATURE, 0x21, from.length === 4 ? 0x11 : 0x21, length >> 8, length & 0xff]);
  return Buffer.concat([head, from, toBytes, ports, mark]);
}

/** Of the types that are free for applications, 0xE0 to 0xEF (section 2.2.7): "this is a Funnel visitor". */
const FUNNEL_TYPE = 0xe0;
const FUNNEL_VALUE = Buffer.from("funnel");
const FUNNEL_MARK = Buffer.concat([Buffer.from([FUNNEL_TYPE, 0, FUNNEL_VALUE.length]), FUNNEL_VALUE]);
const NO_MARK = Buffer.alloc(0);

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

function sameFamily(destination: AddressPort, bytes: number): string {
  if (parseAddress(destination.address)?.length === bytes) return destination.address;
  return bytes === 4 ? "127.0.0.1" : "::1";
}
