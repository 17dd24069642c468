import { globSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";

/** The house: imports go down only, never up, never sideways. docs/design/0001-the-house.md. */
const floors: readonly (readonly string[])[] = [
  ["base"],
  ["wire", "crypto"],
  ["mesh", "identity", "certs", "config"],
  ["proxy", "funnel", "connectors", "coordination", "derp"],
  ["gateway", "server", "testnet"],
  ["cli"],
];
const floorOf = new Map(floors.flatMap((folders, floor) => folders.map((folder) => [folder, floor] as const)));
const meshRooms = ["udp", "wireguard", "filter", "tcpip", "paths", "derp", "control", "dns"];
/** `src/index.ts` and `src/bin.ts` are the package's door, above all floors. */
const DOOR = floors.length;

const source = path.resolve(import.meta.dirname, "../src");
const files = globSync("**/*.ts", { cwd: source }).filter((file) => !file.endsWith(".test.ts"));

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(source, file), "utf8");
  const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)].map((match) => match[1]!);
  return specifiers.map((specifier) => path.relative(source, path.resolve(source, path.dirname(file), specifier)));
}

const folderOf = (file: string) => (file.includes("/") ? file.split("/")[0]! : "");
const levelOf = (file: string) => (folderOf(file) === "" ? DOOR : floorOf.get(folderOf(file)));

describe("the house", () => {
  test("every folder stands on a floor", () => {
    const homeless = files.filter((file) => levelOf(file) === undefined);
    expect(homeless).toEqual([]);
  });

  test("imports go down, never up or sideways", () => {
    const broken = files.flatMap((file) =>
      importsOf(file)
        .filter((target) => folderOf(target) !== folderOf(file) && !(levelOf(target)! < levelOf(file)!))
        .map((target) => `${file} -> ${target}`),
    );
    expect(broken).toEqual([]);
  });

  test("the rooms of the mesh do not import each other", () => {
    const roomOf = (file: string) => {
      const [folder, room] = file.split("/");
      return folder === "mesh" && meshRooms.includes(room!) ? room : undefined;
    };
    const broken = files.flatMap((file) =>
      importsOf(file)
        .filter((target) => roomOf(file) !== undefined && target.startsWith("mesh/") && roomOf(target) !== roomOf(file))
        .map((target) => `${file} -> ${target}`),
    );
    expect(broken).toEqual([]);
  });

  test("only the cli and the places of wiring know the config file", () => {
    const broken = files.flatMap((file) =>
      importsOf(file)
        .filter(
          (target) => folderOf(target) === "config" && !["config", "gateway", "server", "cli"].includes(folderOf(file)),
        )
        .map((target) => `${file} -> ${target}`),
    );
    expect(broken).toEqual([]);
  });

  test("no file but a command writes to the console", () => {
    const loud = files.filter((file) => /\bconsole\.\w+\(/.test(readFileSync(path.join(source, file), "utf8")));
    expect(loud).toEqual([]);
  });
});
