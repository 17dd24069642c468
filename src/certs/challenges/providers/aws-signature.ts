import { createHash, createHmac } from "node:crypto";

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface AwsRequest {
  readonly method: string;
  readonly url: string;
  readonly body: string;
  readonly region: string;
  readonly service: string;
  /** Unix time in ms. */
  readonly wall: number;
}

const ALGORITHM = "AWS4-HMAC-SHA256";
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const hmac = (key: string | Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();

/** The headers that sign a request (AWS Signature Version 4, for services that want each path segment encoded once). */
export function awsHeaders(request: AwsRequest, credentials: AwsCredentials): Readonly<Record<string, string>> {
  const { method, url, body, region, service } = request;
  const { host, pathname, searchParams } = new URL(url);
  const time = new Date(request.wall).toISOString().replace(/[-:]|\.\d+/g, "");
  const { sessionToken } = credentials;
  const signed: readonly (readonly [string, string])[] = [
    ["host", host],
    ["x-amz-date", time],
    ...(sessionToken === undefined ? [] : [["x-amz-security-token", sessionToken] as const]),
  ];
  const names = signed.map(([name]) => name).join(";");
  const query = [...searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .toSorted()
    .join("&");
  const headers = signed.map(([name, value]) => `${name}:${value}\n`).join("");
  const canonical = [method, pathname, query, headers, names, sha256(body)].join("\n");
  const scope = `${time.slice(0, 8)}/${region}/${service}/aws4_request`;
  const key = scope
    .split("/")
    .reduce<string | Buffer>((secret, part) => hmac(secret, part), `AWS4${credentials.secretAccessKey}`);
  const signature = hmac(key as Buffer, [ALGORITHM, time, scope, sha256(canonical)].join("\n")).toString("hex");
  const { host: _host, ...sent } = Object.fromEntries(signed);
  return {
    ...sent,
    authorization: `${ALGORITHM} Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${names}, Signature=${signature}`,
  };
}

/** RFC 3986: only unreserved characters stay. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}
