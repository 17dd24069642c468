import { readFile } from "node:fs/promises";
import { Fault, messageOf } from "../../../base/fault.ts";
import type { DnsProvider } from "../dns-provider.ts";
import { type ApiAnswer, callApi, type Fetch, refusal } from "./provider-api.ts";

const SERVICE = "acme-dns";

export interface AcmeDnsOptions {
  /** `https://auth.example.com`. */
  readonly api: string;
  /** JSON, a name of ours → its account there; made and filled by us where a name is missing. */
  readonly registrations: string;
  readonly fetch: Fetch;
  /** Writes the file whole, readable by us alone. */
  readonly writeFile: (path: string, text: string) => Promise<void>;
}

/** What `/register` answers (github.com/joohoi/acme-dns). */
export interface AcmeDnsAccount {
  readonly username: string;
  readonly password: string;
  readonly subdomain: string;
  /** Where `_acme-challenge` of the name is led by CNAME. */
  readonly fulldomain: string;
}

type Registrations = Readonly<Record<string, AcmeDnsAccount>>;

/** A small DNS server for nothing but challenges, which holds the last two values of a name. */
export function acmeDnsProvider(options: AcmeDnsOptions): DnsProvider {
  const { fetch, registrations } = options;
  const api = options.api.replace(/\/$/, "");
  let writing: Promise<unknown> = Promise.resolve();

  async function read(): Promise<Registrations> {
    const text = await readFile(registrations, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "{}";
      throw new Fault("CERT_CHALLENGE_SECRET", `Cannot read "${registrations}": ${error.message}`);
    });
    const found = accountsIn(text);
    if (found !== undefined) return found;
    throw new Fault("CERT_CHALLENGE_SECRET", `Cannot read "${registrations}": wanted JSON, a name → its account`);
  }

  /** One at a time: the file is read, added to and written. */
  function registered(name: string, signal: AbortSignal): Promise<AcmeDnsAccount> {
    const made = writing.then(async () => {
      const known = await read();
      if (Object.hasOwn(known, name)) return known[name]!;
      const answer = await callApi(fetch, { ...post("/register"), signal });
      const account = answer.status === 201 ? accountIn(answer) : undefined;
      if (account === undefined) throw refusal(SERVICE, "register a name", answer);
      await options.writeFile(registrations, `${JSON.stringify({ ...known, [name]: account }, undefined, 2)}\n`);
      return account;
    });
    writing = made.catch(() => undefined);
    return made;
  }

  const post = (path: string) => ({
    ...{ service: SERVICE, method: "POST", url: `${api}${path}` },
    headers: { "content-type": "application/json" },
  });

  return {
    async set(record, value, signal) {
      const account = Object.values(await read()).find(({ fulldomain }) => fulldomain.toLowerCase() === record);
      if (account === undefined) {
        // The record leads nowhere yet: say what a person has to write, once.
        const { fulldomain } = await registered(record.replace(/^_acme-challenge\./, ""), signal);
        throw new Fault(
          "CERT_CHALLENGE_ALIAS",
          `Cannot prove "${record}": it is not led to ${SERVICE}, wanted a CNAME`,
          {
            hint: `Add this record and leave it there: ${record}. CNAME ${fulldomain}.`,
          },
        );
      }
      const headers = { "x-api-user": account.username, "x-api-key": account.password, ...post("").headers };
      const body = JSON.stringify({ subdomain: account.subdomain, txt: value });
      const answer = await callApi(fetch, { ...post("/update"), headers, body, signal });
      if (answer.status !== 200) throw refusal(SERVICE, "write a record", answer);
    },
    // It has no such request: the next values push the old ones out.
    remove: async () => {},
  };
}

function accountIn({ text }: ApiAnswer): AcmeDnsAccount | undefined {
  try {
    return asAccount(JSON.parse(text));
  } catch (error) {
    throw new Fault("CERT_CHALLENGE_PROVIDER", `Cannot read an answer of ${SERVICE}: ${messageOf(error)}`);
  }
}

function asAccount(value: unknown): AcmeDnsAccount | undefined {
  const { username, password, subdomain, fulldomain } = (value ?? {}) as Partial<AcmeDnsAccount>;
  const isWhole = [username, password, subdomain, fulldomain].every((part) => typeof part === "string" && part !== "");
  return isWhole
    ? { username: username!, password: password!, subdomain: subdomain!, fulldomain: fulldomain! }
    : undefined;
}

function accountsIn(text: string): Registrations | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    const accounts = Object.entries(value).map(([name, one]) => [name, asAccount(one)] as const);
    return accounts.some(([, account]) => account === undefined)
      ? undefined
      : (Object.fromEntries(accounts) as Registrations);
  } catch {
    return undefined;
  }
}
