import { formatAddress, parseAddress, parseAddressPort } from "../../base/address.ts";
import type { ServerOptions } from "../../server/server.ts";
import { isInRanges } from "../../wire/claims.ts";
import { readGivenFile } from "../given-file.ts";
import { LIMIT_FLAGS, leasesOf, limitsOf, listenersOf, publicAddressesOf } from "../ingress.ts";
import { CliExit } from "../io.ts";
import { portFlag } from "../port-flag.ts";
import type { ServerValues } from "./server-flags.ts";

type IngressOptions = Pick<ServerOptions, "relay" | "funnelPorts" | "relayAddresses">;

/** Upstream's `derper` has 3340 for its trials. */
const DERP_PORTS = [8443, 3340];

/** Where DERP listens: not where visitors come in, of whose ports 8443 is one by custom. */
export function derpPortOf(values: ServerValues): number {
  const taken = values["ingress-ports"]?.split(",").map(Number) ?? [];
  return portFlag("derp-port", values["derp-port"], DERP_PORTS.find((port) => !taken.includes(port)) ?? 0);
}

interface OwnPlace {
  readonly what: string;
  readonly address: string;
  readonly port: number;
}

/** Where the server itself listens for TCP. */
function ownPlaces(values: ServerValues): readonly OwnPlace[] {
  const { address = "127.0.0.1", port, "https-listen": https, "dns-zone": zone, "dns-listen": dns } = values;
  const [, at = "::", httpsPort] = /^(?:\[?([0-9a-f.:]*?)\]?:)?(\d{1,5})$/i.exec(https ?? "") ?? [];
  const zoneAt = parseAddressPort(dns ?? "") ?? { address: dns ?? address, port: 53 };
  return [
    { what: "--port", address, port: portFlag("port", port, 8080) },
    { what: "--derp-port", address, port: derpPortOf(values) },
    ...(httpsPort === undefined ? [] : [{ what: "--https-listen", address: at || "::", port: Number(httpsPort) }]),
    ...(zone === undefined ? [] : [{ what: "--dns-listen", ...zoneAt }]),
  ];
}

const isAny = (address: string): boolean => ["", "0.0.0.0", "::"].includes(address);
const meets = ({ address }: OwnPlace, where: string): boolean => isAny(address) || isAny(where) || address === where;

/** What the server's flags say of Funnel. */
export async function ingressOf(values: ServerValues): Promise<IngressOptions> {
  const { "ingress-ports": ports, "ingress-addresses": addresses, "ingress-address": address } = values;
  const { "ingress-http-port": plain = "80", "tls-cert": cert, "tls-key": key } = values;
  const known = addresses?.split(",") ?? [];
  const bad = known.find((text) => parseAddress(text) === undefined);
  if (bad !== undefined) throw new CliExit(`Cannot use --ingress-addresses "${bad}": wanted IP addresses`, 2);
  // In their one form: they are compared with what ingresses say.
  const places = known.map((text) => formatAddress(parseAddress(text)!));
  const relayAddresses = addresses === undefined ? {} : { relayAddresses: places };
  if (ports === undefined) {
    const ours = [
      ...(["ingress-address", "ingress-public-address", "lease-ports", "drain", "tls-cert", "tls-key"] as const),
      ...LIMIT_FLAGS,
    ];
    const given = ours.find((flag) => values[flag] !== undefined);
    if (given === undefined) return relayAddresses;
    throw new CliExit(`Cannot use --${given} alone: wanted --ingress-ports A,B`, 2);
  }
  if ((cert === undefined) !== (key === undefined))
    throw new CliExit("Cannot use one of --tls-cert, --tls-key alone", 2);
  const where = address ?? values.address ?? "127.0.0.1";
  const listeners = listenersOf(where, ports, plain);
  const limits = limitsOf(values);
  const leases = leasesOf(values["lease-ports"], where, listeners);
  const taken = ownPlaces(values).find((own) => isInRanges(leases.leases?.ranges ?? [], own.port) && meets(own, where));
  if (taken !== undefined)
    throw new CliExit(`Cannot lease port ${taken.port}: the server itself listens on it (${taken.what})`, 2);
  const certificate =
    cert === undefined || key === undefined
      ? {}
      : {
          certificate: {
            cert: await readGivenFile(cert, "a certificate"),
            key: await readGivenFile(key, "a private key"),
          },
        };
  return {
    ...relayAddresses,
    funnelPorts: ports.split(",").map(Number),
    relay: {
      listeners,
      ...publicAddressesOf(values["ingress-public-address"]),
      ...leases,
      ...certificate,
      ...(Object.keys(limits).length === 0 ? {} : { limits }),
    },
  };
}
