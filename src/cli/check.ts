import { Fault } from "../base/fault.ts";
import { nodeServeConfig, servedHosts } from "../config/node-serve-config.ts";
import { readServices, type ServicesConfig } from "../config/services.ts";
import { certificatePlan } from "../gateway/certificates/certificate-plan.ts";
import { CliExit, type CliIo } from "./io.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

/** Which names become public for good, before they do. The node's own name is known to the mesh's server alone. */
function certificateWords(config: ServicesConfig): string {
  const facts = { certDomains: [], ownName: "", ownWildcard: false, hasFile: () => false };
  const { AllowFunnel = {} } = nodeServeConfig(config, "");
  const visited = Object.keys(AllowFunnel).flatMap((key) => (key.endsWith(":443") ? [key.slice(0, -4)] : []));
  const plan = certificatePlan({ ...facts, visited, settings: config.certificates, served: servedHosts(config) });
  const lines = plan.unprovable.map(
    (name) => `Warning: no configured challenge can prove ${name} to a CA: the local CA signs for it`,
  );
  if (plan.published.length > 0) {
    lines.push(
      `Names that everybody can read in certificate transparency logs: ${plan.published.join(", ")}`,
      ...(plan.published.some((name) => name.startsWith("*.")) ? [] : ['("wildcards" keeps single names out of them)']),
    );
  }
  return lines.map((line) => `${terminalText(line)}\n`).join("");
}

/** `sallyport check FILE`: is this services file right? Reads nothing else, changes nothing. */
export async function check(args: readonly string[], io: CliIo): Promise<number> {
  const [file] = args;
  if (file === undefined || args.length > 1 || file.startsWith("-")) {
    io.stderr("Check a services file\n\nUSAGE\n  sallyport check <file>\n");
    return file === undefined || /^--?h(elp)?$/.test(file) ? 0 : 2;
  }
  try {
    const found = await readServices(file);
    for (const warning of found.warnings) io.stderr(`Warning: ${terminalText(warning)}\n`);
    io.stderr(certificateWords(found));
    io.stdout(`${terminalText(file)}: ${found.node.length} endpoints of the node, ${found.services.size} services\n`);
    return 0;
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown;
    throw new CliExit(terminalLines(thrown.hint === undefined ? thrown.message : `${thrown.message}\n${thrown.hint}`));
  }
}
