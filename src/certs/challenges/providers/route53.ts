import type { Clock } from "../../../base/clock.ts";
import { Fault } from "../../../base/fault.ts";
import type { DnsProvider, Secret } from "../dns-provider.ts";
import { type AwsCredentials, awsHeaders } from "./aws-signature.ts";
import { type ApiAnswer, callApi, type Fetch, refusal, zonesAbove } from "./provider-api.ts";

const SERVICE = "Route 53";
const NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/";
const TTL_S = 60;
/** Another one changed the set between our reading and our writing. */
const MOST_TRIES = 5;

export interface Route53Options {
  readonly accessKeyId: Secret;
  readonly secretAccessKey: Secret;
  readonly sessionToken?: Secret;
  /** Id of the hosted zone. @default found by name */
  readonly zone?: string;
  readonly fetch: Fetch;
  readonly clock: Clock;
  /** @default https://route53.amazonaws.com */
  readonly api?: string;
}

/** All values of one name and type are one set, which is written whole. */
interface TextSet {
  readonly ttl: string;
  /** As they stand there: in quotes. */
  readonly values: readonly string[];
}

/** docs.aws.amazon.com/Route53/latest/APIReference: 2013-04-01, XML. */
export function route53Provider(options: Route53Options): DnsProvider {
  const { fetch, clock, api = "https://route53.amazonaws.com" } = options;

  async function call(method: string, path: string, signal: AbortSignal, body = ""): Promise<ApiAnswer> {
    const credentials: AwsCredentials = {
      accessKeyId: await options.accessKeyId(),
      secretAccessKey: await options.secretAccessKey(),
      ...(options.sessionToken === undefined ? {} : { sessionToken: await options.sessionToken() }),
    };
    const url = `${api}/2013-04-01${path}`;
    const request = { method, url, body, region: "us-east-1", service: "route53", wall: clock.wall() };
    const headers = { "content-type": "application/xml", ...awsHeaders(request, credentials) };
    const asked = { service: SERVICE, method, url, headers, signal };
    return callApi(fetch, body === "" ? asked : { ...asked, body });
  }

  async function zoneOf(record: string, signal: AbortSignal): Promise<string> {
    if (options.zone !== undefined) return options.zone;
    for (const name of zonesAbove(record)) {
      const answer = await call("GET", `/hostedzonesbyname?dnsname=${encodeURIComponent(name)}&maxitems=10`, signal);
      if (answer.status !== 200) throw refusalOf("look up a zone", answer);
      const zone = elements(answer.text, "HostedZone").find(
        (one) => element(one, "Name") === `${name}.` && element(one, "PrivateZone") !== "true",
      );
      const id = zone === undefined ? undefined : element(zone, "Id")?.replace("/hostedzone/", "");
      if (id !== undefined) return id;
    }
    throw new Fault("CERT_CHALLENGE_ZONE", `Cannot write "${record}" at ${SERVICE}: the key sees no zone of it`);
  }

  async function readSet(zone: string, record: string, signal: AbortSignal): Promise<TextSet | undefined> {
    const path = `/hostedzone/${encodeURIComponent(zone)}/rrset?maxitems=1&name=${encodeURIComponent(record)}&type=TXT`;
    const answer = await call("GET", path, signal);
    if (answer.status !== 200) throw refusalOf("read a record", answer);
    const [set] = elements(answer.text, "ResourceRecordSet");
    // The listing begins at the name that was asked for, or at the next one there is.
    if (set === undefined || element(set, "Name") !== `${record}.` || element(set, "Type") !== "TXT") return undefined;
    const values = elements(set, "ResourceRecord").map((one) => element(one, "Value") ?? "");
    return { ttl: element(set, "TTL") ?? String(TTL_S), values };
  }

  /** The old set is deleted as it was read: where that is no more what is there, nothing happens and we read again. */
  async function change(record: string, signal: AbortSignal, to: (values: readonly string[]) => readonly string[]) {
    const zone = await zoneOf(record, signal);
    for (let tries = 0; ; tries++) {
      const before = await readSet(zone, record, signal);
      const values = to(before?.values ?? []);
      if (String(values) === String(before?.values ?? [])) return;
      const changes = [
        before === undefined ? "" : changeXml("DELETE", record, before),
        values.length === 0 ? "" : changeXml("CREATE", record, { ttl: String(TTL_S), values }),
      ].join("");
      const body = `<?xml version="1.0" encoding="UTF-8"?><ChangeResourceRecordSetsRequest xmlns="${NAMESPACE}"><ChangeBatch><Changes>${changes}</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`;
      const answer = await call("POST", `/hostedzone/${encodeURIComponent(zone)}/rrset`, signal, body);
      if (answer.status === 200) return;
      const isRace = answer.status === 400 && /InvalidChangeBatch|PriorRequestNotComplete/.test(answer.text);
      if (!isRace || tries >= MOST_TRIES) throw refusalOf("write a record", answer);
    }
  }

  return {
    set: (record, value, signal) =>
      change(record, signal, (values) => (values.includes(`"${value}"`) ? values : [...values, `"${value}"`])),
    remove: (record, value, signal) =>
      change(record, signal, (values) => values.filter((other) => other !== `"${value}"`)),
  };
}

function changeXml(action: string, record: string, { ttl, values }: TextSet): string {
  const records = values.map((value) => `<ResourceRecord><Value>${escapeXml(value)}</Value></ResourceRecord>`).join("");
  const set = `<Name>${escapeXml(record)}.</Name><Type>TXT</Type><TTL>${escapeXml(ttl)}</TTL><ResourceRecords>${records}</ResourceRecords>`;
  return `<Change><Action>${action}</Action><ResourceRecordSet>${set}</ResourceRecordSet></Change>`;
}

function refusalOf(doing: string, answer: ApiAnswer): Fault {
  return refusal(SERVICE, doing, answer, element(answer.text, "Message"));
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

function escapeXml(text: string): string {
  return text.replace(/[<>"'&]/g, (char) => `&${Object.keys(ENTITIES).find((name) => ENTITIES[name] === char)};`);
}

/** What stands in each element of that name. These documents never put one into another of its name. */
function elements(xml: string, name: string): readonly string[] {
  const found: string[] = [];
  for (let at = xml.indexOf(`<${name}>`); at >= 0; at = xml.indexOf(`<${name}>`, at + 1)) {
    const end = xml.indexOf(`</${name}>`, at);
    if (end < 0) break;
    found.push(xml.slice(at + name.length + 2, end));
  }
  return found;
}

function element(xml: string, name: string): string | undefined {
  return elements(xml, name)[0]?.replace(/&(?:(lt|gt|quot|apos|amp)|#(\d{1,5}));/g, (_, entity, number) =>
    entity === undefined ? String.fromCharCode(Number(number)) : ENTITIES[entity]!,
  );
}
