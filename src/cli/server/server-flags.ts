import { parseArgs } from "node:util";

const OPTIONS = {
  state: { type: "string" },
  socket: { type: "string" },
  address: { type: "string" },
  port: { type: "string" },
  "derp-port": { type: "string" },
  "stun-port": { type: "string" },
  url: { type: "string" },
  "url-address": { type: "string" },
  domain: { type: "string" },
  "dns-zone": { type: "string" },
  "dns-listen": { type: "string" },
  "dns-ns": { type: "string" },
  "dns-caa": { type: "string", multiple: true },
  "ingress-ports": { type: "string" },
  "ingress-address": { type: "string" },
  "ingress-addresses": { type: "string" },
  "ingress-public-address": { type: "string" },
  "ingress-http-port": { type: "string" },
  "lease-ports": { type: "string" },
  drain: { type: "string" },
  "visitor-rate": { type: "string" },
  "name-rate": { type: "string" },
  "visitor-connections": { type: "string" },
  "visitor-hellos": { type: "string" },
  "https-listen": { type: "string" },
  "cert-authority": { type: "string" },
  "cert-authority-bundle": { type: "string" },
  "acme-http": { type: "string" },
  "tls-cert": { type: "string" },
  "tls-key": { type: "string" },
  policy: { type: "string" },
  log: { type: "string" },
  "oidc-issuer": { type: "string" },
  "oidc-client-id": { type: "string" },
  "oidc-client-secret": { type: "string" },
  "oidc-domains": { type: "string" },
  user: { type: "string" },
  tags: { type: "string" },
  name: { type: "string" },
  picture: { type: "string" },
  role: { type: "string" },
  reusable: { type: "boolean" },
  preapproved: { type: "boolean" },
  ephemeral: { type: "boolean" },
  expiry: { type: "string" },
  gateway: { type: "string", multiple: true },
  endpoint: { type: "string", multiple: true },
  "public-key": { type: "string" },
  "print-private-key": { type: "boolean" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

type Parsed = ReturnType<typeof parseArgs<{ args: string[]; options: typeof OPTIONS; allowPositionals: true }>>;

export type ServerValues = Parsed["values"];

/** Flags of `sallyport server` and of the commands to a running one. */
export function parseServerArgs(args: readonly string[]): Parsed {
  return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
}
