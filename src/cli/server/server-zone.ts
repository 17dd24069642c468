import { isIPv6 } from "node:net";
import { parseAddress, parseAddressPort } from "../../base/address.ts";
import type { PublicZoneOptions } from "../../server/public-zone.ts";
import { CliExit } from "../io.ts";
import type { ServerValues } from "./server-flags.ts";

/** RFC 8659 section 4.2; `;` alone: nobody. */
const CAA_VALUE = /^(?:[a-z0-9-]+(?:\.[a-z0-9-]+)+)?(?:\s*;\s*(?:[a-z0-9]+=[\x21-\x3a\x3c-\x7e]*)?)*$/;

/** `--dns-zone` and what belongs to it. */
export function publicZoneOf(values: ServerValues): { publicZone?: PublicZoneOptions } {
  const { "dns-zone": zone, "dns-listen": listen = values.address ?? "127.0.0.1", "dns-ns": server } = values;
  const { "url-address": own } = values;
  if (zone === undefined) {
    const given = [server, values["dns-listen"], values["dns-caa"], own].some((value) => value !== undefined);
    if (!given) return {};
    throw new CliExit("Cannot use --dns-ns, --dns-listen, --dns-caa or --url-address alone: wanted --dns-zone ZONE", 2);
  }
  const at = parseAddressPort(listen) ?? parseAddressPort(`${isIPv6(listen) ? `[${listen}]` : listen}:53`);
  const [nameServer = "", addresses] = server?.split("=") ?? [];
  if (at === undefined) throw new CliExit(`Cannot use --dns-listen "${listen}": wanted IP or IP:PORT`, 2);
  if (nameServer === "")
    throw new CliExit("Cannot use --dns-zone: wanted --dns-ns NAME, as in the zone's NS record", 2);
  const places = own?.split(",");
  if (places?.some((text) => parseAddress(text) === undefined) === true)
    throw new CliExit(`Cannot use --url-address "${own}": wanted IP addresses`, 2);
  const caa = values["dns-caa"] ?? [];
  const wrong = caa.find((value) => !CAA_VALUE.test(value));
  if (wrong !== undefined) {
    const wanted = "wanted a CA's name and what binds it, such as letsencrypt.org; validationmethods=dns-01";
    throw new CliExit(`Cannot use --dns-caa "${wrong}": ${wanted}`, 2);
  }
  return {
    publicZone: {
      ...{ zone, nameServer, ...at },
      ...(caa.length === 0 ? {} : { caa }),
      ...(addresses === undefined ? {} : { nameServerAddresses: addresses.split(",") }),
      ...(places === undefined ? {} : { ownAddresses: places }),
    },
  };
}
