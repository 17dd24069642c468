import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { createTestnet, type TestNode, type Testnet } from "sallyport/testnet";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { answer } from "./backend.ts";

const here = import.meta.dirname;
const scratch = mkdtempSync(path.join(tmpdir(), "sallyport-examples-"));
const processes: ChildProcess[] = [];
const SLOW_MS = 120_000;
const isThere = (command: string): boolean => spawnSync(command, ["version"]).error === undefined;

/** Starts a backend that prints its URL; gives its port. */
async function started(command: string, ...args: string[]): Promise<number> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, PORT: "0" } });
  processes.push(child);
  for await (const line of createInterface(child.stdout)) return Number(new URL(line).port);
  throw new Error(`${command} ended without a line`);
}

function python(): Promise<number> {
  return started("python3", path.join(here, "backend.py"));
}

function go(): Promise<number> {
  const binary = path.join(scratch, "backend");
  const { status, stderr } = spawnSync("go", ["build", "-o", binary, "backend.go"], { cwd: here, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return started(binary);
}

/** A CGI server that folds every mark, as RFC 3875 section 4.1.18 lets it; of two fields with one name the last wins. */
async function cgi(): Promise<Server> {
  return createServer((request: IncomingMessage, response) => {
    const env: Record<string, string> = { PATH: process.env["PATH"] ?? "" };
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      env[`HTTP_${request.rawHeaders[i]!.toUpperCase().replace(/[^A-Z0-9]/g, "_")}`] = request.rawHeaders[i + 1]!;
    }
    const child = spawn(path.join(here, "backend.cgi"), { env, stdio: ["ignore", "pipe", "inherit"] });
    const parts: Buffer[] = [];
    child.stdout.on("data", (part: Buffer) => parts.push(part));
    child.on("close", () => {
      const [head = "", body = ""] = Buffer.concat(parts).toString("utf8").split("\r\n\r\n");
      response.writeHead(Number(/^Status: (\d+)/.exec(head)?.[1] ?? 200)).end(body);
    });
  });
}

interface Stack {
  readonly name: string;
  readonly start: () => Promise<number | Server | typeof answer>;
  readonly needs: string;
  readonly requests: number;
}

const STACKS: readonly Stack[] = [
  { name: "Node", start: async () => answer, needs: "node", requests: 40 },
  { name: "WSGI", start: python, needs: "python3", requests: 20 },
  { name: "Go", start: go, needs: "go", requests: 40 },
  { name: "CGI", start: cgi, needs: "sh", requests: 10 }, // a process each
];

const NAMES = [
  ["tailscale", "user", "login"],
  ["tailscale", "user", "name"],
  ["tailscale", "user", "profile", "pic"],
  ["tailscale", "app", "capabilities"],
  ["sallyport", "caller", "kind"],
  ["sallyport", "assertion"],
];
const MARKS = ["-", "_", ".", "'", "~", "!", "^", "+", "--", "_-", ".-_"];
const CASES = [
  (word: string) => word,
  (word: string) => word.toUpperCase(),
  (word: string) => word[0]!.toUpperCase() + word.slice(1),
];
const SPELLINGS: readonly string[] = NAMES.flatMap((words) =>
  MARKS.flatMap((mark) => CASES.map((spell) => words.map(spell).join(mark))),
).flatMap((name) => [name, `_${name}`]);
const FORGED = ["root@example.com", "user", '{"example.com/cap/app":[{"action":["forged"]}]}', ""];

/** What the backend answered to a request with these fields. */
async function ask(node: TestNode, net: Testnet, fields: readonly string[]): Promise<Record<string, unknown>> {
  const stream = await node.dial({ address: "app", port: 80 });
  stream.write(
    `GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n${fields.map((field) => `${field}\r\n`).join("")}\r\n`,
  );
  const text = Buffer.concat(await net.until(stream.toArray() as Promise<Buffer[]>)).toString("utf8");
  const { capabilities, ...seen } = JSON.parse(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1));
  return capabilities === undefined ? seen : { ...seen, may: capabilities["example.com/cap/app"] ?? [] };
}

afterAll(() => {
  for (const child of processes) child.kill();
  rmSync(scratch, { recursive: true, force: true });
});

for (const { name, start, needs, requests } of STACKS) {
  const isMissing = !isThere(needs);
  describe.skipIf(isMissing)(`${name}${isMissing ? ` (${needs} is not installed)` : ""}`, () => {
    let net: Testnet;
    let alice: TestNode;
    let ci: TestNode;

    beforeAll(async () => {
      net = await createTestnet({
        users: [{ login: "alice@example.com", name: "Alice Architect" }],
        policy: {
          tagOwners: { "tag:app": [], "tag:ci": [] },
          grants: [
            { src: ["tag:ci"], dst: ["tag:app"], ip: ["*"] },
            {
              src: ["alice@example.com"],
              dst: ["*"],
              ip: ["*"],
              app: { "example.com/cap/app": [{ action: ["read"] }] },
            },
          ],
        },
      });
      await net.serve(await start(), { acceptAppCaps: ["example.com/cap/app"] });
      alice = await net.node({ user: "alice@example.com" });
      ci = await net.node({ tags: ["tag:ci"] });
    }, SLOW_MS);
    afterAll(() => net.close());

    test(`ID-17 ${name}: what is read is our value or absent, under ${SPELLINGS.length} forged spellings`, {
      timeout: SLOW_MS,
    }, async () => {
      const known = { kind: "user", login: "alice@example.com", name: "Alice Architect", may: [{ action: ["read"] }] };
      const nobody = { kind: "tagged", login: "", name: "", may: [] };
      expect(await ask(alice, net, [])).toEqual(known);
      expect(await ask(ci, net, [])).toEqual(nobody);
      const share = Math.ceil(SPELLINGS.length / requests);
      for (let at = 0; at < SPELLINGS.length; at += share) {
        const fields = SPELLINGS.slice(at, at + share).map(
          (spelling, i) => `${spelling}: ${FORGED[i % FORGED.length]}`,
        );
        expect(await ask(alice, net, fields), fields.join()).toEqual(known);
        expect(await ask(ci, net, fields), fields.join()).toEqual(nobody);
      }
    });
  });
}

test("whoever does not come through the gateway is refused", async () => {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  expect((await fetch(`http://127.0.0.1:${port}`)).status).toBe(403);
  server.close();
});
