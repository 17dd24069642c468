import { onTestFinished } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { type AuthorityOptions, openAuthority } from "../../src/certs/acme/acme-authority.ts";
import type { Authority, OrderProgress, OrderRequest } from "../../src/certs/acme/authority.ts";
import { newCertificateKey } from "../../src/certs/certificate-key.ts";
import { memoryCertificateStore } from "../../src/certs/store/memory-store.ts";
import { hastyClock } from "./hasty-clock.ts";
import type { TestCaOptions } from "./resources.ts";
import { Shown } from "./shown.ts";
import { TestCa } from "./test-ca.ts";

/** Ends with the test. */
export async function startCa(options: TestCaOptions = {}): Promise<TestCa> {
  const ca = await TestCa.start(options);
  onTestFinished(() => ca.close());
  return ca;
}

export function authorityAt({ directory }: TestCa, options: Partial<AuthorityOptions> = {}): Authority {
  const store = memoryCertificateStore();
  const usual = { id: "test", directory, store, clock: hastyClock(), log: silentLog, agreeToTerms: true };
  return openAuthority({ ...usual, ...options });
}

/** What a test orders; `saved` is what would be on disk. */
export interface TestOrder extends OrderRequest {
  readonly saved: OrderProgress[];
}

export async function orderOf(names: readonly string[], more: Partial<OrderRequest> = {}): Promise<TestOrder> {
  const progress = more.progress ?? { key: await newCertificateKey() };
  const saved: OrderProgress[] = [];
  const save = async (next: OrderProgress): Promise<void> => void saved.push(next);
  return { names, solvers: [new Shown("dns-01")], save, ...more, progress, saved };
}

/** A signal for calls that nobody ends. */
export const never: AbortSignal = new AbortController().signal;
