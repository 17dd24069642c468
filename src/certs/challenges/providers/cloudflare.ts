import { Fault } from "../../../base/fault.ts";
import type { DnsProvider, Secret } from "../dns-provider.ts";
import { type ApiAnswer, callApi, type Fetch, refusal, zonesAbove } from "./provider-api.ts";

const SERVICE = "Cloudflare";
const TTL_S = 60;
/** "An identical record already exists", by two numbers over time. */
const EXISTS: ReadonlySet<number> = new Set([81_057, 81_058]);

export interface CloudflareOptions {
  /** An API token with Zone.DNS:Edit of the zone, and Zone.Zone:Read where `zone` is not given. */
  readonly token: Secret;
  /** Id of the zone. @default found by name */
  readonly zone?: string;
  readonly fetch: Fetch;
  /** @default https://api.cloudflare.com/client/v4 */
  readonly api?: string;
}

interface Envelope {
  readonly success?: boolean;
  readonly errors?: readonly { readonly code?: number; readonly message?: string }[];
  readonly result?: unknown;
}

interface DnsRecordResult {
  readonly id: string;
  readonly content: string;
}

/** developers.cloudflare.com/api: zones and DNS records. */
export function cloudflareProvider(options: CloudflareOptions): DnsProvider {
  const { token, fetch, api = "https://api.cloudflare.com/client/v4" } = options;

  async function ask(doing: string, method: string, path: string, signal: AbortSignal, body?: object) {
    const headers = { authorization: `Bearer ${await token()}`, "content-type": "application/json" };
    const call = { service: SERVICE, method, url: `${api}${path}`, headers, signal };
    const answer = await callApi(fetch, body === undefined ? call : { ...call, body: JSON.stringify(body) });
    const envelope = envelopeOf(answer);
    const isMade = method === "POST" && envelope.errors?.some(({ code }) => EXISTS.has(code ?? 0));
    if (envelope.success === true || isMade) return envelope.result;
    throw refusal(SERVICE, doing, answer, envelope.errors?.map(({ message }) => message).join("; "));
  }

  async function zoneOf(record: string, signal: AbortSignal): Promise<string> {
    if (options.zone !== undefined) return options.zone;
    for (const name of zonesAbove(record)) {
      const found = await ask("look up a zone", "GET", `/zones?name=${encodeURIComponent(name)}`, signal);
      const id = listOf<{ id: string }>(found)[0]?.id;
      if (id !== undefined) return id;
    }
    throw new Fault("CERT_CHALLENGE_ZONE", `Cannot write "${record}" at ${SERVICE}: the token sees no zone of it`);
  }

  async function idsOf(zone: string, record: string, value: string, signal: AbortSignal): Promise<readonly string[]> {
    const path = `/zones/${encodeURIComponent(zone)}/dns_records?type=TXT&name=${encodeURIComponent(record)}&per_page=100`;
    const records = listOf<DnsRecordResult>(await ask("look up records", "GET", path, signal));
    // Shown with quotes or without, as they were written.
    return records.filter(({ content }) => content.replace(/^"(.*)"$/, "$1") === value).map(({ id }) => id);
  }

  return {
    async set(record, value, signal) {
      const zone = await zoneOf(record, signal);
      if ((await idsOf(zone, record, value, signal)).length > 0) return;
      const path = `/zones/${encodeURIComponent(zone)}/dns_records`;
      const body = { type: "TXT", name: record, content: `"${value}"`, ttl: TTL_S };
      await ask("write a record", "POST", path, signal, body);
    },
    async remove(record, value, signal) {
      const zone = await zoneOf(record, signal);
      for (const id of await idsOf(zone, record, value, signal)) {
        const path = `/zones/${encodeURIComponent(zone)}/dns_records/${encodeURIComponent(id)}`;
        await ask("remove a record", "DELETE", path, signal);
      }
    },
  };
}

function envelopeOf(answer: ApiAnswer): Envelope {
  try {
    const value: unknown = JSON.parse(answer.text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // said below
  }
  throw refusal(SERVICE, "read an answer", answer);
}

function listOf<T extends { readonly id: string }>(result: unknown): readonly T[] {
  if (!Array.isArray(result)) return [];
  return result.filter((one): one is T => typeof (one as { id?: unknown } | null)?.id === "string");
}
