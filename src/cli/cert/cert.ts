import { systemRandom } from "../../base/random.ts";
import type { CertificateStatus } from "../../certs/keeper.ts";
import { durationFlag, parseFlags, textFlag } from "../flags.ts";
import { CliExit, type CliIo } from "../io.ts";
import type { LocalClient } from "../local-client.ts";
import { terminalLines, terminalText } from "../terminal-text.ts";
import { certificateCommands } from "./cert-commands.ts";
import { writeIfChanged } from "./cert-files.ts";

const USAGE = `Get TLS certificates

USAGE
  sallyport cert [--cert-file=FILE] [--key-file=FILE] [--min-validity=DURATION] <name>
  sallyport cert list [--json]        what this gateway has, and until when
  sallyport cert renew <name>         a new one now
  sallyport cert revoke <name>        tell the CA not to stand for it any longer
  sallyport cert export <name> <dir>  key and chain as files for another program
  sallyport cert roll-key <ca>        a new key for our account there
  sallyport cert budget [--json]      what the CAs still allow
  sallyport cert doctor [<name>]      DNS records that keep others from getting one

FLAGS
  --cert-file FILE         chain, "-" for standard output (default: NAME.crt, unless --key-file is given)
  --key-file FILE          key, "-" for standard output; PKCS #12 with an empty password where it ends in .p12 or .pfx
                            (default: NAME.key, unless --cert-file is given)
  --min-validity DURATION  renew if less is left, such as 720h
`;
const flags = { "cert-file": textFlag(), "key-file": textFlag(), "min-validity": durationFlag(0) };

/** Upstream's `cert`, and what is ours beside it. No name is a single word, so the two never meet. */
export async function cert(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const [word = ""] = args;
  const command = Object.hasOwn(certificateCommands, word) ? certificateCommands[word] : undefined;
  if (command !== undefined) return command(args.slice(1), io, client);
  const parsed = parseFlags(flags, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  const [name] = parsed.rest;
  if (name === undefined || parsed.rest.length > 1) {
    throw new CliExit(`Usage: sallyport cert [flags] <domain>${await hint(client)}`);
  }
  const { values } = parsed;
  let [certFile, keyFile] = [values["cert-file"], values["key-file"]];
  const say = certFile === "-" || keyFile === "-" ? io.stderr : io.stdout;
  if (certFile === "" && keyFile === "") {
    const base = name.replace("*.", "wildcard_.");
    [certFile, keyFile] = [`${base}.crt`, `${base}.key`];
  }
  await warnOfPublication(name, io, client);
  const pair = await client.certificatePair(name, values["min-validity"], (waiting) => {
    io.stderr(`Waiting for the certificate: ${terminalText(waiting)}\n`);
  });
  if (certFile !== "") {
    const isNew = await writeIfChanged(certFile, pair.chain, 0o644, io);
    if (certFile !== "-")
      say(`${isNew ? "Wrote public cert to" : "Public cert unchanged at"} ${terminalText(certFile)}\n`);
  }
  if (keyFile !== "") {
    const isNew = await writeIfChanged(keyFile, await keyContent(keyFile, pair), 0o600, io);
    if (keyFile !== "-")
      say(`${isNew ? "Wrote private key to" : "Private key unchanged at"} ${terminalText(keyFile)}\n`);
  }
  return 0;
}

/** PKCS #12 by the name of the file, with an empty password, as upstream has it. */
async function keyContent(
  file: string,
  pair: { readonly key: string; readonly chain: string },
): Promise<string | Uint8Array> {
  if (!/\.(?:p12|pfx)$/.test(file)) return pair.key;
  const { pkcs12Of } = await import("../../certs/pkcs12.ts");
  return pkcs12Of(pair, systemRandom);
}

/** Before it is ordered for the first time: that cannot be taken back. */
async function warnOfPublication(name: string, io: CliIo, client: LocalClient): Promise<void> {
  const known = (await client.certificates().catch(() => [])) as readonly CertificateStatus[];
  const found = known.find(({ names }) => names.includes(name.toLowerCase()));
  if (found?.state !== "none") return;
  const names = terminalText(found.names.join(", "));
  io.stderr(`Everybody will be able to read in certificate transparency logs: ${names}\n`);
}

/** What could be asked for, in upstream's words. */
async function hint(client: LocalClient): Promise<string> {
  const status = await client.status({ peers: false }).catch(() => undefined);
  if (status === undefined) return "";
  if (status.BackendState !== "Running") return "\nSallyport is not running.\n";
  const domains = status.CertDomains ?? [];
  if (domains.length === 0) return "\nHTTPS cert support is not enabled/configured for your tailnet.\n";
  if (domains.length === 1) return `\nFor domain, use ${JSON.stringify(domains[0])}.\n`;
  return `\nValid domain options: [${domains.map((one) => JSON.stringify(one)).join(" ")}].\n`;
}
