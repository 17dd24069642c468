import { parseAddress } from "../../base/address.ts";
import { CODE, encodeName, RECORD } from "../../wire/dns.ts";
import { plainName } from "../../wire/host-name.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import { type Answer, decodeQuestion, encodeAnswer, type Question } from "./message.ts";
import { NameTable, type Record4And6, reverseAddress, via6Address } from "./names.ts";

const TTL_S = 5;
const CLASS_IN = 1;
const CLASS_ANY = 255;

/** Asks `servers` (addresses, with a port or without, or URLs), or those of this machine where the network names none. */
export type ForwardDns = (
  query: Uint8Array,
  transport: "udp" | "tcp",
  servers: readonly string[] | undefined,
) => Promise<Uint8Array | undefined>;

/** Answers a DNS message as a resolver of the mesh does. */
export type QueryDns = (query: Uint8Array, transport: "udp" | "tcp") => Promise<Uint8Array | undefined>;

/**
 * Names of the mesh, from the network map: for our own dials (`lookup`) and as an authoritative server (`answer`),
 * in the order of upstream `net/dns/resolver/tsdns.go`. It forwards nothing.
 */
export class MagicDns {
  #names: NameTable = new NameTable(undefined);
  readonly #wall: () => number;

  /** `wall` gives the serial number of the zones. */
  constructor(wall: () => number = () => 0) {
    this.#wall = wall;
  }

  setMap(map: NetworkMap): void {
    this.#names = new NameTable(map);
  }

  /** Addresses of a name, IPv4 first; a single label is tried under the search domains. Empty: not ours. */
  lookup(name: string): readonly string[] {
    const wanted = plainName(name);
    const candidates = wanted.includes(".")
      ? [wanted]
      : this.#names.searchDomains.map((domain) => `${wanted}.${domain}`);
    for (const candidate of [...candidates, wanted]) {
      const record = this.#names.find(candidate);
      if (record !== undefined) return [...record.v4, ...record.v6];
    }
    const via = via6Address(wanted);
    return via === undefined ? [] : [via];
  }

  /** The answer to a DNS query; `undefined` when the name is not ours to answer, or `query` is no query. */
  answer(query: Uint8Array): Uint8Array | undefined {
    const question = decodeQuestion(query);
    if (question === "drop") return undefined;
    if (!("raw" in question)) return encodeAnswer(question, CODE.FORMAT);
    if (question.opcode !== 0) return encodeAnswer(question, CODE.NOT_IMPLEMENTED);
    return question.type === RECORD.PTR ? this.#answerReverse(question) : this.#answerName(question);
  }

  /** The same, other names asked for by `forward`; refused where nobody knows, so that the device asks elsewhere. */
  async resolve(query: Uint8Array, transport: "udp" | "tcp", forward?: ForwardDns): Promise<Uint8Array | undefined> {
    const question = decodeQuestion(query);
    if (question === "drop") return undefined;
    const own = this.answer(query);
    if (own !== undefined || !("raw" in question)) return own;
    const servers = this.#names.resolversOf(question.name);
    return (await forward?.(query, transport, servers)) ?? encodeAnswer(question, CODE.REFUSED);
  }

  #answerReverse(question: Question): Uint8Array | undefined {
    const address = reverseAddress(question.name);
    const name = address === undefined ? undefined : this.#names.nameOf(address);
    const data = name === undefined ? undefined : encodeName(name);
    if (data === undefined) return this.#unknown(question);
    if (!isInternet(question)) return encodeAnswer(question, CODE.REFUSED);
    return encodeAnswer(question, CODE.OK, [{ type: RECORD.PTR, ttl: TTL_S, data }]);
  }

  #answerName(question: Question): Uint8Array | undefined {
    const { name, type } = question;
    if (name === "onion" || name.endsWith(".onion")) return encodeAnswer(question, CODE.NAME); // RFC 7686
    const isAddress = type === RECORD.A || type === RECORD.AAAA || type === RECORD.ANY;
    const via = isAddress ? via6Address(name) : undefined;
    const record = via === undefined ? this.#names.find(name) : { v4: [], v6: [via] };
    if (record === undefined) return this.#unknown(question);
    if (!isInternet(question)) return encodeAnswer(question, CODE.REFUSED);
    if (type === RECORD.NS || type === RECORD.SOA || type === RECORD.AXFR || type === RECORD.HINFO) {
      return encodeAnswer(question, CODE.NOT_IMPLEMENTED);
    }
    if (!isAddress) return encodeAnswer(question, CODE.OK);
    const answer = this.#addressRecord(record, type, via !== undefined || this.#names.isExtra(name));
    if (answer !== undefined) return encodeAnswer(question, CODE.OK, [answer]);
    return encodeAnswer(question, CODE.OK, [], this.#zone(name));
  }

  /** One address only, the first of its family. A node's IPv6 address is kept back where it also has IPv4. */
  #addressRecord({ v4, v6 }: Record4And6, type: number, isPlain: boolean): Answer | undefined {
    const showsV6 = isPlain || this.#names.hasBothFamilies || v4.length === 0;
    const first = type === RECORD.AAAA ? undefined : v4[0];
    const second = type === RECORD.A || !showsV6 ? undefined : v6[0];
    const data = parseAddress(first ?? second ?? "");
    return data === undefined ? undefined : { type: data.length === 4 ? RECORD.A : RECORD.AAAA, ttl: TTL_S, data };
  }

  #unknown(question: Question): Uint8Array | undefined {
    const zone = this.#zone(question.name);
    return zone === undefined ? undefined : encodeAnswer(question, CODE.NAME, [], zone);
  }

  #zone(name: string): { name: string; serial: number } | undefined {
    const zone = this.#names.zoneOf(name);
    return zone === undefined ? undefined : { name: zone, serial: Math.floor(this.#wall() / 1000) };
  }
}

function isInternet(question: Question): boolean {
  return question.class === CLASS_IN || question.class === CLASS_ANY;
}
