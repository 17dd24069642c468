import type { ServeConfig } from "../../wire/serve-config.ts";
import { CliExit, type CliIo } from "../io.ts";
import type { LocalClient } from "../local-client.ts";
import { ask, isYes } from "../question.ts";
import { terminalText } from "../terminal-text.ts";
import { placeOf, publicPlaces } from "./funnel-proof.ts";
import type { ServeChange } from "./serve-args.ts";

/** What a command says of who may come. */
export type DoorWish = Pick<ServeChange, "kind" | "mount" | "door" | "isPublic" | "visitors" | "yes">;

/**
 * Before something is public: which door stands before `site` (`name:port`)? Who said none is asked once, on a terminal;
 * a script is warned. The answer is whether to go on.
 */
export async function settleDoor(
  wish: DoorWish,
  site: string,
  wasPublic: boolean,
  io: CliIo,
  client: LocalClient,
): Promise<boolean> {
  const { door, mount } = wish;
  const takesDoors = wish.kind === "https"; // a door is a page
  if (door !== undefined) {
    if (!takesDoors) throw new CliExit("error: --door needs HTTPS, and TCP has none: use --https");
    await client.setDoor(site, mount, door);
    return true;
  }
  const standing = await client.doorAt(site, mount);
  if (standing === undefined) return true; // another daemon, which knows no doors
  if (standing.isDemanded === true && (standing.door === undefined || !takesDoors))
    return demanded(site, mount, takesDoors, io, client);
  if (wish.isPublic && takesDoors && standing.door !== undefined) {
    if (standing.isDemanded === true) throw new CliExit(`error: ${refusal(site)}: --public cannot take it away`);
    await client.setDoor(site, mount, "");
    const left = (await client.doorAt(site, mount))?.door;
    if (left) io.stderr(`The services file keeps door ${terminalText(left)} before ${terminalText(site)}\n`);
  }
  const isForFew = (wish.visitors?.allow.length ?? 0) > 0;
  if (wish.isPublic || wasPublic || isForFew || (takesDoors && standing.door !== undefined)) return true;
  const who = `Anyone on the internet may use ${terminalText(mount === "/" ? site : site + mount)}`;
  if (!io.isTerminal || wish.yes) {
    const doors = takesDoors ? "--door NAME puts a door before it, " : "";
    io.stderr(`Warning: ${who}: ${doors}--public says that this is meant\n`);
    return true;
  }
  const names = takesDoors ? (await client.doors()).doors.map(({ name }) => name) : [];
  const choice = names.length === 0 ? "" : `, or the name of a door (${names.map(terminalText).join(", ")})`;
  const answer = await ask(`${who}, without login. Continue? [y/N${choice}] `, io);
  if (names.includes(answer)) {
    await client.setDoor(site, mount, answer);
    return true;
  }
  if (!isYes(answer)) io.stderr("Nothing has changed.\n");
  return isYes(answer);
}

/** Puts back what was asked of visitors of `site` until now: a command that fails has changed nothing. */
export async function standingRules(
  { mount, visitors }: Pick<ServeChange, "mount" | "visitors">,
  site: string,
  client: LocalClient,
): Promise<() => Promise<void>> {
  const doorNow = async (): Promise<string> => (await client.doorAt(site, mount))?.door ?? "";
  const door = await doorNow();
  const { allow = [], deny = [] } = (visitors === undefined ? undefined : await client.visitorRules(site)) ?? {};
  return async () => {
    if ((await doorNow()) !== door) await client.setDoor(site, mount, door);
    if (visitors !== undefined) await client.setVisitorRules(site, { allow, deny });
  };
}

/** The network's policy wants a door and there is none: whoever sits at a terminal may name one. */
async function demanded(
  site: string,
  mount: string,
  takesDoors: boolean,
  io: CliIo,
  client: LocalClient,
): Promise<boolean> {
  if (!takesDoors) throw new CliExit(`error: ${refusal(site)}: TCP has none, use --https`);
  const names = (await client.doors()).doors.map(({ name }) => name);
  const choice = names.map(terminalText).join(", ");
  if (names.length === 0) throw new CliExit(`error: ${refusal(site)}: the services file declares none (docs/doors.md)`);
  if (!io.isTerminal) throw new CliExit(`error: ${refusal(site)}: --door NAME, one of ${choice}`);
  const answer = await ask(`${refusal(site)}. Which one? [${choice}] `, io);
  if (!names.includes(answer)) {
    io.stderr("Nothing has changed.\n");
    return false;
  }
  await client.setDoor(site, mount, answer);
  return true;
}

const refusal = (site: string): string =>
  `the network's policy demands a door before what is public, so before ${terminalText(site)}`;

/** What was to be public and is kept closed; who may not ask for doors is told nothing of them. */
export async function closedWarnings(
  config: ServeConfig,
  ownName: string,
  client: LocalClient,
): Promise<readonly string[]> {
  const warnings: string[] = [];
  for (const target of publicPlaces(config, ownName)) {
    const site = placeOf(target);
    const standing = await client.doorAt(site, "/").catch(() => undefined);
    const isClosed = standing?.isDemanded === true && (standing.door === undefined || !target.isHttp);
    if (isClosed) warnings.push(`Warning: visitors do not get to ${terminalText(site)}: ${refusal(site)}`);
  }
  return warnings;
}
