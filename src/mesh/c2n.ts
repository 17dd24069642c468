import type { C2nRequest, C2nResponse } from "./control/control-client.ts";
import { servicesHash, type VipService } from "./hosted-services.ts";

const json = (body: unknown): C2nResponse => ({
  status: 200,
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});
const text = (status: number, body: string): C2nResponse => ({ status, headers: {}, body });

/**
 * What the server may ask of a node (control-protocol.md 9.2): only what neither changes it nor looks into the machine.
 * Profiles, logs, preferences and updates are none of its business (CC-6).
 */
const ANSWERS: Readonly<Record<string, { readonly methods: readonly string[]; readonly answer: C2nResponse }>> = {
  "/posture/identity": { methods: ["GET"], answer: json({ PostureDisabled: true }) },
  "/update": { methods: ["GET", "POST"], answer: json({ Enabled: false, Supported: false, Started: false }) },
  "/logtail/flush": { methods: ["POST"], answer: text(204, "") },
};

/** When a certificate that this node has begins and ends, Unix ms; `wall`: now. */
export interface C2nCertificates {
  certificateOf(domain: string): { readonly notBefore: number; readonly notAfter: number } | undefined;
  wall(): number;
}

export function answerC2n(
  { method, path }: C2nRequest,
  certificates: C2nCertificates,
  services: readonly VipService[] = [],
): C2nResponse {
  const [name = "", query = ""] = path.split("?", 2);
  if (name === "/vip-services" && method === "GET") {
    return json({ VIPServices: services, ServicesHash: servicesHash(services) });
  }
  if (name === "/tls-cert-status" && method === "GET") return certificateStatus(query, certificates);
  const known = Object.hasOwn(ANSWERS, name) ? ANSWERS[name] : undefined;
  if (known === undefined) return text(400, "unknown c2n path\n");
  return known.methods.includes(method) ? known.answer : text(405, "bad method\n");
}

/** `tailcfg.C2NTLSCertInfo`: what is there; nothing is ordered for it. */
function certificateStatus(query: string, certificates: C2nCertificates): C2nResponse {
  const domain = new URLSearchParams(query).get("domain") ?? "";
  if (domain === "") return text(400, "no 'domain'\n");
  const found = certificates.certificateOf(domain);
  if (found === undefined) return json({ Error: "no certificate", Missing: true });
  if (found.notAfter <= certificates.wall()) return json({ Error: "cert expired", Expired: true });
  const [NotBefore, NotAfter] = [found.notBefore, found.notAfter].map((at) => new Date(at).toISOString());
  return json({ Valid: true, NotBefore, NotAfter });
}
