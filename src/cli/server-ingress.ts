import { readFile } from "node:fs/promises";
import { parseAddress } from "../base/address.ts";
import type { ServerOptions } from "../server/server.ts";
import { listenersOf } from "./ingress.ts";
import { CliExit } from "./io.ts";
import type { ServerValues } from "./server-flags.ts";

type IngressOptions = Pick<ServerOptions, "relay" | "funnelPorts" | "relayAddresses">;

/** What the server's flags say of Funnel. */
export async function ingressOf(values: ServerValues): Promise<IngressOptions> {
  const { "ingress-ports": ports, "ingress-addresses": addresses, "ingress-address": address } = values;
  const { "ingress-http-port": plain = "80", "tls-cert": cert, "tls-key": key } = values;
  const known = addresses?.split(",") ?? [];
  const bad = known.find((text) => parseAddress(text) === undefined);
  if (bad !== undefined) throw new CliExit(`Cannot use --ingress-addresses "${bad}": wanted IP addresses`, 2);
  const relayAddresses = addresses === undefined ? {} : { relayAddresses: known };
  if (ports === undefined) {
    if (address === undefined && cert === undefined && key === undefined) return relayAddresses;
    throw new CliExit("Cannot use --ingress-address, --tls-cert or --tls-key alone: wanted --ingress-ports A,B", 2);
  }
  if ((cert === undefined) !== (key === undefined))
    throw new CliExit("Cannot use one of --tls-cert, --tls-key alone", 2);
  const listeners = listenersOf(address ?? values.address ?? "127.0.0.1", ports, plain);
  const certificate =
    cert === undefined || key === undefined
      ? {}
      : { certificate: { cert: await readFile(cert, "utf8"), key: await readFile(key, "utf8") } };
  return { ...relayAddresses, funnelPorts: ports.split(",").map(Number), relay: { listeners, ...certificate } };
}
