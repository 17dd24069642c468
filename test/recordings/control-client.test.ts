import { expect, onTestFinished, test } from "vitest";
import { ClientReplay } from "./client-replay.ts";
import { openChannel } from "./control-bytes.ts";
import { ofKind, RECORDINGS, readRecording } from "./recording.ts";
import { shownByStock, shownOf } from "./views.ts";

const CONNECTIONS = RECORDINGS.flatMap((name) =>
  ofKind(readRecording(name), "control").map((opened) => [name, opened] as const),
);

test.each(CONNECTIONS)("every record of %s opens with our Noise, both ways", (name, opened) => {
  const { broken, frames, early, version } = openChannel(readRecording(name), opened);
  expect([broken, version >= 113]).toEqual([0, true]);
  expect(JSON.parse(Buffer.from(early!).toString("utf8"))).toHaveProperty("nodeKeyChallenge");
  expect(frames.filter(({ way }) => way === "up").length).toBeGreaterThan(5);
  expect(frames.filter(({ way }) => way === "down").length).toBeGreaterThan(5);
});

const poll = (ask: () => unknown) => expect.poll(ask, { timeout: 10_000, interval: 5 });

test.each(CONNECTIONS)("our client reads from %s what the stock client read", async (name, { id }) => {
  const entries = readRecording(name);
  const opened = ofKind(entries, "control").find((one) => one.id === id)!;
  const replay = new ClientReplay(entries, opened);
  onTestFinished(() => replay.client.close());
  replay.client.start();
  const last = entries.findLastIndex((entry) => entry.kind === "bytes" && entry.id === id);
  let checks = 0;
  let isExpired = false;
  for (const [index, entry] of entries.entries()) {
    if (index < entries.indexOf(opened) || index > last) continue;
    if (entry.kind !== "status" || entry.status.Self.PublicKey !== replay.nodeKey) continue;
    await replay.playTo(index);
    const { status } = entry;
    checks++;
    isExpired = status.BackendState === "NeedsLogin";
    if (isExpired) await poll(() => replay.states.at(-1)?.kind).toBe("expired");
    else {
      await poll(() => shownOf(replay.map, replay.clock.wall(), status)).toEqual(shownByStock(status));
      expect(replay.map?.self.Name).toBe(status.Self.DNSName);
      expect(replay.states.at(-1)?.kind).toBe("running");
    }
  }
  await replay.playTo(last);
  expect(checks).toBeGreaterThan(0);
  const kind = replay.isLoggedOut ? "logged-out" : isExpired ? "expired" : "running";
  await poll(() => replay.states.at(-1)?.kind).toBe(kind);
});
