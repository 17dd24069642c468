import { goJson } from "../config/serve-document.ts";
import type { IpnStatus, PeerStatus } from "../wire/ipn.ts";
import { booleanFlag, parseFlags } from "./flags.ts";
import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { stateRefusal } from "./node-state.ts";
import { shortName } from "./peers.ts";
import { funnelBlock, nodeName } from "./serve/serve-text.ts";
import { terminalLines, terminalText } from "./terminal-text.ts";

const USAGE =
  "Show this node and its peers\n\nUSAGE\n  sallyport status [--json] [--active] [--self] [--peers] [--header]\n";
const flags = {
  json: booleanFlag(false),
  active: booleanFlag(false),
  self: booleanFlag(true),
  peers: booleanFlag(true),
  header: booleanFlag(false),
};

export async function status(args: readonly string[], io: CliIo, client: LocalClient): Promise<number> {
  const parsed = parseFlags(flags, args);
  if (parsed.kind !== "values") {
    io.stderr(parsed.kind === "help" ? USAGE : `${terminalLines(parsed.text)}\n${USAGE}`);
    return parsed.kind === "help" ? 0 : 2;
  }
  if (parsed.rest.length > 0) throw new CliExit("unexpected non-flag arguments to 'sallyport status'");
  const { values } = parsed;
  const found = await client.status({ peers: values.peers });
  if (values.json) {
    io.stdout(terminalLines(goJson(values.active ? onlyActive(found) : found, "  ")));
    return 0;
  }
  const refusal = stateRefusal(found);
  // Unlike upstream, which keeps to itself why: whoever finds the node out of the mesh learns what happened.
  const why = found.BackendState === "NeedsLogin" ? healthText(found) : "";
  if (refusal !== undefined) throw new CliExit(`${refusal}\n${why}`.trimEnd(), 1, "stdout");
  io.stdout(table(found, values));
  io.stdout(healthText(found));
  io.stdout(certificatesText(found));
  const { config } = await client.serveConfig();
  const funnel = funnelBlock(config, nodeName(found));
  if (funnel !== "") io.stdout(funnel);
  return 0;
}

function healthText({ Health }: IpnStatus): string {
  if (Health === null || Health === undefined || Health.length === 0) return "";
  return `\n# Health check:\n${Health.map((line) => `#     - ${terminalText(line)}\n`).join("")}`;
}

/** What was seen, and when: an old look at a store that is gone says so itself. */
function certificatesText({ Certificates = [] }: IpnStatus): string {
  if (Certificates.length === 0) return "";
  const lines = Certificates.map(({ Names, State, Authority, NotAfter, Observed }) => {
    const until = NotAfter === "" ? "" : ` until ${NotAfter.slice(0, 10)}`;
    const from = Authority === "" ? "" : ` by ${Authority}`;
    return `#     - ${Names.join(" ")}: ${State}${until}${from}, seen ${Observed.slice(0, 16)}Z`;
  });
  return `\n# Certificates:\n${lines.map((line) => `${terminalText(line)}\n`).join("")}`;
}

function onlyActive(found: IpnStatus): IpnStatus {
  const kept = Object.entries(found.Peer ?? {}).filter(([, peer]) => peer.Active);
  return { ...found, Peer: Object.fromEntries(kept) };
}

interface Shown {
  readonly active: boolean;
  readonly self: boolean;
  readonly peers: boolean;
  readonly header: boolean;
}

function table(found: IpnStatus, shown: Shown): string {
  const rows: string[][] = shown.header ? [["IP", "Hostname", "Owner", "OS", "Status"]] : [];
  if (shown.self) rows.push(row(found.Self, found));
  if (shown.peers) {
    const peers = Object.values(found.Peer ?? {}).filter((peer) => !peer.ShareeNode && (!shown.active || peer.Active));
    peers.sort((left, right) => (shortName(left) < shortName(right) ? -1 : 1));
    rows.push(...peers.map((peer) => row(peer, found)));
  }
  const widths = [0, 1, 2, 3].map((column) => Math.max(0, ...rows.map((cells) => [...(cells[column] ?? "")].length)));
  return rows
    .map(
      (cells) =>
        `${cells.map((cell, at) => cell + " ".repeat(Math.max(0, (widths[at] ?? 0) - [...cell].length))).join("  ")}  \n`,
    )
    .join("");
}

function row(peer: PeerStatus, found: IpnStatus): string[] {
  const cells = [peer.TailscaleIPs?.[0] ?? "", shortName(peer), owner(peer, found), peer.OS, activity(peer)];
  return cells.map(terminalText);
}

/** The login up to and including `@`. */
function owner(peer: PeerStatus, found: IpnStatus): string {
  const id = peer.AltSharerUserID || peer.UserID;
  const login = found.User?.[String(id)]?.LoginName;
  if (login === undefined || login === "") return "-";
  const at = login.indexOf("@");
  return at < 0 ? login : login.slice(0, at + 1);
}

function activity(peer: PeerStatus): string {
  const notes: string[] = [];
  if (!peer.Active) {
    if (peer.ExitNode) notes.push("idle; exit node");
    else if (peer.ExitNodeOption) notes.push("idle; offers exit node");
    else if ((peer.TxBytes ?? 0) + (peer.RxBytes ?? 0) > 0) notes.push("idle");
    else notes.push("-");
  } else {
    const extra = peer.ExitNode ? "; exit node" : peer.ExitNodeOption ? "; offers exit node" : "";
    const path = peer.CurAddr
      ? `; direct ${peer.CurAddr}`
      : peer.PeerRelay
        ? `; peer-relay ${peer.PeerRelay}`
        : peer.Relay
          ? `; relay "${peer.Relay}"`
          : "";
    notes.push(`active${extra}${path}`);
  }
  if (peer.Online === false) notes.push(`offline${lastSeen(peer.LastSeen)}`);
  if ((peer.TxBytes ?? 0) + (peer.RxBytes ?? 0) > 0) notes.push(`tx ${peer.TxBytes ?? 0} rx ${peer.RxBytes ?? 0}`);
  const isOffline = notes.some((note) => note.startsWith("offline"));
  return (isOffline && notes[0] === "-" ? notes.slice(1) : notes).join(", ");
}

function lastSeen(text: string | undefined): string {
  if (text === undefined || text.startsWith("0001-")) return "";
  const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(text)) / 60_000));
  if (Number.isNaN(minutes)) return "";
  if (minutes < 60) return `, last seen ${minutes}m ago`;
  if (minutes < 48 * 60) return `, last seen ${Math.floor(minutes / 60)}h ago`;
  return `, last seen ${Math.floor(minutes / 1440)}d ago`;
}
