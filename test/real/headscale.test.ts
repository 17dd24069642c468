import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createNode, type Node as LibraryNode } from "../../src/library.ts";
import {
  BACKEND,
  curl,
  download,
  HeadscaleLab,
  joined,
  LARGE,
  peerOf,
  type Status,
  statusOf,
  whyNot,
} from "./headscale-lab.ts";
import { type OurNode, type StockNode, until } from "./stock-mesh.ts";

const PAGE = "hello from a stock node";
const KINDS = ["disco", "tsmp", "icmp", "peerapi"] as const;
const kindFlag = (kind: (typeof KINDS)[number]): string[] => (kind === "disco" ? [] : [`--${kind}`]);

/** Current upstream clients and Headscale; our gateway is one node among them. */
describe.skipIf(whyNot !== undefined)(`our node on Headscale, among stock nodes${whyNot ? ` (${whyNot})` : ""}`, () => {
  let lab: HeadscaleLab;
  /** A kernel interface; alice's. */
  let alice: StockNode;
  /** Userspace networking, tagged tag:ci. */
  let robot: StockNode;
  /** Joined with bob's key. */
  let gw: OurNode;
  let library: LibraryNode | undefined;
  const stock = { tun: () => alice, userspace: () => robot };

  const shutUdp = async (): Promise<void> => {
    await gw.run("nft", "add", "table", "inet", "shut");
    for (const hook of ["input", "output"]) {
      await gw.run("nft", "add", "chain", "inet", "shut", hook, `{ type filter hook ${hook} priority 0; }`);
      const way = hook === "input" ? "iif" : "oif";
      await gw.run("nft", "add", "rule", "inet", "shut", hook, way, "eth0", "meta", "l4proto", "udp", "drop");
    }
  };
  const openUdp = () => gw.run("nft", "delete", "table", "inet", "shut");

  beforeAll(async () => {
    lab = await HeadscaleLab.open();
    alice = lab.alice;
    robot = await lab.mesh.stock("robot", "userspace");
    await lab.mesh.up(robot, await lab.mesh.key("--tags", "tag:ci"));
    gw = await lab.mesh.ours("gw", await lab.mesh.key("-u", "2"));
    await joined(gw);
    gw.start(process.execPath, ["-e", BACKEND]);
    const caps = ["--accept-app-caps", "example.com/cap/app"];
    await gw.cli("serve", "--bg", "--http", "80", ...caps, "3000");
    await gw.cli("serve", "--bg", "--https", "443", ...caps, "3000");
    await gw.cli("serve", "--bg", "--tcp", "9000", "3001");
    writeFileSync(`${lab.mesh.scratch}/ca.pem`, (await gw.cli("ca")).stdout);
  }, 120_000);

  afterAll(async () => {
    await library?.close();
    lab?.close();
  });

  test("joins by auth key and is listed by `tailscale status`", async () => {
    for (const node of [alice, robot]) {
      const { stdout } = await until(
        "gw in the list",
        () => node.cli("status"),
        (answer) => answer.stdout.includes("gw"),
      );
      expect(stdout).toMatch(/100\.64\.0\.3\s+gw\s+bob@\s+linux/);
    }
    expect((await statusOf(gw)).BackendState).toBe("Running");
  });

  describe.each(["tun", "userspace"] as const)("with a stock node in %s mode", (mode) => {
    test.each(KINDS)("it answers `tailscale ping` (%s)", async (kind) => {
      const { code, stdout, stderr } = await stock[mode]().cli("ping", "--c", "5", ...kindFlag(kind), "gw");
      expect([code, stdout + stderr]).toEqual([0, expect.stringMatching(/^(pong from gw|hit peerapi of)/)]);
    });

    test.each(KINDS)("it answers `tailscale ping` (%s) over IPv6", async (kind) => {
      const address = (await stock[mode]().cli("ip", "-6", "gw")).stdout.trim();
      const { code, stdout, stderr } = await stock[mode]().cli("ping", "--c", "5", ...kindFlag(kind), address);
      expect([code, stdout + stderr]).toEqual([0, expect.stringMatching(/^(pong from gw|hit peerapi of)/)]);
    });

    test.each(KINDS)("`sallyport ping` (%s) is answered", async (kind) => {
      const name = stock[mode]().name;
      const { code, stdout, stderr } = await gw.cli("ping", "-c", "5", ...kindFlag(kind), name);
      expect([code, stdout + stderr]).toEqual([0, expect.stringMatching(/^(pong from|hit peerapi of)/)]);
    });

    test("its name is found by MagicDNS", async () => {
      const { stdout } = await stock[mode]().cli("dns", "query", "gw.tail.test");
      expect(stdout).toMatch(/gw\.tail\.test\..*TypeA\s+100\.64\.0\.3/);
    });

    test("both ends see the direct path", async () => {
      const node = stock[mode]();
      await node.cli("ping", "--c", "10", "gw");
      const theirs = peerOf(await statusOf(node), "gw")?.CurAddr;
      expect([`${gw.ipv4}`, `[${gw.ipv6}]`]).toContain(theirs?.replace(/:\d+$/, ""));
      const ours = peerOf(await statusOf(gw), node.name)?.CurAddr;
      expect([`${node.ipv4}:41641`, `[${node.ipv6}]:41641`]).toContain(ours);
    });
  });

  test.each([
    ["netcheck", /UDP: true[\s\S]*Nearest DERP: Lab/],
    ["bugreport", /^\{[\s\S]*"means": \{\s+"udp"[\s\S]*\}\s*$/],
  ])("`sallyport %s` tells what a person has to know", async (command, wanted) => {
    const told = async () => (await gw.cli(command)).stdout;
    await until(command, told, (text) => wanted.test(text));
  });

  test.each([
    ["HTTP over IPv4", "-4", "http", 80],
    ["HTTPS over IPv4", "-4", "https", 443],
    ["HTTPS over IPv6", "-6", "https", 443],
  ] as const)(
    "ID-1 serves %s: the backend sees who asks and what the grants allow",
    async (_name, family, scheme, port) => {
      const forged = [
        "-H",
        "Tailscale-User-Login: forged@example.com",
        "-H",
        "tailscale_user_login: forged@example.com",
      ];
      const url = `${scheme}://gw.tail.test/`;
      const answer = await curl(
        alice,
        "--cacert",
        `${lab.mesh.scratch}/ca.pem`,
        ...forged,
        ...(await lab.to("gw", port, family)),
        url,
      );
      expect(answer.code, answer.stderr).toBe(0);
      const headers = JSON.parse(answer.stdout) as Record<string, string>;
      expect(headers).toMatchObject({
        "tailscale-user-login": "alice@example.com",
        "tailscale-user-name": "Alice Example",
        "x-forwarded-for": (await alice.cli("ip", family)).stdout.trim(),
      });
      expect(JSON.parse(headers["tailscale-app-capabilities"]!)).toEqual({
        "example.com/cap/app": [{ action: ["*"], resources: ["*"] }],
      });
      expect(answer.stdout).not.toContain("forged");
    },
  );

  test("ID-2 a tagged stock node is nobody's: no user headers, and no capabilities that it was not granted", async () => {
    const request =
      "printf 'GET / HTTP/1.0\\r\\nHost: gw.tail.test\\r\\nTailscale-User-Login: forged\\r\\n\\r\\n'; sleep 2";
    const nc = `${process.env["SALLYPORT_PEERS"]}/tailscale --socket=${lab.mesh.scratch}/robot/s.sock nc gw 80`;
    const { stdout } = await robot.run("sh", "-c", `(${request}) | ${nc}`);
    expect(stdout).toContain("x-forwarded-for");
    expect(stdout).not.toMatch(/tailscale-user|forged/);
  });

  test("serves TCP", async () => {
    const nc = `${process.env["SALLYPORT_PEERS"]}/tailscale --socket=${lab.mesh.scratch}/alice/s.sock nc gw 9000`;
    const { stdout } = await alice.run("sh", "-c", `(echo over and back; sleep 1) | ${nc}`);
    expect(stdout).toBe("over and back\n");
  });

  test("what the policy does not admit is not reached, and the stock node is told why", async () => {
    const { code } = await curl(alice, "--max-time", "2", `http://${await lab.ipOf("gw")}:22/`);
    expect(code).toBe(28);
    expect(alice.log()).toMatch(/open-conn-track.*rejected due to acl/i);
  });

  test("dials the services of stock nodes, kernel and userspace, by name", async () => {
    alice.start(process.execPath, ["-e", `require("node:http").createServer((_, r) => r.end("${PAGE}")).listen(8000)`]);
    await robot.cli("serve", "--bg", "--http=80", `text:${PAGE}`);
    library = await createNode({
      controlUrl: lab.mesh.url,
      authKey: await lab.mesh.key("-u", "2"),
      hostname: "caller",
    });
    const address = `[${await lab.ipOf("alice", "-6")}]`;
    for (const url of ["http://alice.tail.test:8000/", `http://${address}:8000/`, "http://robot.tail.test/"]) {
      await expect
        .poll(async () => (await library!.fetch(url, { signal: AbortSignal.timeout(3000) })).text().catch(String), {
          timeout: 20_000,
        })
        .toBe(PAGE);
    }
  });

  test("without UDP everything goes through the stock relay, also after the relay was restarted", async () => {
    await shutUdp();
    try {
      const { stdout } = await until(
        "the relay",
        () => alice.cli("ping", "--c", "1", "--until-direct=false", "gw"),
        (answer) => /via DERP\(lab\)/.test(answer.stdout),
        30_000,
      );
      expect(stdout).toContain("via DERP(lab)");
      expect((await curl(alice, ...(await lab.to("gw", 80)), "http://gw.tail.test/")).stdout).toContain(
        "alice@example.com",
      );
      await lab.mesh.stopDerper();
      lab.mesh.startDerper();
      const start = performance.now();
      await until(
        "the relay to be used again",
        async () => curl(alice, "--max-time", "1", ...(await lab.to("gw", 80)), "http://gw.tail.test/"),
        (answer) => answer.stdout.includes("alice@example.com"),
        30_000,
      );
      expect(performance.now() - start).toBeLessThan(15_000);
      expect((await gw.cli("status")).stdout).toMatch(/alice.*relay "lab"/);
    } finally {
      await openUdp();
    }
  });

  test("a download lives on while UDP is shut off and opened again", async () => {
    await until(
      "direct",
      () => gw.cli("ping", "-c", "1", "alice"),
      (answer) => answer.stdout.includes("41641"),
      40_000,
    );
    const whole = download(alice, "4M", ...(await lab.to("gw", 80)), "http://gw.tail.test/large");
    await sleep(2000);
    await shutUdp();
    await sleep(8000);
    await openUdp();
    expect(await whole).toMatchObject({ code: 0, stdout: LARGE });
  });

  test("goes on serving while Headscale is away, and learns of a new node once it is back", async () => {
    await lab.mesh.stopHeadscale();
    const answer = await curl(alice, ...(await lab.to("gw", 80)), "http://gw.tail.test/");
    expect(answer.stdout).toContain("alice@example.com");
    await until(
      "the trouble in the status",
      () => statusOf(gw),
      ({ Health }) => /cannot be reached/.test(String(Health)),
    );
    await lab.mesh.startHeadscale();
    await until(
      "all to be well",
      () => statusOf(gw),
      ({ Health }) => (Health ?? []).length === 0,
      60_000,
    );
    const late = await lab.mesh.stock("late", "userspace");
    await lab.mesh.up(late, await lab.mesh.key("-u", "1"));
    await until(
      "the new node",
      () => gw.cli("status"),
      (found) => found.stdout.includes("late"),
    );
    await until(
      "a pong",
      () => late.cli("ping", "--c", "5", "gw"),
      ({ stdout }) => stdout.includes("pong from gw"),
    );
  });

  test("a restart keeps the identity: same key, same addresses, no second node", async () => {
    const before = (await statusOf(gw)).Self;
    await gw.restart();
    await joined(gw);
    const after = (await statusOf(gw)).Self;
    expect([after.PublicKey, after.TailscaleIPs, after.ID]).toEqual([before.PublicKey, before.TailscaleIPs, before.ID]);
    expect(await lab.mesh.idsOf("gw")).toEqual([after.ID]);
  });

  test("CC-9 when its key's time is over, the auth key renews it at that moment, without a restart", async () => {
    const { PublicKey } = (await statusOf(gw)).Self;
    const end = new Date(Date.now() + 10_000).toISOString();
    await lab.mesh.headscale("nodes", "expire", "-i", await lab.idOf("gw"), "-e", end);
    const warned = await until(
      "the warning",
      () => statusOf(gw),
      ({ Health }) => (Health ?? []).length > 0,
    );
    expect(String(warned.Health)).toMatch(/expires in 1 hour.*auth key/);
    const renewed = await until(
      "a key without end",
      () => statusOf(gw),
      ({ Self }) => Self.KeyExpiry === undefined,
      40_000,
    );
    expect([renewed.BackendState, renewed.Self.PublicKey]).toEqual(["Running", PublicKey]);
    await lab.answers("gw");
  });

  test("routes and an exit node of a peer change nothing for us, and what comes through it is not taken for it", async () => {
    const routes = "10.77.0.0/24,0.0.0.0/0,::/0";
    await alice.cli("set", "--advertise-routes=10.77.0.0/24", "--advertise-exit-node");
    await until(
      "the routes to be known",
      () => lab.mesh.headscale("nodes", "list-routes"),
      (text) => text.includes("10.77.0.0/24"),
    );
    await lab.mesh.headscale("nodes", "approve-routes", "-i", await lab.idOf("alice"), "-r", routes);
    await until(
      "the routes in our map",
      () => statusOf(gw),
      (status) => peerOf(status, "alice")?.AllowedIPs?.includes("10.77.0.0/24") === true,
    );
    await lab.answers("gw");
    const pageOf = await lab.to("gw", 80);
    const page = () => curl(alice, ...pageOf, "http://gw.tail.test/");
    expect((await page()).stdout).toContain("alice@example.com");
    await alice.run("ip", "addr", "add", "10.77.0.5/32", "dev", "lo");
    const forged = await curl(alice, "--max-time", "3", "--interface", "10.77.0.5", ...pageOf, "http://gw.tail.test/");
    expect([forged.code, forged.stdout]).toEqual([28, ""]);
    expect((await page()).stdout).toContain("alice@example.com");
  });

  test("another address of its own: a download lives on, and the new way is direct again", async () => {
    await until(
      "direct",
      () => gw.cli("ping", "-c", "1", "alice"),
      ({ stdout }) => stdout.includes("41641"),
      40_000,
    );
    const moved = gw.ipv4.replace(/\d+$/, "200");
    const whole = download(alice, "6M", ...(await lab.to("gw", 80)), "http://gw.tail.test/large");
    await sleep(2000);
    await gw.run("ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global");
    await gw.run("ip", "addr", "del", `${gw.ipv4}/24`, "dev", "eth0");
    await gw.run("ip", "addr", "add", `${moved}/24`, "dev", "eth0");
    expect(await whole).toMatchObject({ code: 0, stdout: LARGE });
    const isMoved = (status: Status) => peerOf(status, "gw")?.CurAddr.startsWith(`${moved}:`) === true;
    const look = async () => {
      await alice.cli("ping", "--c", "2", "gw");
      return statusOf(alice);
    };
    await until("the new direct path", look, isMoved, 30_000);
  });
});
