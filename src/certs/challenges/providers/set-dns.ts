import type { DnsProvider } from "../dns-provider.ts";

/**
 * The coordination server's own zone. It answers once the value is served, takes only the node's own record, and forgets
 * it by itself (control-protocol, set-dns).
 */
export function setDnsProvider(
  set: (record: string, value: string, signal: AbortSignal) => Promise<void>,
): DnsProvider {
  return { set, remove: async () => {}, ownsName: true, isServedAtOnce: true };
}
