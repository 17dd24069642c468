import { systemRandom } from "../../base/random.ts";
import type { NodeView } from "../../coordination/coordinator.ts";
import type { WireGuardMember } from "../../coordination/wireguard-members.ts";
import { CliExit, type CliIo } from "../io.ts";
import { qrCode } from "../qr-code.ts";
import { table } from "../table.ts";
import { terminalLines } from "../terminal-text.ts";
import { lifetime } from "./server-admin.ts";
import type { ServerClient } from "./server-client.ts";
import type { ServerValues } from "./server-flags.ts";

const NO_TERMINAL = `Cannot show a private key here: standard input and output are no terminal, wanted one
Make the key on the device (\`wg genkey | tee key | wg pubkey\`) and give --public-key KEY: nobody else ever has it.
If this output is private, --print-private-key prints it anyway.`;

/** `sallyport server wireguard …`; undefined: there is no such command. */
export async function wireGuard(
  values: ServerValues,
  [verb, name, ...rest]: readonly string[],
  client: Pick<ServerClient, "ask">,
  io: CliIo,
): Promise<number | undefined> {
  if (rest.length > 0) return undefined;
  if (verb === "add" && name !== undefined) return add(values, name, client, io);
  if (verb === "list" && name === undefined) return list(values, client, io);
  if (verb !== "remove" || name === undefined) return undefined;
  await client.ask("wireguard.remove", { node: name });
  io.stderr(`${terminalLines(name)} is removed; its tunnels are being cut.\n`);
  return 0;
}

async function add(values: ServerValues, name: string, client: Pick<ServerClient, "ask">, io: CliIo): Promise<number> {
  const { user, gateway = [], expiry } = values;
  if (user === undefined || gateway.length === 0) {
    throw new CliExit(`Cannot add "${name}": wanted --user LOGIN and --gateway NODE`, 2);
  }
  const given = values["public-key"];
  if (given === undefined && !io.isTerminal && values["print-private-key"] !== true) throw new CliExit(NO_TERMINAL);
  const made = given === undefined ? await newKey() : undefined;
  const member = await client.ask<WireGuardMember>("wireguard.add", {
    name,
    user,
    gateways: gateway,
    publicKey: given ?? made?.publicKey,
    endpoints: endpointsOf(values.endpoint ?? [], gateway),
    ...(expiry === undefined ? {} : { expiryMs: lifetime(expiry) }),
  });
  const { wireGuardFile } = await import("../../coordination/wireguard-file.ts");
  const file = wireGuardFile(member, made?.privateKey);
  io.stdout(terminalLines(file));
  if (made !== undefined && io.isTerminal) {
    io.stdout(`\n${await qrCode(file)}\n`);
    io.stderr("This private key is shown once and kept nowhere.\n");
  }
  io.stderr(`${terminalLines(member.node.name)} may use the network until ${until(member.node.expires)}.\n`);
  return 0;
}

/** Made here, so that the server never has it. */
async function newKey(): Promise<{ readonly privateKey: string; readonly publicKey: string }> {
  const { generatePrivateKey, publicKeyOf } = await import("../../crypto/keys.ts");
  const secret = generatePrivateKey(systemRandom);
  return {
    privateKey: Buffer.from(secret).toString("base64"),
    publicKey: Buffer.from(publicKeyOf(secret)).toString("base64"),
  };
}

/** `GATEWAY=HOST:PORT`; of the first gateway the name may be left out. */
function endpointsOf(given: readonly string[], gateways: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    given.map((text) => {
      const at = text.indexOf("=");
      return at < 0 ? [gateways[0], text] : [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

async function list(values: ServerValues, client: Pick<ServerClient, "ask">, io: CliIo): Promise<number> {
  const members =
    await client.ask<readonly (NodeView & { readonly gatewayNames: readonly string[] })[]>("wireguard.list");
  if (values.json === true || !io.isTerminal) {
    io.stdout(`${terminalLines(JSON.stringify(members, undefined, 2))}\n`);
    return 0;
  }
  const rows = members.map((member) => [
    String(member.id),
    member.name,
    member.ipv4,
    member.user?.login ?? "-",
    member.gatewayNames.join(",") || "none",
    member.expired ? "expired" : until(member.expires),
  ]);
  io.stdout(table(["ID", "NAME", "ADDRESS", "USER", "GATEWAYS", "EXPIRES"], rows));
  return 0;
}

const until = (ms: number | undefined): string =>
  ms === undefined ? "further notice" : new Date(ms).toISOString().slice(0, 10);
