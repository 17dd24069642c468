import { booleanFlag, parseFlags } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { terminalLines } from "./terminal-text.ts";

type Run = (args: readonly string[], io: CliIo, client: LocalClient) => Promise<number>;

/** A command that prints one document of the gateway as it stands, for files and other programs. */
function printing(name: string, path: string, about: string): Run {
  const usage = `${about}\n\nUSAGE\n  sallyport ${name}\n`;
  return async (args, io, client) => {
    const parsed = parseFlags({}, args);
    if (parsed.kind !== "values") {
      io.stderr(parsed.kind === "help" ? usage : `${terminalLines(parsed.text)}\n${usage}`);
      return parsed.kind === "help" ? 0 : 2;
    }
    if (parsed.rest.length > 0) throw new CliExit(`too many arguments, wanted none\n${usage}`);
    const { body } = await client.document(path);
    io.stdout(body.endsWith("\n") ? body : `${body}\n`);
    return 0;
  };
}

export const ca: Run = printing("ca", "/ca.pem", "Print the local CA's certificate, for clients that are to trust it");
export const jwks: Run = printing("jwks", "/jwks.json", "Print the public keys of Sallyport-Assertion (a JWK set)");
export const metrics: Run = printing("metrics", "/metrics", "Print metrics, in Prometheus' text format");

const healthUsage = "Say whether the gateway does its work; exit 0 only if so\n\nUSAGE\n  sallyport health [--json]\n";

export const health: Run = async (args, io, client) => {
  const parsed = parseFlags({ json: booleanFlag(false) }, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? healthUsage : `${terminalLines(parsed.text)}\n${healthUsage}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const { status, body } = await client.document("/healthz", [200, 503]);
  if (parsed.values.json) io.stdout(body);
  else {
    const { problems } = JSON.parse(body) as { readonly problems: readonly string[] };
    io.stdout(`${status === 200 ? "ok" : "failing"}\n`);
    for (const problem of problems) io.stdout(`- ${terminalLines(problem)}\n`);
  }
  return status === 200 ? 0 : 1;
};
