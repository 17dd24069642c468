import { CliExit, type CliIo } from "./io.ts";
import type { LocalClient } from "./local-client.ts";
import { ask, isYes } from "./question.ts";
import type { ServeChange } from "./serve-args.ts";
import { terminalText } from "./terminal-text.ts";

/** What a command says of who may come. */
export type DoorWish = Pick<ServeChange, "kind" | "mount" | "door" | "isPublic" | "yes">;

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
    await client.setDoor(site, door);
    return true;
  }
  const standing = await client.doorAt(site, mount);
  if (standing === null) return true; // another daemon, which knows no doors
  if (wish.isPublic && takesDoors && standing !== undefined) {
    await client.setDoor(site, "");
    const left = await client.doorAt(site, mount);
    if (left) io.stderr(`The services file keeps door ${terminalText(left)} before ${terminalText(site)}\n`);
  }
  if (wish.isPublic || wasPublic || (takesDoors && standing !== undefined)) return true;
  const who = `Anyone on the internet may use ${terminalText(site)}`;
  if (!io.isTerminal || wish.yes) {
    const doors = takesDoors ? "--door NAME puts a door before it, " : "";
    io.stderr(`Warning: ${who}: ${doors}--public says that this is meant\n`);
    return true;
  }
  const names = takesDoors ? (await client.doors()).doors.map(({ name }) => name) : [];
  const choice = names.length === 0 ? "" : `, or the name of a door (${names.map(terminalText).join(", ")})`;
  const answer = await ask(`${who}, without login. Continue? [y/N${choice}] `, io);
  if (names.includes(answer)) {
    await client.setDoor(site, answer);
    return true;
  }
  if (!isYes(answer)) io.stderr("Nothing has changed.\n");
  return isYes(answer);
}
