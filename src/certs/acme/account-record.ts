import { z } from "zod";
import { Fault } from "../../base/fault.ts";

/** An account as it stands in the store. */
export interface AccountRecord {
  /** Where it was made. */
  readonly directory: string;
  /** PKCS #8 PEM. */
  readonly key: string;
  /** Written before the CA is asked to take it in place of `key`. */
  readonly nextKey?: string | undefined;
  /** Absent until the CA has said it. */
  readonly url?: string | undefined;
  /** Mail addresses that the CA was told. */
  readonly contact: readonly string[];
}

const form: z.ZodType<AccountRecord> = z.object({
  directory: z.string(),
  key: z.string(),
  nextKey: z.string().optional(),
  url: z.string().optional(),
  contact: z.array(z.string()),
});

/** @throws {Fault} CERT_ACCOUNT_UNREADABLE */
export function parseAccountRecord(bytes: Uint8Array, path: string): AccountRecord {
  try {
    return form.parse(JSON.parse(Buffer.from(bytes).toString()));
  } catch (cause) {
    throw new Fault("CERT_ACCOUNT_UNREADABLE", `Cannot read "${path}" of the certificate store: not an ACME account`, {
      cause,
      hint: "Restore it from a backup, or delete it to make a new account.",
    });
  }
}
