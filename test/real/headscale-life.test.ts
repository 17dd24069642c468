import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BACKEND, download, HeadscaleLab, joined, LARGE, statusOf, whyNot } from "./headscale-lab.ts";
import { type OurNode, type StockNode, until } from "./stock-mesh.ts";

/** One node of ours, from the first login to the last, each test where the one before left it. */
describe.skipIf(whyNot !== undefined)(`the life of a node on Headscale${whyNot ? ` (${whyNot})` : ""}`, () => {
  let lab: HeadscaleLab;
  let alice: StockNode;
  let door: OurNode;

  beforeAll(async () => {
    lab = await HeadscaleLab.open();
    alice = lab.alice;
    door = await lab.mesh.ours("door", undefined);
  }, 120_000);

  afterAll(() => lab?.close());

  test("joins once a person has opened it, and says so before", async () => {
    const { stdout } = await lab.openUrl(door);
    expect(stdout).toContain("Log in at: ");
    await joined(door);
    await lab.answers("door");
  });

  test("takes a new key while it serves: a download that runs goes on", async () => {
    door.start(process.execPath, ["-e", BACKEND]);
    await door.cli("serve", "--bg", "--http", "80", "3000");
    const before = (await statusOf(door)).Self.PublicKey;
    const whole = download(alice, "6M", ...(await lab.to("door", 80)), "http://door.tail.test/large");
    const up = door.cli("up", "--force-reauth", "--timeout", "40s");
    await lab.openUrl(door);
    expect((await up).stderr).toContain("Success.");
    expect(await whole).toMatchObject({ code: 0, stdout: LARGE });
    await lab.answers("door");
    expect((await statusOf(door)).Self.PublicKey).not.toBe(before);
  });

  test("renamed on the server while it runs: known by its new name everywhere", async () => {
    await lab.mesh.headscale("nodes", "rename", "-i", await lab.idOf("door"), "porter");
    await until(
      "its new name",
      () => door.cli("status"),
      (answer) => /porter\s+bob@/.test(answer.stdout),
    );
    await lab.answers("porter");
  });

  test("expired on the server while it runs: tunnels close, the status says what to do, `up` brings it back with a new key", async () => {
    const before = (await statusOf(door)).Self;
    await lab.mesh.headscale("nodes", "expire", "-i", await lab.idOf("porter"));
    const status = await until(
      "the expiry",
      () => statusOf(door),
      ({ BackendState }) => BackendState === "NeedsLogin",
    );
    expect(String(status.Health)).toMatch(/expired.*sallyport up/);
    expect((await door.cli("status")).stdout).toMatch(/expired.*sallyport up/);
    expect(Object.keys(status.Peer ?? {})).toEqual([]);
    const up = door.cli("up", "--timeout", "40s");
    await lab.openUrl(door);
    expect((await up).stderr).toContain("Success.");
    await joined(door);
    const after = (await statusOf(door)).Self;
    expect([after.ID, after.TailscaleIPs]).toEqual([before.ID, before.TailscaleIPs]);
    expect(after.PublicKey).not.toBe(before.PublicKey);
    await lab.answers("porter");
  });

  test("tagged on the server while it runs: it is no user's node any more", async () => {
    await lab.mesh.headscale("nodes", "tag", "-i", await lab.idOf("porter"), "-t", "tag:ci");
    const { Self } = await until(
      "the tag",
      () => statusOf(door),
      (status) => status.Self.Tags !== undefined,
    );
    expect(Self.Tags).toEqual(["tag:ci"]);
    expect((await door.cli("status")).stdout).toMatch(/porter\s+tagged-devices/);
  });

  test("deleted on the server while it runs: tunnels close, and the status says what happened", async () => {
    await lab.mesh.headscale("nodes", "delete", "-i", await lab.idOf("porter"), "--force");
    const status = await until(
      "the news",
      () => statusOf(door),
      ({ BackendState }) => BackendState === "NeedsLogin",
      60_000,
    );
    expect(String(status.Health)).toMatch(/deleted.*sallyport up/);
    expect((await door.cli("status")).stdout).toMatch(/deleted.*sallyport up/);
    const { stdout } = await alice.cli("status");
    expect(stdout).not.toContain("porter");
  });

  test("joins again as a new node when a person says so", async () => {
    const up = door.cli("up", "--timeout", "40s");
    await lab.openUrl(door);
    expect((await up).stderr).toContain("Success.");
    await joined(door);
    await lab.answers("door");
  });

  test("logs out: the server's node is expired, the key forgotten", async () => {
    const before = (await statusOf(door)).Self.PublicKey;
    expect((await door.cli("logout")).code).toBe(0);
    const status = await statusOf(door);
    expect([status.BackendState, status.Self.PublicKey === before]).toEqual(["NeedsLogin", false]);
    await until(
      "it to be gone for others",
      () => alice.cli("ping", "--c", "1", "--timeout", "1s", "door"),
      ({ code }) => code !== 0,
    );
  });

  test("logs in again after that, under a key of its own", async () => {
    const up = door.cli("up", "--timeout", "40s");
    await lab.openUrl(door);
    expect((await up).stderr).toContain("Success.");
    await joined(door);
    await lab.answers("door");
  });
});
