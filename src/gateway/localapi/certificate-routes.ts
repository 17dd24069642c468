import { messageOf } from "../../base/fault.ts";
import { parseGoDuration } from "./admission.ts";
import type { LocalApiBackend } from "./backend.ts";
import { type Answer, type Call, json, only, type Route, refuse } from "./routes.ts";

/** What upstream's daemon says where no certificate can be had. */
const NO_SUPPORT = "your Tailscale account does not support getting TLS certs";
const TOO_MANY = 429;

/** `cert/<domain>`, upstream's: PEM, the key first when both are wanted. */
export async function certificate(call: Call, domain: string, backend: LocalApiBackend): Promise<Answer> {
  if (call.method !== "GET") return refuse(405, "want GET");
  const type = call.query.get("type") ?? "";
  if (!["", "pair", "cert", "crt", "key"].includes(type))
    return refuse(400, 'invalid type; want "pair", "crt", or "key"');
  const validity = parseGoDuration(call.query.get("min_validity") ?? "0s");
  if (validity === undefined) return refuse(400, "invalid 'min_validity' parameter");
  const misspelled = refusalOfDomain(domain);
  if (misspelled !== undefined) return refuse(500, misspelled);
  if (backend.certificate === undefined) return refuse(500, NO_SUPPORT);
  try {
    const { key, chain } = await backend.certificate(domain.replace(/\.$/, ""), validity);
    const body = type === "pair" ? key + chain : type === "key" ? key : chain;
    return { status: 200, body, type: "text/plain" };
  } catch (thrown) {
    return failure(thrown);
  }
}

/** Upstream's check before anything is looked up (`feature/acme/cert.go:validLookingCertDomain`). */
function refusalOfDomain(domain: string): string | undefined {
  const name = domain.replace(/\.$/, "").replace(/^\*\./, "");
  const isOdd = name === "" || !name.includes(".") || name.includes("..") || /[:/\\\0*]/.test(name);
  return isOdd ? "invalid domain" : undefined;
}

/** Where a CA named a time, so do we; the client's own words for it are upstream's. */
function failure(thrown: unknown): Answer {
  const wait = (thrown as { readonly retryAfter?: unknown } | undefined)?.retryAfter;
  const refusal = refuse(typeof wait === "number" ? TOO_MANY : 500, messageOf(thrown));
  if (typeof wait !== "number") return refusal;
  return { ...refusal, headers: { ...refusal.headers, "Retry-After": String(Math.ceil(wait / 1000)) } };
}

/** `cert-domains` is upstream's, the others are ours. */
export function createCertificateRoutes(backend: LocalApiBackend): ReadonlyMap<string, Route> {
  const named = (act: ((name: string, call: Call) => Promise<unknown>) | undefined): Route =>
    only("POST", async (call) => {
      const name = call.query.get("name") ?? "";
      if (act === undefined || name === "") return refuse(400, "missing 'name' parameter");
      try {
        return json((await act(name, call)) ?? null);
      } catch (thrown) {
        return failure(thrown);
      }
    });
  return new Map<string, Route>([
    ["cert-domains", only("GET", () => json(backend.certDomains?.() ?? null))],
    ["certificates", only("GET", () => json(backend.certificates?.() ?? []))],
    [
      "certificates/budget",
      only("GET", async () => {
        try {
          return json((await backend.certificateBudget?.()) ?? []);
        } catch (thrown) {
          return failure(thrown);
        }
      }),
    ],
    ["certificates/renew", named(backend.renewCertificate?.bind(backend))],
    ["certificates/revoke", named(backend.revokeCertificate?.bind(backend))],
    ["certificates/roll-key", named(backend.rollAccountKey?.bind(backend))],
    ["certificates/advice", named(async (name, { signal }) => backend.certificateAdvice?.(name, signal))],
  ]);
}
