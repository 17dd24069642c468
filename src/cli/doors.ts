import { text } from "node:stream/consumers";
import type { DoorsDocument, Invitation } from "../gateway/doors/door-admin.ts";
import {
  formatHash,
  hashSecret,
  isPin,
  plainSecret,
  SHORTEST_PASSWORD,
  withoutMarks,
} from "../proxy/doors/secret-hash.ts";
import { booleanFlag, durationFlag, parseFlags } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { table } from "./table.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

const USAGE = `Doors before what is served, and the guests behind them

USAGE
  sallyport doors [--json]                             doors, passes and who is inside
  sallyport doors invite [flags] <door> <guest's name> a link for one guest, shown once
  sallyport doors certify [flags] <door> <name>        a client certificate and its key, shown once
  sallyport doors revoke <id>                          take back a link or certificate, or end a session, now
  sallyport doors hash [--pin]                         hash a password or PIN from standard input, for the file

FLAGS
  --for DURATION  how long the link or certificate is good (default 48h; certify: 2160h)
  --many          it may be used until then, not only once; who came in by it is out then
  --pin           it is a PIN: blanks and dashes in it do not count
  --json          as JSON
`;

const DAY_S = 24 * 3600;
const LINK_S = 2 * DAY_S;
const CERTIFICATE_S = 90 * DAY_S;

const flags = { json: booleanFlag(false), for: durationFlag(0), many: booleanFlag(false), pin: booleanFlag(false) };

export async function doors(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const [first = "", ...others] = args;
  const isCommand = ["invite", "certify", "revoke", "hash"].includes(first);
  const parsed = parseFlags(flags, isCommand ? others : args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const { values, rest, given } = parsed;
  const lastsS = (usual: number): number => (given.has("for") ? values.for / 1000 : usual);
  if (first === "invite" && rest.length === 2) {
    const made = await client.invite(rest[0]!, rest[1]!, lastsS(LINK_S), values.many);
    io.stdout(values.json ? `${JSON.stringify(made, null, 2)}\n` : inviteText(made));
  } else if (first === "certify" && rest.length === 2) {
    const made = await client.certifyGuest(rest[0]!, rest[1]!, lastsS(CERTIFICATE_S));
    io.stdout(values.json ? `${JSON.stringify(made, null, 2)}\n` : made.certificate + made.key);
  } else if (first === "revoke" && rest.length === 1) await client.revokeGuest(rest[0]!);
  else if (first === "hash" && rest.length === 0) {
    const secret = plainSecret(await text(io.stdin));
    if (secret === undefined) throw new CliExit("that is no secret, wanted one line of text in UTF-8");
    if (secret === "") throw new CliExit("nothing came on standard input");
    io.stdout(`${formatHash(await hashSecret(values.pin ? pinOf(secret) : passwordOf(secret)))}\n`);
  } else if (!isCommand && rest.length === 0) {
    const document = await client.doors();
    io.stdout(values.json ? `${JSON.stringify(document, null, 2)}\n` : documentText(document));
  } else {
    io.stderr(USAGE);
    return 2;
  }
  return 0;
}

function pinOf(secret: string): string {
  const digits = withoutMarks(secret);
  if (!isPin(digits)) throw new CliExit("that is no PIN, wanted 6 to 12 digits");
  return digits;
}

/** A hash says nothing of what it was made of: who reads it can refuse neither a short one nor the blanks of a PIN. */
function passwordOf(secret: string): string {
  if (isPin(secret)) return secret; // or a PIN, without blanks
  if (isPin(withoutMarks(secret)))
    throw new CliExit("that may be a PIN with blanks or dashes: say --pin, or leave them out");
  if (secret.length < SHORTEST_PASSWORD) {
    throw new CliExit(
      `that is too short, wanted a password of ${SHORTEST_PASSWORD} characters or a PIN of 6 digits, or more`,
    );
  }
  return secret;
}

function inviteText({ name, url, expiresAt, isOnce }: Invitation): string {
  const until = new Date(expiresAt).toISOString().slice(0, 16);
  return `${url}\n\nFor ${terminalText(name)}, ${isOnce ? "once, " : ""}until ${until}Z. It is not shown again.\n`;
}

function documentText({ doors: all, missing = [], passes, sessions }: DoorsDocument): string {
  if (all.length === 0 && missing.length === 0) return "No doors. The services file declares them.\n";
  const time = (ms: number): string => new Date(ms).toISOString().slice(0, 16);
  const rows = all.map(({ name, stops, ways, at }) => [name, stops, ways.join(", "), at.join(" ")]);
  for (const { name, at } of missing) rows.push([name, "-", "declared nowhere: 503", at.join(" ")]);
  const parts = [table(["DOOR", "STOPS", "WAYS", "AT"], rows)];
  if (passes.length > 0) {
    const of = passes.map(({ id, kind, door, name, isOnce, expiresAt }) => [
      id,
      kind,
      door,
      name,
      isOnce ? "once" : "many",
      time(expiresAt),
    ]);
    parts.push(table(["PASS", "KIND", "DOOR", "GUEST", "USES", "UNTIL"], of));
  }
  if (sessions.length > 0) {
    const of = sessions.map(({ id, door, subject, address, startedAt, connections }) => [
      id,
      door,
      subject,
      address,
      time(startedAt),
      String(connections),
    ]);
    parts.push(table(["SESSION", "DOOR", "WHO", "FROM", "SINCE", "OPEN"], of));
  }
  return parts.join("\n");
}
