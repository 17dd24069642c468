import { isIP } from "node:net";
import { parseAddressPort } from "../../../base/address.ts";
import type { Clock } from "../../../base/clock.ts";
import { Fault, messageOf } from "../../../base/fault.ts";
import type { Random } from "../../../base/random.ts";
import {
  CLASS,
  CODE,
  codeOf,
  type DnsMessage,
  type DnsRecord,
  decodeMessage,
  encodeMessage,
  FLAG,
  OPCODE,
  RECORD,
} from "../../../wire/dns.ts";
import { textData } from "../../../wire/dns-data.ts";
import { plainName } from "../../../wire/host-name.ts";
import { signMessage, type TsigAlgorithm, type TsigKey, tsigProblem } from "../../../wire/tsig.ts";
import { overTcp, overUdp } from "../dns-client.ts";
import { addressesOf, type DnsLookup, findZone } from "../dns-lookup.ts";
import type { DnsProvider, Secret } from "../dns-provider.ts";

const TTL_S = 60;

export interface Rfc2136Options {
  /** Of the primary: `ip`, `ip:port` or a name. @default the one in the zone's SOA record */
  readonly server?: string;
  /** @default found by the zone's SOA record */
  readonly zone?: string;
  readonly keyName: string;
  /** @default hmac-sha256 */
  readonly algorithm?: TsigAlgorithm;
  /** Base64, as `tsig-keygen` writes it. */
  readonly secret: Secret;
  /** @default tcp, where no sender's address can be forged */
  readonly transport?: "udp" | "tcp";
  readonly lookup: DnsLookup;
  readonly clock: Clock;
  readonly random: Random;
}

/** Dynamic updates (RFC 2136), signed (RFC 8945): BIND, Knot, PowerDNS, Windows and others. */
export function rfc2136Provider(options: Rfc2136Options): DnsProvider {
  const { lookup, clock, random, algorithm = "hmac-sha256" } = options;

  async function keyOf(): Promise<TsigKey> {
    const text = await options.secret();
    const secret = new Uint8Array(Buffer.from(text, "base64"));
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text) || secret.length < 16) {
      throw new Fault(
        "CERT_CHALLENGE_SECRET",
        `Cannot use the key "${options.keyName}": wanted base64 of 16 bytes or more`,
      );
    }
    return { name: plainName(options.keyName), algorithm, secret };
  }

  async function serverOf(primary: string, signal: AbortSignal): Promise<string> {
    const server = options.server ?? primary;
    if (isIP(server) !== 0 || parseAddressPort(server) !== undefined) return server;
    const [address] = await addressesOf(lookup, server, signal);
    if (address !== undefined) return address;
    throw new Fault("CERT_CHALLENGE_PROVIDER", `Cannot update DNS at "${server}": found no address of it`);
  }

  async function update(record: string, change: DnsRecord, signal: AbortSignal): Promise<void> {
    const cut =
      options.zone === undefined || options.server === undefined
        ? await findZone(lookup, options.zone ?? record, signal)
        : { zone: options.zone, primary: "" };
    const zone = plainName(options.zone ?? cut.zone);
    const server = await serverOf(cut.primary, signal);
    const key = await keyOf();
    const id = new DataView(random(2).buffer).getUint16(0);
    const bare = encodeMessage({
      ...{ id, flags: OPCODE.UPDATE << 11, questions: [{ name: zone, type: RECORD.SOA, class: CLASS.IN }] },
      ...{ answers: [], authority: [change], additional: [] },
    });
    const signed = signMessage(bare, key, clock.wall());
    const accept = (bytes: Uint8Array) =>
      answerTo(bytes, id, (whole) => tsigProblem(whole, key, clock.wall(), signed.mac));
    const exchange = { server, query: signed.message, clock, signal, accept };
    const { code, problem } = await (options.transport === "udp" ? overUdp(exchange) : overTcp(exchange)).catch(
      (error: unknown) => {
        signal.throwIfAborted();
        throw new Fault("CERT_CHALLENGE_PROVIDER", `Cannot update DNS at "${server}": ${messageOf(error)}`);
      },
    );
    if (code === CODE.OK && problem === undefined) return;
    const found =
      code === CODE.OK
        ? `the answer: ${problem}`
        : `${NAMES[code] ?? `code ${code}`}${problem === undefined ? "" : `, ${problem}`}`;
    throw new Fault("CERT_CHALLENGE_PROVIDER", `Cannot update "${record}" of zone "${zone}" at "${server}": ${found}`, {
      ...(code === CODE.REFUSED
        ? { hint: `Let the key "${key.name}" write TXT records of this name (update-policy).` }
        : {}),
    });
  }

  const text = (record: string, value: string): DnsRecord => ({
    ...{ name: record, type: RECORD.TXT, class: CLASS.IN, ttl: TTL_S, data: textData(value) },
  });
  return {
    set: (record, value, signal) => update(record, text(record, value), signal),
    // One value of the set, and no error when it is not there (RFC 2136 section 2.5.4).
    remove: (record, value, signal) => update(record, { ...text(record, value), class: CLASS.NONE, ttl: 0 }, signal),
  };
}

const NAMES: Readonly<Record<number, string>> = {
  1: "FORMERR",
  2: "SERVFAIL",
  4: "NOTIMP",
  5: "REFUSED",
  9: "NOTAUTH",
  10: "NOTZONE",
};

interface UpdateAnswer {
  readonly code: number;
  readonly problem: string | undefined;
}

function answerTo(
  bytes: Uint8Array,
  id: number,
  problemOf: (bytes: Uint8Array) => string | undefined,
): UpdateAnswer | undefined {
  const message: DnsMessage | undefined = decodeMessage(bytes);
  if (message?.id !== id || (message.flags & FLAG.RESPONSE) === 0) return undefined;
  return { code: codeOf(message), problem: problemOf(bytes) };
}
