import { expect, test } from "vitest";
import { nodeKey, type Rig, start } from "../../test/suites/coordination-rig.ts";
import { compilePolicy } from "./policy/policy.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

const POLICY = compilePolicy(`{
  "tagOwners": { "tag:relay": ["ada@example.com"] },
  "nodeAttrs": [{ "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] }],
}`);
const OWN = 1;
const ELSEWHERE = 2;
const WEB = 3;

const named = ({ coordinator }: Rig): readonly string[] => coordinator.relayAddresses().toSorted();

/** The server ends, and begins again with what it kept. */
async function again(store: MemoryCoordinationStore): Promise<[Rig, MemoryCoordinationStore]> {
  const state = await store.load();
  const kept = new MemoryCoordinationStore();
  await kept.commit([
    ...state.users.map((value) => ({ put: "user", value }) as const),
    ...state.nodes.map((value) => ({ put: "node", value }) as const),
  ]);
  const rig = await start({ store: kept, policy: POLICY, hasUsers: true });
  rig.coordinator.appointRelay(nodeKey(OWN));
  return [rig, kept];
}

/** Two relays, the first of which shares the server's process, and a node; then the server ends and begins again. */
async function restarted(isDraining = false, died: "never" | "long ago" | "and came back" = "never"): Promise<Rig> {
  const store = new MemoryCoordinationStore();
  const before = await start({ store, policy: POLICY });
  const relay = { Hostinfo: { Hostname: "relay", RequestTags: ["tag:relay"] } };
  for (const seed of [OWN, ELSEWHERE]) await before.join(seed, "ada@example.com", relay);
  await before.poll(OWN);
  const stream = await before.poll(ELSEWHERE);
  await before.join(WEB, "bob@example.com", { Hostinfo: { Hostname: "web" } });
  await before.lite(OWN, { Hostinfo: { Hostname: "relay" }, Endpoints: ["203.0.113.5:41641"] });
  const draining = { "sallyport.dev/draining": isDraining };
  await before.lite(ELSEWHERE, { ...relay, Endpoints: ["203.0.113.6:41641"], ...draining } as object);
  expect(named(before)).toEqual(isDraining ? ["203.0.113.5"] : ["203.0.113.5", "203.0.113.6"]);
  if (died !== "never") {
    stream.hangUp();
    await before.settle(10_000);
    expect(named(before)).toEqual(["203.0.113.5"]);
  }
  if (died === "and came back") await before.poll(ELSEWHERE);
  await before.settle();
  return (await again(store))[0];
}

test("the server was restarted: its zone led everybody to its own ingress, which knew of no node yet", async () => {
  const rig = await restarted();
  await rig.poll(OWN);
  expect(named(rig)).toEqual(["203.0.113.5", "203.0.113.6"]); // the other one has not come back yet, and serves all the while
  await rig.poll(ELSEWHERE);
  expect(named(rig)).toEqual(["203.0.113.6"]);
  await rig.poll(WEB);
  expect(named(rig)).toEqual(["203.0.113.5", "203.0.113.6"]);
});

test("an ingress that does not come back is named for 45 s after a restart of the server, and then no more", async () => {
  const rig = await restarted();
  await rig.poll(OWN);
  await rig.settle(44_000);
  expect(named(rig)).toEqual(["203.0.113.5", "203.0.113.6"]);
  await rig.settle(1000);
  expect(named(rig)).toEqual(["203.0.113.5"]);
});

test("an ingress that went as it should is not taken for here after a restart of the server", async () => {
  const rig = await restarted(true);
  expect(named(rig)).toEqual(["203.0.113.5"]);
});

test("an ingress that came back and went again is named no more, whoever else is not back", async () => {
  const rig = await restarted();
  await rig.poll(OWN);
  const stream = await rig.poll(ELSEWHERE);
  stream.hangUp();
  await rig.settle();
  expect(named(rig)).toEqual(["203.0.113.5"]);
});

test("an ingress whose machine died before the restart is not named after it; one that had come back is", async () => {
  const dead = await restarted(false, "long ago");
  await dead.poll(OWN);
  expect(named(dead)).toEqual(["203.0.113.5"]);
  const back = await restarted(false, "and came back");
  await back.poll(OWN);
  expect(named(back)).toEqual(["203.0.113.5", "203.0.113.6"]);
});

test("an ingress that did not come back from one restart of the server is not named after the next", async () => {
  const store = new MemoryCoordinationStore();
  const before = await start({ store, policy: POLICY });
  await before.join(ELSEWHERE, "ada@example.com", { Hostinfo: { Hostname: "relay", RequestTags: ["tag:relay"] } });
  await before.poll(ELSEWHERE);
  await before.lite(ELSEWHERE, { Hostinfo: { Hostname: "relay" }, Endpoints: ["203.0.113.6:41641"] });
  const [first, kept] = await again(store);
  expect(named(first)).toEqual(["203.0.113.6"]);
  await first.settle(45_000);
  await first.settle();
  const [second] = await again(kept);
  expect(named(second)).toEqual([]);
  await second.poll(ELSEWHERE);
  expect(named(second)).toEqual(["203.0.113.6"]);
});
