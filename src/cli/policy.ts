import { parseArgs } from "node:util";
import { Fault } from "../base/fault.ts";
import { readPolicy } from "../coordination/policy/document.ts";
import { type Explanation, explainPolicy } from "../coordination/policy/explain.ts";
import { compilePolicy } from "../coordination/policy/policy.ts";
import { readGivenFile } from "./given-file.ts";
import { CliExit, type CliIo } from "./io.ts";
import { terminalLines } from "./terminal-text.ts";

const USAGE = `sallyport policy: a policy file, without a server

  sallyport policy check FILE                               is it sound?
  sallyport policy test FILE                                do its own tests and sshTests hold?
  sallyport policy explain FILE SRC DST:PORT [--proto udp] [--json]
                                                            may SRC reach DST:PORT, and by which lines?

SRC and DST: a user, tag, group, host or address. explain ends with 0 for yes and 1 for no.
`;

/** `sallyport policy`: what can be said of a policy from its file alone. */
export async function policy(args: readonly string[], io: CliIo): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { proto: { type: "string" }, json: { type: "boolean" }, help: { type: "boolean", short: "h" } },
  });
  const [verb, file, source, target, ...rest] = positionals;
  if (values.help === true) {
    io.stdout(USAGE);
    return 0;
  }
  if (file === undefined || rest.length > 0) throw new CliExit(USAGE, 2);
  const text = await readGivenFile(file, "a policy file");
  try {
    return answerTo(text, file, io, { verb, source, target, ...values });
  } catch (thrown) {
    throw placed(thrown, file);
  }
}

interface Question {
  readonly verb: string | undefined;
  readonly source: string | undefined;
  readonly target: string | undefined;
  readonly proto?: string | undefined;
  readonly json?: boolean | undefined;
}

function answerTo(text: string, file: string, io: CliIo, question: Question): number {
  const { verb, source, target, proto, json } = question;
  if ((verb === "check" || verb === "test") && source === undefined) {
    compilePolicy(text, { file }); // runs its tests; throws with line and column
    const { tests, sshTests } = readPolicy(text, file, {});
    const count = tests.length + sshTests.length;
    if (verb === "test" && count === 0) throw new CliExit(`${file} has no tests: wanted "tests" or "sshTests"`);
    io.stdout(terminalLines(verb === "check" ? `${file} is sound.\n` : `${file}: ${count} tests hold.\n`));
    return 0;
  }
  if (verb !== "explain" || source === undefined || target === undefined) throw new CliExit(USAGE, 2);
  const answer = explainPolicy(text, file, { source, target, ...(proto === undefined ? {} : { protocol: proto }) });
  const shown = json === true ? `${JSON.stringify(answer, undefined, 2)}\n` : told(answer, source, target);
  io.stdout(terminalLines(shown));
  return answer.isAllowed ? 0 : 1;
}

/** A fault of a policy file with its place in front; anything else as it is. */
export function placed(thrown: unknown, file: string): unknown {
  if (!(thrown instanceof Fault) || !/^(POLICY|HUJSON)_/.test(thrown.code)) return thrown;
  const { line, column, hint, message, code } = thrown;
  const place = line === undefined || code === "HUJSON_SYNTAX" ? "" : `${file}: line ${line}, column ${column}: `;
  return new CliExit(terminalLines(`${place}${message}${hint === undefined ? "" : `\n${hint}`}`));
}

function told(answer: Explanation, source: string, target: string): string {
  const lines = (places: Explanation["allowedBy"]): string => places.map(({ line }) => line).join(", ");
  const { isAllowed, allowedBy, reason, capabilities, grantedBy } = answer;
  const why = allowedBy.length > 0 ? `line ${lines(allowedBy)}` : "the policy has no rules, and allows all";
  const held = Object.entries(capabilities).map(([name, value]) => `  ${name} ${JSON.stringify(value ?? [])}\n`);
  return [
    isAllowed ? `${source} may reach ${target}: ${why}\n` : `${source} may not reach ${target}: ${reason}\n`,
    ...(held.length === 0 ? [] : [`with capabilities, by line ${lines(grantedBy)}:\n`, ...held]),
  ].join("");
}
