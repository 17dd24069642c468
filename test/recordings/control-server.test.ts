import { expect, onTestFinished, test } from "vitest";
import type { RegisterResponse } from "../../src/wire/tailcfg.ts";
import { bodyOf, END_STREAM, FRAME, openChannel } from "./control-bytes.ts";
import { type Entry, ofKind, RECORDINGS, readRecording } from "./recording.ts";
import { ServerReplay } from "./server-replay.ts";
import { type Shown, shownByStock, shownOf } from "./views.ts";

/** What a person did between the clients' own acts. */
const ACTS: Readonly<Record<string, (replay: ServerReplay) => Promise<unknown>>> = {
  "bob advertises a route, and it is approved": async ({ coordinator }) =>
    coordinator.setRoutes("bob", ["10.77.0.0/24"], "test"),
  "bob is renamed": ({ coordinator }) => coordinator.renameNode("bob", "robert", "test"),
  "robert is tagged": ({ coordinator }) => coordinator.tagNode("robert", ["tag:ci"], "test"),
  "robert is expired": ({ coordinator }) => coordinator.expireNode("robert", "test"),
  "robert is deleted": ({ coordinator }) => coordinator.deleteNode("robert", "test"),
};

/**
 * Headscale takes a route from its only router while that is offline; with ours it stays, so that packets for it go
 * nowhere else meanwhile. Headscale leaves it with a router whose key has expired; we do not.
 */
const inForce = (nodes: readonly Shown[]): readonly Shown[] =>
  nodes.map((node) => ({ ...node, routes: node.online && !node.expired ? node.routes : [] }));

/** What matters to the client that asked. */
const essence = ({ Error: error, AuthURL, MachineAuthorized, NodeKeyExpired, Login }: RegisterResponse) => ({
  error,
  isAsked: AuthURL !== "",
  MachineAuthorized,
  NodeKeyExpired,
  login: Login?.LoginName,
});

/** Of the stock server, in the order of the requests. */
function stockAnswers(entries: readonly Entry[]): RegisterResponse[] {
  const answers = ofKind(entries, "control").flatMap((opened) => {
    const { frames } = openChannel(entries, opened);
    const [up, down] = (["up", "down"] as const).map((way) => frames.filter((frame) => frame.way === way));
    const json = (of: typeof frames, stream: number) => JSON.parse(Buffer.from(bodyOf(of, stream)).toString("utf8"));
    const ends = up!.filter(({ type, flags }) => type === FRAME.data && (flags & END_STREAM) !== 0);
    const asked = ends.filter(({ stream }) => "NLKey" in json(up!, stream));
    return asked.map(({ stream, entry }) => ({ entry, answer: json(down!, stream) as RegisterResponse }));
  });
  return answers.toSorted((a, b) => a.entry - b.entry).map(({ answer }) => answer);
}

test.each(RECORDINGS)("our server tells the recorded clients of %s what the stock server told them", async (name) => {
  const entries = readRecording(name);
  const replay = await ServerReplay.open(entries);
  onTestFinished(() => replay.close());
  let checks = 0;
  await replay.run(
    (what) => ACTS[what]?.(replay),
    async ({ status }) => {
      checks++;
      if (status.BackendState !== "Running") return;
      const poll = (ask: () => unknown) => expect.poll(ask, { timeout: 10_000, interval: 10 });
      const peers = () => inForce(shownOf(replay.mapOf(status.Self.PublicKey), replay.clock.wall(), status));
      await poll(peers).toEqual(inForce(shownByStock(status)));
      const { self } = replay.mapOf(status.Self.PublicKey)!;
      expect([self.Name, self.Tags ?? []]).toEqual([status.Self.DNSName, status.Self.Tags ?? []]);
      expect(self.Addresses.map((prefix) => prefix.split("/")[0])).toEqual(status.Self.TailscaleIPs);
    },
  );
  expect(checks).toBe(ofKind(entries, "status").length);
  expect(replay.registrations().map(({ answer }) => essence(answer))).toEqual(stockAnswers(entries).map(essence));
  expect([...replay.connections.values()].map(({ cutter }) => cutter?.broken)).toEqual(
    ofKind(entries, "control").map(() => 0),
  );
});
