import { createServer, type IncomingHttpHeaders } from "node:http";
import { listening } from "./listening.ts";

export interface AskedRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface StandInAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface StandIn {
  readonly url: string;
  readonly requests: readonly AskedRequest[];
  /** In place of what would be answered, once. */
  instead: ((request: AskedRequest) => StandInAnswer | undefined) | undefined;
  close(): Promise<void>;
}

/** A service of the Internet, as far as its documentation says what it answers. */
export async function openStandIn(answer: (request: AskedRequest) => StandInAnswer): Promise<StandIn> {
  const requests: AskedRequest[] = [];
  const server = createServer((message, response) => {
    let body = "";
    message.on("data", (chunk) => {
      body += String(chunk);
    });
    message.on("end", () => {
      const url = new URL(message.url ?? "/", "http://stand-in");
      const request = { method: message.method ?? "", path: message.url ?? "", url, headers: message.headers, body };
      requests.push(request);
      const { status, body: text, headers = {} } = standIn.instead?.(request) ?? answer(request);
      response.writeHead(status, { ...headers }).end(text);
    });
  });
  const standIn: StandIn = {
    url: `http://127.0.0.1:${await listening(server)}`,
    requests,
    instead: undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return standIn;
}

/** TXT values by record. */
export type Texts = Map<string, string[]>;

/** developers.cloudflare.com/api: `GET /zones`, `GET|POST /zones/:id/dns_records`, `DELETE /zones/:id/dns_records/:id`. */
export function cloudflare(token: string, zones: Readonly<Record<string, string>>, texts: Texts) {
  const ids = new Map<string, { record: string; value: string }>();
  const ok = (result: unknown): StandInAnswer => ({
    ...{ status: 200, body: JSON.stringify({ success: true, errors: [], messages: [], result }) },
  });
  const no = (status: number, code: number, message: string): StandInAnswer => ({
    ...{ status, body: JSON.stringify({ success: false, errors: [{ code, message }], messages: [], result: null }) },
  });
  return ({ method, url, headers, body }: AskedRequest): StandInAnswer => {
    if (headers.authorization !== `Bearer ${token}`) return no(403, 9109, "Invalid access token");
    if (url.pathname === "/zones") {
      const name = url.searchParams.get("name") ?? "";
      return ok(Object.hasOwn(zones, name) ? [{ id: zones[name], name }] : []);
    }
    const [, zone, id] = /^\/zones\/([^/]+)\/dns_records(?:\/([^/]+))?$/.exec(url.pathname) ?? [];
    if (!Object.values(zones).includes(zone ?? "")) return no(404, 7003, "Could not route to the zone");
    if (method === "GET") {
      const record = url.searchParams.get("name");
      const found = [...ids].filter(([, one]) => one.record === record);
      return ok(found.map(([key, one]) => ({ id: key, type: "TXT", name: one.record, content: `"${one.value}"` })));
    }
    if (method === "POST") {
      const { type, name, content } = JSON.parse(body) as Record<string, string>;
      const value = content!.replace(/^"|"$/g, "");
      if (type !== "TXT") return no(400, 1004, "DNS Validation Error");
      if (texts.get(name!)?.includes(value)) return no(400, 81_058, "An identical record already exists.");
      texts.set(name!, [...(texts.get(name!) ?? []), value]);
      const key = `record-${ids.size + 1}`;
      ids.set(key, { record: name!, value });
      return ok({ id: key });
    }
    const gone = ids.get(id ?? "");
    if (method !== "DELETE" || gone === undefined) return no(404, 81_044, "Record does not exist.");
    ids.delete(id!);
    texts.set(
      gone.record,
      texts.get(gone.record)!.filter((value) => value !== gone.value),
    );
    return ok({ id });
  };
}

/** docs.aws.amazon.com/Route53: ListHostedZonesByName, ListResourceRecordSets, ChangeResourceRecordSets. */
export function route53(accessKey: string, zones: Readonly<Record<string, string>>, texts: Texts) {
  const xml = (status: number, inner: string): StandInAnswer => ({
    ...{ status, body: `<?xml version="1.0"?>\n${inner}`, headers: { "content-type": "text/xml" } },
  });
  const error = (status: number, code: string, message: string): StandInAnswer =>
    xml(
      status,
      `<ErrorResponse><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`,
    );
  return ({ method, url, headers, body }: AskedRequest): StandInAnswer => {
    const signed =
      /^AWS4-HMAC-SHA256 Credential=(\w+)\/\d{8}\/us-east-1\/route53\/aws4_request, .*Signature=[0-9a-f]{64}$/;
    if (signed.exec(headers.authorization ?? "")?.[1] !== accessKey) {
      return error(403, "InvalidClientTokenId", "The security token included in the request is invalid.");
    }
    if (url.pathname === "/2013-04-01/hostedzonesbyname") {
      // In order of reversed labels, beginning at the name that was asked for: private zones too.
      const name = url.searchParams.get("dnsname") ?? "";
      const listed = Object.entries(zones).filter(([zone]) => zone === name || !name.endsWith(zone));
      const one = ([zone, id]: [string, string], isPrivate: boolean) =>
        `<HostedZone><Id>/hostedzone/${id}</Id><Name>${zone}.</Name><Config><PrivateZone>${isPrivate}</PrivateZone></Config></HostedZone>`;
      const all = listed.map((zone) => one([zone[0], "ZPRIVATE"], true) + one(zone, false)).join("");
      return xml(
        200,
        `<ListHostedZonesByNameResponse><HostedZones>${all}</HostedZones></ListHostedZonesByNameResponse>`,
      );
    }
    const [, zone] = /^\/2013-04-01\/hostedzone\/(\w+)\/rrset\/?$/.exec(url.pathname) ?? [];
    if (!Object.values(zones).includes(zone ?? "")) return error(404, "NoSuchHostedZone", "No hosted zone found");
    if (method === "GET") {
      const name = url.searchParams.get("name") ?? "";
      const found = texts.get(name) ?? [];
      const set = (owner: string, values: readonly string[]) =>
        `<ResourceRecordSet><Name>${owner}.</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords>${values
          .map((value) => `<ResourceRecord><Value>&quot;${value}&quot;</Value></ResourceRecord>`)
          .join("")}</ResourceRecords></ResourceRecordSet>`;
      const shown = found.length > 0 ? set(name, found) : set("zzz.example.com", ["another name"]);
      return xml(
        200,
        `<ListResourceRecordSetsResponse><ResourceRecordSets>${shown}</ResourceRecordSets></ListResourceRecordSetsResponse>`,
      );
    }
    const batch = [...body.matchAll(/<Change><Action>(\w+)<\/Action>(.*?)<\/Change>/g)].map(([, action, set]) => ({
      action,
      name: /<Name>(.*?)\.<\/Name>/.exec(set!)![1]!,
      values: [...set!.matchAll(/<Value>&quot;(.*?)&quot;<\/Value>/g)].map(([, value]) => value!),
    }));
    const after = new Map(texts);
    for (const { action, name, values } of batch) {
      const before = after.get(name) ?? [];
      const isSame = before.toSorted().join() === values.toSorted().join();
      if (action === "DELETE" && (!isSame || before.length === 0)) {
        return error(400, "InvalidChangeBatch", "Tried to delete resource record set but it was not found");
      }
      if (action === "CREATE" && before.length > 0) {
        return error(400, "InvalidChangeBatch", "Tried to create resource record set but it already exists");
      }
      after.set(name, action === "DELETE" ? [] : values);
    }
    for (const [name, values] of after) texts.set(name, values);
    return xml(
      200,
      "<ChangeResourceRecordSetsResponse><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status></ChangeInfo></ChangeResourceRecordSetsResponse>",
    );
  };
}

/** github.com/joohoi/acme-dns: `POST /register` and `POST /update`, which keeps the last two values. */
export function acmeDns(texts: Texts) {
  const accounts: Record<string, string>[] = [];
  const json = (status: number, value: unknown): StandInAnswer => ({ status, body: JSON.stringify(value) });
  return ({ method, url, headers, body }: AskedRequest): StandInAnswer => {
    if (method !== "POST") return json(404, { error: "not_found" });
    if (url.pathname === "/register") {
      const subdomain = `sub-${accounts.length + 1}`;
      const fulldomain = `${subdomain}.auth.example.org`;
      accounts.push({ username: `user-${accounts.length + 1}`, password: "pw-1234", fulldomain, subdomain });
      return json(201, { ...accounts.at(-1), allowfrom: [] });
    }
    const { subdomain, txt } = JSON.parse(body) as Record<string, string>;
    const account = accounts.find((one) => one["subdomain"] === subdomain);
    if (account?.["username"] !== headers["x-api-user"] || account?.["password"] !== headers["x-api-key"]) {
      return json(401, { error: "forbidden" });
    }
    if (!/^[\w-]{43}$/.test(txt ?? "")) return json(400, { error: "bad_txt" });
    const name = account!["fulldomain"]!;
    texts.set(name, [...(texts.get(name) ?? []), txt!].slice(-2));
    return json(200, { txt });
  };
}
