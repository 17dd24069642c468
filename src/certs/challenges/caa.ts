import { CODE, codeOf, RECORD } from "../../wire/dns.ts";
import { type Caa, readCaa } from "../../wire/dns-data.ts";
import type { DnsLookup } from "./dns-lookup.ts";

export interface CaaQuestion {
  /** Perhaps a wildcard. */
  readonly name: string;
  /** The names by which our CA calls itself in CAA records: `letsencrypt.org`. */
  readonly issuers: readonly string[];
  /** Our account there; absent before the first order. */
  readonly accountUri?: string;
  /** How we prove names: `dns-01`, … */
  readonly methods: readonly string[];
}

export interface CaaAdvice {
  /** May our CA issue? `unknown`: DNS does not answer, and then CAs do not issue (RFC 8659 section 6.4). */
  readonly verdict: "allowed" | "forbidden" | "unknown";
  /** Whose records count, the name or one above it. */
  readonly foundAt: string | undefined;
  /**
   * Nobody but the named accounts, and by the named methods only, gets a certificate (RFC 8657): without it whoever
   * stands in the way of connections to the name could have one.
   */
  readonly isBound: boolean;
  /** In the words of a zone file; empty where nothing is missing. */
  readonly wanted: readonly string[];
}

const PARAMETER = /^([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\s*=\s*([\x21-\x3a\x3c-\x7e]*)$/i;
const TAGS: ReadonlySet<string> = new Set(["issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"]);

/** What the CAA records of a name mean for our certificates (RFC 8659, RFC 8657). */
export async function caaAdvice(lookup: DnsLookup, question: CaaQuestion, signal: AbortSignal): Promise<CaaAdvice> {
  const name = question.name.replace(/^\*\./, "").toLowerCase();
  const isWildcard = question.name.startsWith("*.");
  const wanted = wantedRecords(name, isWildcard, question);
  const found = await relevant(lookup, name, signal);
  if (found === "unknown") return { verdict: "unknown", foundAt: undefined, isBound: false, wanted };
  const { foundAt, records } = found;
  const properties = propertiesFor(records, isWildcard);
  // A critical property that nobody knows forbids; so does a record that does not parse, for it may be one.
  const isBarred = records.some((record) => record === undefined || (record.isCritical && !TAGS.has(record.tag)));
  const isAllowed = !isBarred && (properties === undefined || properties.some((one) => allowsUs(one, question)));
  const isBound = properties?.every((one) => one.issuer === "" || isBoundProperty(one)) ?? false;
  const isEnough = isAllowed && isBound;
  return { verdict: isAllowed ? "allowed" : "forbidden", foundAt, isBound, wanted: isEnough ? [] : wanted };
}

interface Relevant {
  readonly foundAt: string | undefined;
  readonly records: readonly (Caa | undefined)[];
}

/** Climbs until there are records (RFC 8659 section 3). */
async function relevant(lookup: DnsLookup, name: string, signal: AbortSignal): Promise<Relevant | "unknown"> {
  const labels = name.split(".");
  for (let i = 0; i < labels.length; i++) {
    const at = labels.slice(i).join(".");
    const message = await lookup.ask(at, RECORD.CAA, { signal }).catch(() => undefined);
    signal.throwIfAborted();
    const code = message === undefined ? undefined : codeOf(message);
    if (message === undefined || (code !== CODE.OK && code !== CODE.NAME)) return "unknown";
    // Also those behind a CNAME: they count as the name's own.
    const records = message.answers.filter(({ type }) => type === RECORD.CAA).map(({ data }) => readCaa(data));
    if (records.length > 0) return { foundAt: at, records };
  }
  return { foundAt: undefined, records: [] };
}

interface IssueProperty {
  /** `""`: nobody. */
  readonly issuer: string;
  /** Twice the same is a contradiction: such a property allows nobody. */
  readonly parameters: ReadonlyMap<string, string> | undefined;
}

/** `undefined`: nothing restricts who may issue. */
function propertiesFor(
  records: readonly (Caa | undefined)[],
  isWildcard: boolean,
): readonly IssueProperty[] | undefined {
  const ofTag = (tag: string) => records.filter((record) => record?.tag === tag).map((record) => parse(record!.value));
  const wild = isWildcard ? ofTag("issuewild") : [];
  const chosen = wild.length > 0 ? wild : ofTag("issue");
  return chosen.length === 0 ? undefined : chosen;
}

function parse(value: string): IssueProperty {
  const [issuer = "", ...rest] = value.split(";").map((part) => part.trim());
  const parameters = new Map<string, string>();
  for (const part of rest.filter((text) => text !== "")) {
    const [, tag = "", text = ""] = PARAMETER.exec(part) ?? [];
    const key = tag.toLowerCase();
    if (key === "" || parameters.has(key)) return { issuer: issuer.toLowerCase(), parameters: undefined };
    parameters.set(key, text);
  }
  return { issuer: issuer.toLowerCase(), parameters };
}

function allowsUs({ issuer, parameters }: IssueProperty, { issuers, accountUri, methods }: CaaQuestion): boolean {
  if (parameters === undefined || !issuers.includes(issuer)) return false;
  const account = parameters.get("accounturi");
  const listed = parameters.get("validationmethods")?.split(",");
  if (account !== undefined && accountUri !== undefined && account !== accountUri) return false;
  return listed === undefined || methods.some((method) => listed.includes(method));
}

function isBoundProperty({ parameters }: IssueProperty): boolean {
  return parameters === undefined || (parameters.has("accounturi") && parameters.has("validationmethods"));
}

function wantedRecords(name: string, isWildcard: boolean, question: CaaQuestion): readonly string[] {
  const { issuers, accountUri, methods } = question;
  const account = accountUri ?? "<the account's URL, after the first order>";
  const value = `${issuers[0] ?? ""}; accounturi=${account}; validationmethods=${methods.join(",")}`;
  const tags = isWildcard ? ["issue", "issuewild"] : ["issue"];
  return tags.map((tag) => `${name}. CAA 0 ${tag} "${value}"`);
}
