import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryStore } from "../../src/base/store.ts";
import type { Coordinator } from "../../src/coordination/coordinator.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { Server } from "../../src/server/server.ts";
import { findPeer, isRoot, peersOrSkip } from "../peers.ts";
import { type Machine, ok, StockMesh, type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "ip", "nft", "curl");

const POLICY = {
  tagOwners: { "tag:ci": ["bob@example.com"] },
  grants: [
    { src: ["alice@example.com"], dst: ["*", "autogroup:internet"], ip: ["*"] },
    { src: ["bob@example.com", "tag:ci"], dst: ["alice@example.com"], ip: ["tcp:8000", "icmp:*"] },
    { src: ["alice@example.com"], dst: ["bob@example.com"], app: { "example.com/cap/app": [{ action: ["*"] }] } },
  ],
};

interface Status {
  readonly BackendState: string;
  readonly AuthURL: string;
  readonly Health: readonly string[] | null;
  readonly Self: StatusPeer;
  readonly Peer: Readonly<Record<string, StatusPeer>> | null;
  readonly ExitNodeStatus?: { readonly Online: boolean };
}

interface StatusPeer {
  readonly DNSName: string;
  readonly Online: boolean;
  readonly Expired?: boolean;
  readonly Tags?: readonly string[];
  readonly AllowedIPs?: readonly string[];
  readonly PrimaryRoutes?: readonly string[];
}

/** Stock clients, with a kernel interface and in userspace, each in a namespace with no route out; the server is ours. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `stock clients on our server${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new StockMesh();
    const store = new MemoryCoordinationStore();
    const state = memoryStore();
    let server: Server;
    /** A kernel interface. */
    let alice: StockNode;
    /** Userspace networking. */
    let bob: StockNode;
    /** Alice's too, in userspace. */
    let phone: StockNode;

    const openServer = () =>
      Server.open({
        // What the end of one server would close, the next one goes on with.
        store: {
          load: () => store.load(),
          commit: (changes) => store.commit(changes),
          log: (query) => store.log(query),
          close: async () => {},
        },
        state,
        address: lab.address,
        port: 8080,
        derpPort: 8443,
        stunPort: 13_478, // a stock derper of another run takes 3478 on all addresses
        baseDomain: "tail.test",
        policy: JSON.stringify(POLICY),
      });
    const admin = (): Coordinator => server.coordinator;
    const key = async (wanted: Parameters<Coordinator["createAuthKey"]>[0]) =>
      (await admin().createAuthKey(wanted, "test")).key;
    const recordOf = (name: string) =>
      admin()
        .nodes()
        .find(({ fqdn }) => fqdn.startsWith(`${name}.`));
    const idOf = (name: string): number => recordOf(name)?.id ?? -1;
    const statusOf = async (node: StockNode) => JSON.parse((await node.cli("status", "--json")).stdout) as Status;
    const peerOf = async (node: StockNode, name: string) =>
      Object.values((await statusOf(node)).Peer ?? {}).find(({ DNSName }) => DNSName === `${name}.tail.test.`);
    const ipOf = async (node: StockNode) => (await ok(node.cli("ip", "-4"))).trim();
    /** A page over `tailscale nc`, empty when nobody answers. */
    const page = async (from: StockNode, host: string, port: number): Promise<string> => {
      const nc = `${findPeer("tailscale")} --socket=${lab.scratch}/${from.name}/s.sock nc ${host} ${port}`;
      const script = `(printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 2) | timeout 6 ${nc}`;
      return (await from.run("sh", "-c", script)).stdout.split("\r\n\r\n")[1] ?? "";
    };
    /** A first packet may meet a peer that has not heard of the sender yet: WireGuard tries again after 5 s. */
    const pageIs = (from: StockNode, host: string, port: number, wanted: string) =>
      until(
        `the page of ${host}:${port}`,
        () => page(from, host, port),
        (text) => text === wanted,
        30_000,
      );
    const serve = (machine: Machine, port: number): void => {
      const code = `require("node:http").createServer((_, answer) => answer.end("${machine.name} ${port}")).listen(${port})`;
      machine.start(process.execPath, ["-e", code]);
    };

    beforeAll(async () => {
      lab.openBridge();
      server = await openServer();
      await admin().createUser({ login: "alice@example.com", displayName: "Alice Architect" }, "test");
      await admin().createUser({ login: "bob@example.com" }, "test");
      alice = await lab.stock("alice", "tun", {});
      bob = await lab.stock("bob", "userspace", {});
      phone = await lab.stock("phone", "userspace", {});
      const user = "alice@example.com";
      await lab.up(alice, await key({ user }));
      await lab.up(bob, await key({ user: "bob@example.com" }));
      await lab.up(phone, await key({ user }));
      serve(alice, 8000);
      serve(alice, 9000);
      serve(bob, 8000);
      await until(
        "all to be online",
        async () => admin().nodes(),
        (nodes) => nodes.every(({ online }) => online),
      );
    }, 90_000);

    afterAll(async () => {
      lab.close();
      await server?.close();
    });

    test("up with an auth key: everybody sees whom the policy shows, and nothing is wrong", async () => {
      const listed = async () => (await ok(alice.cli("status"))).match(/^100\.64\.0\.\d+\s+\w+/gm) ?? [];
      await until("three nodes", listed, ({ length }) => length === 3);
      for (const node of [alice, bob, phone]) {
        const { BackendState, Health } = await statusOf(node);
        expect(BackendState).toBe("Running");
        // A word about the client's own build is none about the mesh.
        expect((Health ?? []).filter((line) => !line.includes("unstable version"))).toEqual([]);
      }
    });

    test.each([
      ["disco", [], /via 10\.96\.\d+\.\d+:41641/],
      ["TSMP", ["--tsmp"], /via TSMP/],
      ["ICMP", ["--icmp"], /via ICMP/],
      ["peerapi", ["--peerapi"], /hit peerapi/],
    ])("ping by %s", async (_kind, flags, wanted) => {
      expect(await ok(alice.cli("ping", "--c", "5", "--timeout=5s", ...flags, "bob"))).toMatch(wanted);
    });

    test("where UDP does not pass, our relay carries everything, and the direct path comes back with it", async () => {
      await ok(bob.run("nft", "add", "table", "inet", "shut"));
      for (const hook of ["input", "output"]) {
        await ok(bob.run("nft", "add", "chain", "inet", "shut", hook, `{ type filter hook ${hook} priority 0; }`));
        await ok(bob.run("nft", "add", "rule", "inet", "shut", hook, "meta", "l4proto", "udp", "drop"));
      }
      const ping = () => alice.cli("ping", "--c", "2", "--timeout=3s", "bob");
      await until("the relay", ping, ({ stdout }) => stdout.includes("via DERP(own)"), 40_000);
      expect(await ok(alice.run("curl", "-sS", "--max-time", "10", `http://${await ipOf(bob)}:8000/`))).toBe(
        "bob 8000",
      );
      await ok(bob.run("nft", "delete", "table", "inet", "shut"));
      await until("the direct path", ping, ({ stdout }) => stdout.includes(":41641"), 40_000);
    });

    test("netcheck finds our STUN and our relay", async () => {
      const report = await ok(alice.cli("netcheck"));
      expect(report).toMatch(/UDP: true/);
      expect(report).toMatch(/Nearest DERP: Sallyport/);
    });

    test("whois: the user, and what the policy's grants say of him here", async () => {
      const text = await ok(bob.cli("whois", "--json", await ipOf(alice)));
      expect(JSON.parse(text)).toMatchObject({
        Node: { Name: "alice.tail.test." },
        UserProfile: { LoginName: "alice@example.com", DisplayName: "Alice Architect" },
        CapMap: { "example.com/cap/app": [{ action: ["*"] }] },
      });
      const back = JSON.parse(await ok(alice.cli("whois", "--json", await ipOf(bob)))) as { CapMap?: object };
      expect(back.CapMap ?? {}).not.toHaveProperty("example.com/cap/app");
    });

    test("ip, MagicDNS, dns status and query", async () => {
      expect((await ok(alice.cli("ip", "bob"))).trim().split("\n")).toEqual([
        await ipOf(bob),
        expect.stringMatching(/^fd7a:/),
      ]);
      expect(await ok(alice.cli("dns", "status"))).toMatch(/MagicDNS: enabled tailnet-wide \(suffix = tail\.test\)/);
      expect(await ok(alice.cli("dns", "query", "bob.tail.test"))).toContain(await ipOf(bob));
      const code = `const dns = new (require("node:dns").Resolver)(); dns.setServers(["100.100.100.100"]);
        dns.resolve4("bob.tail.test", (error, found) => console.log(error?.code ?? found.join()))`;
      expect((await ok(alice.run(process.execPath, "-e", code))).trim()).toBe(await ipOf(bob));
    });

    test("the policy is enforced: what is granted answers, what is not does not", async () => {
      await pageIs(bob, "alice", 8000, "alice 8000");
      expect(await page(bob, "alice", 9000)).toBe("");
      await pageIs(phone, "alice", 9000, "alice 9000");
      expect(await ok(alice.run("curl", "-sS", "--max-time", "10", `http://${await ipOf(bob)}:8000/`))).toBe(
        "bob 8000",
      );
      expect(await peerOf(bob, "phone")).toBeDefined(); // may be reached on a port, so it is seen
    });

    test("set --hostname renames, for everybody", async () => {
      await ok(bob.cli("set", "--hostname", "robert"));
      await until(
        "the new name",
        () => peerOf(alice, "robert"),
        (peer) => peer !== undefined,
      );
      await ok(bob.cli("set", "--hostname", "bob"));
      await until(
        "the old name",
        () => peerOf(alice, "bob"),
        (peer) => peer !== undefined,
      );
    });

    test("lock status: there is none, and the client says so", async () => {
      expect(await ok(alice.cli("lock", "status"))).toMatch(/tailnet lock is NOT enabled/i);
    });

    test("file cp between own nodes", async () => {
      writeFileSync(`${lab.scratch}/note.txt`, "from laptop to phone");
      mkdirSync(`${lab.scratch}/inbox`);
      expect(await ok(alice.cli("file", "cp", "--targets"))).toMatch(/phone/);
      await ok(alice.cli("file", "cp", `${lab.scratch}/note.txt`, "phone:"));
      await ok(phone.cli("file", "get", `${lab.scratch}/inbox`));
      expect(readFileSync(`${lab.scratch}/inbox/note.txt`, "utf8")).toBe("from laptop to phone");
    });

    test("a subnet route and an exit node: of use once they are approved, to those whom the policy lets", async () => {
      await ok(alice.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"));
      await ok(alice.run("ip", "addr", "add", "10.77.0.1/32", "dev", "lo"));
      await ok(alice.cli("set", "--advertise-routes=10.77.0.0/24", "--advertise-exit-node"));
      const advertised = ["0.0.0.0/0", "10.77.0.0/24", "::/0"];
      const asked = async () => [...(recordOf("alice")?.advertisedRoutes ?? [])].toSorted();
      await until("the routes to be advertised", asked, (routes) => routes.join() === advertised.join());
      await ok(phone.cli("set", "--accept-routes"));
      expect((await peerOf(phone, "alice"))?.PrimaryRoutes).toBeUndefined();
      await admin().setRoutes(idOf("alice"), advertised, "test");
      await until(
        "the route",
        () => peerOf(phone, "alice"),
        (peer) => peer?.PrimaryRoutes?.[0] === "10.77.0.0/24",
      );
      await pageIs(phone, "10.77.0.1", 8000, "alice 8000");
      expect(await ok(phone.cli("exit-node", "list"))).toContain("alice.tail.test");
      await ok(phone.cli("set", "--exit-node=alice"));
      expect((await statusOf(phone)).ExitNodeStatus).toMatchObject({ Online: true });
      await ok(phone.cli("set", "--exit-node="));
      expect((await bob.cli("set", "--exit-node=alice")).code).not.toBe(0);
    });

    test("expired: the client says so, others see it, and a key brings the same node back", async () => {
      const id = idOf("bob");
      await admin().expireNode(id, "test");
      await until(
        "bob to know",
        () => statusOf(bob),
        ({ BackendState }) => BackendState === "NeedsLogin",
      );
      await until(
        "alice to know",
        () => peerOf(alice, "bob"),
        (peer) => peer?.Expired === true,
      );
      // Reusable: the client may register with two new node keys, of which the second is the one that stays.
      await lab.up(bob, await key({ user: "bob@example.com", reusable: true }), "--force-reauth");
      expect(idOf("bob")).toBe(id);
      const answers = () => alice.cli("ping", "--c", "3", "--timeout=2s", "bob");
      await until("bob to answer again", answers, ({ code }) => code === 0);
    });

    test("a new node key on purpose: same node, same address", async () => {
      const before = recordOf("phone")!;
      await lab.up(
        phone,
        await key({ user: "alice@example.com", reusable: true }),
        "--force-reauth",
        "--accept-routes",
      );
      const renewed = async () => recordOf("phone")!; // clients of 1.82 say that they are up before they are
      const after = await until("the new key", renewed, ({ nodeKey }) => nodeKey !== before.nodeKey);
      expect(after.id).toBe(before.id);
      const answers = () => alice.cli("ping", "--c", "3", "--timeout=2s", "phone");
      await until("the phone to answer", answers, ({ code }) => code === 0);
    });

    test("the server restarts: everybody is back, nobody twice", async () => {
      const identities = () =>
        admin()
          .nodes()
          .map(({ id, nodeKey }) => `${id} ${nodeKey}`)
          .toSorted();
      const before = identities();
      await server.close();
      server = await openServer();
      const nodes = async () => admin().nodes();
      await until("all to be online", nodes, (all) => all.every(({ online }) => online), 60_000);
      expect(identities()).toEqual(before);
      await pageIs(bob, "alice", 8000, "alice 8000");
    }, 90_000);

    test("a tagged, ephemeral node: no user, and gone when it logs out", async () => {
      const ci = await lab.stock("ci", "userspace", {});
      await lab.up(ci, await key({ tags: ["tag:ci"], ephemeral: true }));
      const seen = await until(
        "alice to see it",
        () => peerOf(alice, "ci"),
        (peer) => peer !== undefined,
      );
      expect(seen?.Tags).toEqual(["tag:ci"]);
      await pageIs(ci, "alice", 8000, "alice 8000");
      expect(JSON.parse(await ok(alice.cli("whois", "--json", await ipOf(ci))))).toMatchObject({
        Node: { Tags: ["tag:ci"] },
      });
      await ok(ci.cli("logout"));
      await until(
        "it to be gone",
        () => peerOf(alice, "ci"),
        (peer) => peer === undefined,
      );
      expect(recordOf("ci")).toBeUndefined();
    });

    test("interactive login: the client shows our page, and is in once somebody approves", async () => {
      const web = await lab.stock("web", "userspace", {});
      const up = web.cli("up", "--timeout=40s", "--login-server", lab.url, "--hostname=web", "--accept-dns=false");
      const { AuthURL } = await until(
        "a URL",
        () => statusOf(web),
        (status) => status.AuthURL !== "",
      );
      const response = await fetch(AuthURL);
      expect([response.status, await response.text()]).toEqual([200, expect.stringMatching(/<html/i)]);
      await admin().approveRegistration(AuthURL.split("/").at(-1)!, "bob@example.com", "test");
      await ok(up);
      expect(recordOf("web")?.user?.login).toBe("bob@example.com");
      // Deleted while it runs: it is out at once for everybody else, and is told that it needs a login.
      const gone = idOf("web");
      await admin().deleteNode(gone, "test");
      await until(
        "it to be gone",
        () => peerOf(alice, "web"),
        (peer) => peer === undefined,
      );
      await until(
        "it to notice",
        () => statusOf(web),
        ({ BackendState }) => BackendState === "NeedsLogin",
      );
      await lab.up(web, await key({ user: "bob@example.com", reusable: true }), "--force-reauth");
      await until(
        "a new node",
        async () => recordOf("web"),
        (node) => node !== undefined && node.id !== gone && node.online,
      );
    });

    test("logout: the client forgets, the others are told", async () => {
      await ok(phone.cli("logout"));
      expect((await statusOf(phone)).BackendState).toBe("NeedsLogin");
      const gone = (peer: StatusPeer | undefined) => peer === undefined || peer.Expired === true;
      await until("alice to know", () => peerOf(alice, "phone"), gone);
    });

    test("down and up again need no key", async () => {
      await ok(bob.cli("down"));
      await until(
        "alice to know",
        () => peerOf(alice, "bob"),
        (peer) => peer?.Online === false,
        30_000,
      );
      await ok(bob.cli("up", "--timeout=20s", `--login-server=${lab.url}`, "--hostname=bob", "--accept-dns=false"));
      await until(
        "bob to be online",
        () => peerOf(alice, "bob"),
        (peer) => peer?.Online === true,
      );
    });
  },
);
