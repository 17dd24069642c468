import { booleanFlag, type Flag, parseFlags, textFlag } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { terminalLines } from "./terminal-text.ts";

/** By flag: the preference, and its value from the flag's. Upstream `cli/set.go`; the gateway says what it cannot do. */
const settings: Readonly<
  Record<
    string,
    { readonly flag: Flag<unknown>; readonly member: string; readonly value?: (given: unknown) => unknown }
  >
> = {
  "accept-dns": { flag: booleanFlag(true), member: "CorpDNS" },
  "accept-routes": { flag: booleanFlag(false), member: "RouteAll" },
  "advertise-routes": {
    flag: textFlag(),
    member: "AdvertiseRoutes",
    value: (given) => (given === "" ? null : String(given).split(",")),
  },
  "exit-node": { flag: textFlag(), member: "ExitNodeIP" },
  hostname: { flag: textFlag(), member: "Hostname" },
  nickname: { flag: textFlag(), member: "ProfileName" },
  operator: { flag: textFlag(), member: "OperatorUser" },
  "shields-up": { flag: booleanFlag(false), member: "ShieldsUp" },
  ssh: { flag: booleanFlag(false), member: "RunSSH" },
};

const USAGE = `Change settings of the gateway; what is not named stays as it is

USAGE
  sallyport set [flags]

FLAGS
  --hostname NAME         the name to ask the coordination server for
  --operator USER         who may drive the gateway beside root and its own user
  --accept-dns            use names of the mesh's DNS
  --accept-routes         reach subnets behind other nodes
  --nickname TEXT         what this account is called
`;

export async function set(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const flags = Object.fromEntries(Object.entries(settings).map(([name, { flag }]) => [name, flag]));
  const parsed = parseFlags(flags, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  if (parsed.rest.length > 0) throw new CliExit(`too many non-flag arguments: ["${parsed.rest.join('" "')}"]`);
  if (parsed.given.size === 0) {
    io.stderr(USAGE);
    return 2;
  }
  const change: Record<string, unknown> = {};
  for (const name of parsed.given) {
    const { member, value } = settings[name]!;
    const given = parsed.values[name];
    change[member] = value === undefined ? given : value(given);
    change[`${member}Set`] = true;
  }
  await client.editPrefs(change);
  return 0;
}
