import { readFileSync } from "node:fs";
import { Fault } from "../base/fault.ts";
import { loadJson, type SavedForm, saveJson } from "../base/saved-json.ts";
import type { Store } from "../base/store.ts";
import { EMPTY_PREFS, type Prefs } from "../wire/ipn.ts";

const STORED: SavedForm<Partial<Prefs>> = {
  file: "prefs.json",
  what: "the stored preferences",
  remedy: "set them again",
  read: (json) => (typeof json === "object" ? (json ?? {}) : undefined),
};
const PASSWD = "/etc/passwd";

/** What the person who runs the gateway has set; kept beside its keys. Node keys never are among it. */
export class Preferences {
  readonly #store: Store;
  #now: Prefs;

  private constructor(store: Store, now: Prefs) {
    this.#store = store;
    this.#now = now;
  }

  /** As stored, with what the command line said over it. @throws {Fault} STATE_DAMAGED */
  static async load(store: Store, given: Partial<Prefs> = {}): Promise<Preferences> {
    const stored = (await loadJson(store, STORED)) ?? { WantRunning: true };
    return new Preferences(store, { ...EMPTY_PREFS, ...stored, ...given });
  }

  get now(): Prefs {
    return this.#now;
  }

  /** @throws {Fault} PREFS_UNSUPPORTED; nothing has changed then. */
  async set(next: Prefs): Promise<void> {
    const refusal = refusalOfPrefs(next, this.#now);
    if (refusal !== undefined) throw new Fault("PREFS_UNSUPPORTED", refusal);
    const { Config: _, ...lasting } = next; // upstream's place for private keys
    await saveJson(this.#store, STORED.file, lasting);
    this.#now = next;
  }

  /** The user ID of `OperatorUser`, a name or a number. */
  operatorUid(): number | undefined {
    const name = this.#now["OperatorUser"];
    return typeof name === "string" && name !== "" ? uidOf(name) : undefined;
  }
}

/** What a gateway in userspace cannot do is refused, not stored and forgotten. */
const UNSUPPORTED: readonly (readonly [member: string, isWanted: (value: unknown) => boolean, what: string])[] = [
  ["RunSSH", (value) => value === true, "an SSH server"],
  ["RunWebClient", (value) => value === true, "the web client"],
  ["ExitNodeID", (value) => isText(value), "using an exit node"],
  ["ExitNodeIP", (value) => isText(value), "using an exit node"],
  ["AutoExitNode", (value) => isText(value), "using an exit node"],
  ["ShieldsUp", (value) => value === true, "blocking what peers send"],
  ["AdvertiseRoutes", (value) => Array.isArray(value) && value.length > 0, "advertising routes"],
  ["AppConnector", (value) => (value as { Advertise?: unknown } | null)?.Advertise === true, "an app connector"],
  ["AutoUpdate", (value) => (value as { Apply?: unknown } | null)?.Apply === true, "updating itself"],
];

/** Why these preferences cannot be, or nothing. */
export function refusalOfPrefs(next: Prefs, before: Prefs): string | undefined {
  const found = UNSUPPORTED.find(([member, isWanted]) => isWanted(next[member]));
  if (found !== undefined) return `${found[0]}: this gateway does not support ${found[2]}`;
  if (next.ControlURL !== before.ControlURL && before.ControlURL !== "" && next.ControlURL !== "") {
    return `ControlURL: this gateway belongs to ${before.ControlURL}; start it with another --login-server and --state for ${next.ControlURL}`;
  }
  const name = next["OperatorUser"];
  if (isText(name) && uidOf(String(name)) === undefined) return `OperatorUser: this machine has no user "${name}"`;
  return undefined;
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

/** Users of a directory service are named by number: only the file of the machine itself is read. */
function uidOf(name: string): number | undefined {
  if (/^\d{1,10}$/.test(name)) return Number(name);
  try {
    const line = readFileSync(PASSWD, "utf8")
      .split("\n")
      .find((one) => one.startsWith(`${name}:`));
    const uid = Number(line?.split(":")[2]);
    return Number.isSafeInteger(uid) ? uid : undefined;
  } catch {
    return undefined;
  }
}
