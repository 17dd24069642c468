import { mkdir } from "node:fs/promises";
import path from "node:path";
import type { BudgetLine } from "../../certs/budget.ts";
import type { CertificateStatus } from "../../certs/keeper.ts";
import { goJson } from "../../config/serve-document.ts";
import { booleanFlag, parseFlags } from "../flags.ts";
import { CliExit, type CliIo } from "../io.ts";
import type { LocalClient } from "../local-client.ts";
import { table } from "../table.ts";
import { terminalLines, terminalText } from "../terminal-text.ts";
import { writeIfChanged } from "./cert-files.ts";

type Run = (args: readonly string[], io: CliIo, client: LocalClient) => Promise<number>;

/** A command with at most `most` words and the flag `--json`. */
function command(
  usage: string,
  [least, most]: readonly [least: number, most: number],
  act: (words: readonly string[], io: CliIo, client: LocalClient, asJson: boolean) => Promise<void>,
): Run {
  const text = `USAGE\n  sallyport cert ${usage}\n`;
  return async (args, io, client) => {
    const parsed = parseFlags({ json: booleanFlag(false) }, args);
    if (parsed.kind !== "values") {
      io.stderr(parsed.kind === "help" ? text : `${terminalLines(parsed.text)}\n${text}`);
      return parsed.kind === "help" ? 0 : 2;
    }
    if (parsed.rest.length < least || parsed.rest.length > most) throw new CliExit(`wrong number of words\n${text}`);
    await act(parsed.rest, io, client, parsed.values.json);
    return 0;
  };
}

const list = command("list [--json]", [0, 0], async (_, io, client, asJson) => {
  const found = (await client.certificates()) as readonly CertificateStatus[];
  if (asJson) io.stdout(`${terminalLines(goJson(found, "  "))}\n`);
  else if (found.length === 0) io.stdout("No certificates yet: nothing is served with TLS.\n");
  else {
    io.stdout(table(["NAMES", "STATE", "FROM", "UNTIL", "RENEWED"], found.map(rowOf)));
    for (const { names, lastFailure, nextAttempt } of found) {
      if (lastFailure === undefined) continue;
      const next = nextAttempt === undefined ? "" : `; next attempt ${timeText(nextAttempt)}`;
      io.stdout(
        `${terminalText(names[0] ?? "")}: ${timeText(lastFailure.at)}, ${terminalText(lastFailure.authority)}: ${terminalText(lastFailure.message)}${next}\n`,
      );
    }
  }
});

function rowOf({ names, state, authority, notAfter, renewAt }: CertificateStatus): readonly string[] {
  return [names.join(" "), state, authority ?? "-", timeText(notAfter), timeText(renewAt)];
}

function timeText(at: number | undefined): string {
  return at === undefined ? "-" : `${new Date(at).toISOString().slice(0, 16).replace("T", " ")}Z`;
}

const renew = command("renew <name>", [1, 1], async ([name = ""], io, client) => {
  const { names, notAfter } = (await client.renewCertificate(name)) as { names: readonly string[]; notAfter: number };
  io.stdout(`New certificate for ${terminalText(names.join(", "))}, good until ${timeText(notAfter)}\n`);
});

const revoke = command("revoke <name>", [1, 1], async ([name = ""], io, client) => {
  await client.revokeCertificate(name);
  io.stdout(`Revoked the certificate for ${terminalText(name)}\n`);
});

const rollKey = command("roll-key <ca>", [1, 1], async ([authority = ""], io, client) => {
  await client.rollAccountKey(authority);
  io.stdout(`The account at ${terminalText(authority)} has a new key\n`);
});

const exported = command("export <name> <dir>", [2, 2], async ([name = "", folder = ""], io, client) => {
  const { key, chain } = await client.certificatePair(name, 0);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeIfChanged(path.join(folder, "privkey.pem"), key, 0o600, io);
  await writeIfChanged(path.join(folder, "fullchain.pem"), chain, 0o644, io);
  io.stdout(`Wrote privkey.pem and fullchain.pem to ${terminalText(folder)}\n`);
});

const LIMITS: Readonly<Record<BudgetLine["limit"], string>> = {
  certificatesPerDomainWeek: "certificates of a domain, a week",
  identicalWeek: "certificates with the same names, a week",
  failuresPerNameHour: "failed proofs of a name, an hour",
  ordersPerThreeHours: "orders of the account, three hours",
};

const budget = command("budget [--json]", [0, 0], async (_, io, client, asJson) => {
  const found = (await client.certificateBudget()) as readonly BudgetLine[];
  if (asJson) return io.stdout(`${terminalLines(goJson(found, "  "))}\n`);
  const rows = found.map(({ authority, limit, subject, used, allowed, freeAt }) => [
    authority,
    LIMITS[limit] ?? limit,
    subject ?? "-",
    `${Math.max(0, allowed - used)} of ${allowed}`,
    timeText(freeAt),
  ]);
  io.stdout(table(["CA", "LIMIT", "OF", "LEFT", "NEXT FREE"], rows));
});

const doctor = command("doctor [<name>]", [0, 1], async ([name], io, client) => {
  const names = name === undefined ? await publicNames(client) : [name];
  if (names.length === 0) io.stdout("No name here has a public certificate: there is nothing to protect.\n");
  for (const one of names) io.stdout(`${terminalText(one)}\n${indented(await client.certificateAdvice(one))}`);
});

/** What no public CA issued to us. */
const OURS: readonly string[] = ["internal", "file"];

async function publicNames(client: LocalClient): Promise<readonly string[]> {
  const found = (await client.certificates()) as readonly CertificateStatus[];
  const publicOnes = found.filter(({ authority, state }) => state !== "none" && !OURS.includes(authority ?? ""));
  return [...new Set(publicOnes.flatMap(({ names }) => names))];
}

function indented(text: string): string {
  return terminalLines(text)
    .replace(/^(?=.)/gm, "  ")
    .replace(/\n*$/, "\n");
}

/** By the word after `cert`. */
export const certificateCommands: Readonly<Record<string, Run>> = {
  list,
  renew,
  revoke,
  "roll-key": rollKey,
  export: exported,
  budget,
  doctor,
};
