import { EMPTY_PREFS, NOTIFY, STATE_NUMBERS } from "../wire/ipn.ts";
import { booleanFlag, durationFlag, type Flags, type Parsed, parseFlags, textFlag } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

const upFlags = {
  "auth-key": textFlag(),
  authkey: textFlag(),
  "login-server": textFlag(),
  hostname: textFlag(),
  "advertise-tags": textFlag(),
  "force-reauth": booleanFlag(false),
  timeout: durationFlag(0),
};

/** Connects, logging in when needed: with a key at once, otherwise by an address to visit. */
export async function up(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const usage =
    "Connect, logging in if needed\n\nUSAGE\n  sallyport up [--auth-key KEY] [--login-server URL] [--hostname NAME] [--advertise-tags tag:a,tag:b] [--force-reauth] [--timeout 30s]\n";
  const parsed = parse(upFlags, args, usage, io);
  if (typeof parsed === "number") return parsed;
  const { values } = parsed;
  if (parsed.rest.length > 0) throw new CliExit(`too many non-flag arguments: ["${parsed.rest.join('" "')}"]`);
  const status = await client.status({ peers: true });
  const prefs = await client.prefs();
  const tags = values["advertise-tags"] === "" ? [] : values["advertise-tags"].split(",").map((tag) => tag.trim());
  const bad = tags.find((tag) => !/^tag:[a-zA-Z][a-zA-Z0-9-]*$/.test(tag));
  if (bad !== undefined)
    throw new CliExit(`tag: "${bad}": tags must start with 'tag:', then a letter, then letters, digits or dashes`);
  const change: Record<string, unknown> = {
    WantRunning: true,
    WantRunningSet: true,
    LoggedOut: false,
    LoggedOutSet: true,
  };
  const set = (member: string, flag: string, value: unknown): void => {
    if (!parsed.given.has(flag)) return;
    change[member] = value;
    change[`${member}Set`] = true;
  };
  set("ControlURL", "login-server", values["login-server"]);
  set("Hostname", "hostname", values.hostname);
  set("AdvertiseTags", "advertise-tags", tags);
  const isRunning = status.BackendState === "Running" && !values["force-reauth"];
  const otherServer = values["login-server"] !== "" && values["login-server"] !== prefs.ControlURL;
  const key = values["auth-key"] || values.authkey;
  // A key says how to log in: a node that is in keeps its own.
  if (isRunning && !otherServer) {
    await client.editPrefs(change);
    return 0;
  }
  const limit = values.timeout > 0 ? AbortSignal.timeout(values.timeout) : undefined;
  const signal = limit === undefined ? io.signal : AbortSignal.any([limit, io.signal]);
  const stream = client.watch(NOTIFY.initialState, signal);
  try {
    const first = await stream.next();
    const next: Record<string, unknown> = { ...EMPTY_PREFS, ...prefs };
    for (const flag of Object.keys(change)) {
      const member = flag.endsWith("Set") ? flag.slice(0, -3) : undefined;
      if (member !== undefined) next[member] = change[member];
    }
    await client.start({ ...(key === "" ? {} : { AuthKey: key }), UpdatePrefs: next as typeof EMPTY_PREFS });
    if (values["force-reauth"] || (key === "" && (status.BackendState === "NeedsLogin" || otherServer)))
      await client.loginInteractive();
    let printed = "";
    const show = (url: string | null | undefined): void => {
      if (!url || url === printed) return;
      if (values["force-reauth"] && url === status.AuthURL) return; // of a login that was given up
      printed = url;
      io.stderr(`\nTo authenticate, visit:\n\n\t${terminalText(url)}\n\n`);
    };
    if (key === "" && first.done !== true) show(first.value.BrowseToURL);
    // A node that takes a new key goes on running under the one before: until it has changed, "Running" says nothing
    // (as upstream cmd/tailscale/cli/up.go waits).
    let isRenewed = !values["force-reauth"] || status.HaveNodeKey === false;
    let isUp = false;
    for await (const notify of stream) {
      if (notify.ErrMessage) throw new CliExit(`backend error: ${notify.ErrMessage}`);
      show(notify.BrowseToURL);
      if (notify.State === STATE_NUMBERS.NeedsMachineAuth) {
        io.stderr(`\nTo approve your machine, visit (as admin):\n\n\t${terminalText(prefs.ControlURL)}\n\n`);
      }
      if (typeof notify.State === "number") isUp = notify.State === STATE_NUMBERS.Running;
      const key = keyOf(notify.SelfChange);
      if (key !== undefined && key !== status.Self.PublicKey) isRenewed = true;
      if (isUp && isRenewed) {
        if (printed !== "") io.stderr("Success.\n");
        return 0;
      }
    }
  } finally {
    await stream.return();
  }
  if (limit?.aborted)
    throw new CliExit(
      'timeout waiting for Tailscale service to enter a Running state; check health with "sallyport status"',
    );
  throw new CliExit(io.signal.aborted ? "" : "the gateway ended the notification stream");
}

function keyOf(self: unknown): string | undefined {
  const key = typeof self === "object" && self !== null && "Key" in self ? self.Key : undefined;
  return typeof key === "string" ? key : undefined;
}

export async function down(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parse({ reason: textFlag() }, args, "Disconnect\n\nUSAGE\n  sallyport down\n", io);
  if (typeof parsed === "number") return parsed;
  if (parsed.rest.length > 0) throw new CliExit(`too many non-flag arguments: ["${parsed.rest.join('" "')}"]`);
  const status = await client.status({ peers: true });
  if (status.BackendState === "Stopped") {
    io.stderr("Sallyport was already stopped.\n");
    return 0;
  }
  await client.editPrefs({ WantRunning: false, WantRunningSet: true });
  return 0;
}

export async function logout(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parse(
    { reason: textFlag() },
    args,
    "Disconnect and forget this node's key\n\nUSAGE\n  sallyport logout\n",
    io,
  );
  if (typeof parsed === "number") return parsed;
  if (parsed.rest.length > 0) throw new CliExit(`too many non-flag arguments: ["${parsed.rest.join('" "')}"]`);
  await client.logout();
  return 0;
}

function parse<F extends Flags>(
  flags: F,
  args: readonly string[],
  usage: string,
  io: CliIo,
): Extract<Parsed<F>, { kind: "values" }> | number {
  const parsed = parseFlags(flags, args);
  if (parsed.kind === "values") return parsed;
  io.stderr(parsed.kind === "help" ? usage : `${terminalLines(parsed.text)}\n${usage}`);
  return parsed.kind === "help" ? 0 : 2;
}
