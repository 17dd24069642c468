import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { type Running, sallyport, startSallyport } from "./processes.ts";
import { StockMesh, type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "ip", "curl");

interface Status {
  readonly BackendState: string;
  readonly AuthURL: string;
  readonly Peer: Readonly<Record<string, { DNSName: string; Online: boolean; Tags?: readonly string[] }>> | null;
}

/** The command `sallyport server`, its store on disk, and an administrator who types; the clients are stock. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `sallyport server as a process, with stock clients${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new StockMesh();
    const state = `${lab.scratch}/server`;
    let server: Running;
    let alice: StockNode;
    let bob: StockNode;
    let bobLog: () => string;

    const start = () => {
      const ports = ["--port", "8080", "--derp-port", "8443", "--stun-port", "13478"];
      const where = ["--state", state, "--address", lab.address, "--domain", "tail.test", ...ports];
      return startSallyport(["server", ...where], "server.started");
    };
    const admin = (...args: readonly string[]) => sallyport("server", "--state", state, ...args);
    const nodes = async () => JSON.parse(await admin("nodes", "list", "--json")) as { id: number }[];
    const ids = async () => (await nodes()).map(({ id }) => id).toSorted();
    const statusOf = async (node: StockNode) => JSON.parse((await node.cli("status", "--json")).stdout) as Status;
    const peerOf = async (node: StockNode, name: string) =>
      Object.values((await statusOf(node)).Peer ?? {}).find(({ DNSName }) => DNSName === `${name}.tail.test.`);
    const fetchFrom = async (node: StockNode, port: number) =>
      (await node.run("curl", "-sS", "--max-time", "3", `http://100.64.0.2:${port}/`)).stdout;
    const setPolicy = (policy: object): Promise<string> => {
      writeFileSync(`${lab.scratch}/policy.hujson`, JSON.stringify(policy));
      return admin("policy", "set", `${lab.scratch}/policy.hujson`);
    };

    beforeAll(async () => {
      lab.openBridge();
      server = await start();
      await admin("users", "create", "alice@example.com", "--name", "Alice");
      await admin("users", "create", "bob@example.com");
      alice = await lab.stock("alice", "tun", {});
      bob = await lab.stock("bob", "userspace", {});
      await lab.up(alice, (await admin("keys", "create", "--user", "alice@example.com")).trim());
      await lab.up(bob, (await admin("keys", "create", "--user", "bob@example.com")).trim());
      const code = `for (const port of [8000, 9000]) require("node:http").createServer((_, answer) => answer.end("page " + port)).listen(port)`;
      const slow = `require("node:http").createServer((_, answer) => {
        console.log("asked"); answer.write("begin "); setTimeout(() => answer.end("end"), 8000); }).listen(8001)`;
      const pages = bob.start(process.execPath, ["-e", `${code};${slow}`]);
      bobLog = () => pages.log();
      await until(
        "bob's pages",
        () => fetchFrom(alice, 9000),
        (page) => page === "page 9000",
      );
    }, 90_000);

    afterAll(async () => {
      lab.close();
      await server?.kill();
    });

    test("a new policy is in force within seconds, a bad one never", async () => {
      const only = { src: ["alice@example.com"], dst: ["bob@example.com"], ip: ["tcp:8000"] };
      await setPolicy({ grants: [only] });
      await until(
        "9000 to be shut",
        () => fetchFrom(alice, 9000),
        (page) => page === "",
        10_000,
      );
      expect(await fetchFrom(alice, 8000)).toBe("page 8000");
      await expect(setPolicy({ grants: [{ ...only, src: ["group:none"] }] })).rejects.toThrow(/line \d+, column \d+/);
      expect(await fetchFrom(alice, 8000)).toBe("page 8000");
      await setPolicy({
        tagOwners: { "tag:web": ["bob@example.com"] },
        grants: [{ src: ["*"], dst: ["*"], ip: ["*"] }],
      });
      await until(
        "9000 to be open",
        () => fetchFrom(alice, 9000),
        (page) => page === "page 9000",
        10_000,
      );
    });

    test("killed and started again: everybody is back within 10 s, nobody twice, and open connections live on", async () => {
      const before = await ids();
      const slow = alice.run("curl", "-sS", "--max-time", "30", "http://100.64.0.2:8001/");
      await until(
        "the slow answer to begin",
        async () => bobLog(),
        (log) => log.includes("asked"),
      );
      await server.kill();
      server = await start();
      const restarted = performance.now();
      const isBack = async () => [(await peerOf(alice, "bob"))?.Online, (await peerOf(bob, "alice"))?.Online];
      await until("both to be online", isBack, ([a, b]) => a === true && b === true, 20_000);
      expect(performance.now() - restarted).toBeLessThan(10_000);
      expect(await ids()).toEqual(before);
      expect(await fetchFrom(alice, 8000)).toBe("page 8000");
      expect((await slow).stdout).toBe("begin end");
    }, 60_000);

    test("rename, tag and expire reach the clients", async () => {
      await admin("nodes", "rename", "bob", "robert");
      await until(
        "the new name",
        () => peerOf(alice, "robert"),
        (peer) => peer !== undefined,
      );
      await admin("nodes", "tag", "robert", "tag:web");
      await until(
        "the tag",
        () => peerOf(alice, "robert"),
        (peer) => peer?.Tags?.[0] === "tag:web",
      );
      await admin("nodes", "expire", "robert");
      await until(
        "robert to be out",
        () => statusOf(bob),
        ({ BackendState }) => BackendState === "NeedsLogin",
      );
      await until(
        "his pages to be gone",
        () => fetchFrom(alice, 8000),
        (page) => page === "",
        10_000,
      );
    });

    test("a login without a key waits for an administrator", async () => {
      const web = await lab.stock("web", "userspace", {});
      const up = web.cli("up", "--timeout=40s", "--login-server", lab.url, "--hostname=web", "--accept-dns=false");
      const { AuthURL } = await until(
        "a URL",
        () => statusOf(web),
        (status) => status.AuthURL !== "",
      );
      const page = await (await fetch(AuthURL)).text();
      const typed = /sallyport server (nodes approve \S+) --user/.exec(page)![1]!.split(" ");
      await admin(...typed, "--user", "bob@example.com");
      expect((await up).code).toBe(0);
      await until(
        "alice to see it",
        () => peerOf(alice, "web"),
        (peer) => peer?.Online === true,
      );
    });
  },
);
