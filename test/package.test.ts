import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { scratchFolder } from "./suites/scratch.ts";

const root = path.resolve(import.meta.dirname, "..");
const scratch = scratchFolder();
const stage = path.join(scratch, "stage");
const user = path.join(scratch, "user");
const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as { version: string };
const LONG_MS = 180_000;
/** A Node that is too old, where the machine has one beside ours. */
const oldNode = ["/usr/bin/node", "/usr/local/bin/node"].find(
  (file) => existsSync(file) && /^v(18|20|22)\./.test(run(file, ["--version"]).stdout),
);

function run(command: string, args: readonly string[], cwd = root) {
  const env = { ...process.env, PATH: `${path.join(root, "node_modules/.bin")}:${process.env["PATH"]}` };
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    env: { ...env, NODE_OPTIONS: "" },
  });
  return { status, stdout, stderr };
}

function must(command: string, args: readonly string[], cwd = root): string {
  const { status, stdout, stderr } = run(command, args, cwd);
  expect(status, `${command} ${args.join(" ")}: ${stdout}${stderr}`).toBe(0);
  return stdout;
}

function evaluate(source: string): string {
  return must(process.execPath, ["--input-type=module", "--eval", source], user);
}

/** Packed from a folder of its own: a build in dist/ would be pulled from under whoever runs it meanwhile. */
beforeAll(() => {
  mkdirSync(stage);
  mkdirSync(user);
  must(process.execPath, ["scripts/build.mjs", path.join(stage, "dist")]);
  for (const file of ["package.json", "README.md", "LICENSE", "services.example.hujson"]) {
    copyFileSync(path.join(root, file), path.join(stage, file));
  }
  must("npm", ["pack", "--loglevel=error", "--pack-destination", scratch], stage);
  writeFileSync(path.join(user, "package.json"), '{"private":true,"type":"module"}');
  const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
  must("npm", ["install", "--prefer-offline", ...quiet, `${scratch}/sallyport-${version}.tgz`], user);
}, LONG_MS);

describe("the packed tarball, in an empty folder", () => {
  test("the command runs", () => {
    expect(must(path.join(user, "node_modules/.bin/sallyport"), ["version"], user)).toContain(version);
  });

  test.skipIf(oldNode === undefined)("an old Node says so in one sentence", () => {
    const { status, stderr } = run(oldNode!, [path.join(user, "node_modules/sallyport/dist/bin.js")], user);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^sallyport: cannot run on Node \S+, wanted 24 or newer \(NODE_TOO_OLD\)\n$/);
  });

  test.each([
    ["sallyport", "createNode"],
    ["sallyport/identity", "readIdentity"],
    ["sallyport/testnet", "createTestnet"],
  ])("%s gives %s", (from, name) => {
    expect(evaluate(`import { ${name} } from "${from}"; console.log(typeof ${name})`)).toBe("function\n");
  });

  test("a backend is tested on a mesh in memory", () => {
    const source = `import { createTestnet } from "sallyport/testnet";
      import { readIdentity } from "sallyport/identity";
      const net = await createTestnet();
      const app = await net.serve(({ headers }, response) => response.end(readIdentity(headers).caller.login));
      const alice = await net.node({ user: "alice@example.com" });
      console.log(await (await alice.fetch(app.url)).text());
      await net.close();`;
    expect(evaluate(source)).toBe("alice@example.com\n");
  });

  test("types are found, and wrong uses of them", () => {
    writeFileSync(
      path.join(user, "use.ts"),
      `import { createNode } from "sallyport";
       import { readIdentity } from "sallyport/identity";
       import { createTestnet, type Testnet } from "sallyport/testnet";
       export const net: Promise<Testnet> = createTestnet({ users: ["alice@example.com"], policy: { grants: [] } });
       export const node = createNode({ controlUrl: "https://mesh.example" });
       export const login = (headers: Headers): string => {
         const caller = readIdentity(headers)?.caller;
         return caller?.kind === "user" ? caller.login : "";
       };
       // @ts-expect-error the URL is missing
       void createNode({});
       // @ts-expect-error a tagged node has no login
       export const wrong = (headers: Headers) => readIdentity(headers)?.caller.login;\n`,
    );
    const options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "esnext", "--module", "nodenext"];
    const types = ["--typeRoots", path.join(root, "node_modules/@types"), "--types", "node"];
    must("tsc", [...options, ...types, "use.ts"], user);
  });

  test("the SQLite store finds its worker", () => {
    const store = "node_modules/sallyport/dist/coordination/store/sqlite-store.js";
    const source = `import { SqliteCoordinationStore as Store } from "./${store}";
      const store = await Store.open("./mesh.sqlite"); console.log((await store.load()).users.length); await store.close();`;
    expect(evaluate(source)).toBe("0\n");
  });

  test("nothing is packed that only we need", () => {
    const files = run("find", ["node_modules/sallyport", "-type", "f"], user).stdout;
    expect(files).not.toMatch(/\.test\.|\/src\/|\/test\/|replay\//);
    expect(files).toContain("services.example.hujson");
  });

  test("SC-7 another build of the same source is the same, byte by byte", { timeout: LONG_MS }, () => {
    const again = path.join(scratch, "again");
    must(process.execPath, ["scripts/build.mjs", again]);
    expect(must("diff", ["-r", path.join(stage, "dist"), again])).toBe("");
  });

  test("publint finds nothing wrong", () => {
    expect(must("publint", ["run", stage, "--strict"])).toContain("All good!");
  });
});

test("however sallyport is started, from a checkout or as a package, Node has the same flags", () => {
  const flagsOf = (file: string, line: RegExp): string | undefined =>
    line.exec(readFileSync(path.join(root, file), "utf8"))?.[1];
  const packed = flagsOf("src/bin.ts", /^#!\/usr\/bin\/env -S node (.+)$/m);
  expect(packed).toMatch(/^--/);
  expect(flagsOf("bin/sallyport", /^exec node (.+) "\$here/m)).toBe(packed);
});
