import { expect, test } from "vitest";
import { type Rig, start } from "../../test/suites/coordination-rig.ts";
import { seededRandom } from "../base/random.ts";
import { claimServices, leasableServices } from "../wire/claims.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import { compilePolicy } from "./policy/policy.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

const POLICY = `{
  "tagOwners": { "tag:relay": ["ada@example.com"] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["*"], "attr": ["funnel"], "app": {
      "sallyport.dev/domains": [{ "names": ["demo.example.org"] }],
      "sallyport.dev/ports": [{ "ports": ["2222"] }],
    } },
  ],
}`;
const RELAY = 1;
const NODES = [2, 3] as const;
const CLAIMS = ["2222", "demo.example.org"] as const;
type Claim = (typeof CLAIMS)[number];

const asking = (seed: number, claims: readonly string[]) => ({
  Hostinfo: {
    Hostname: `host-${seed}`,
    Services: [{ Proto: "peerapi4", Port: 40_000 }, ...claimServices(claims)],
    ...(claims.length === 0 ? {} : { IngressEnabled: true }),
  },
});

async function world(store: MemoryCoordinationStore): Promise<Rig> {
  const rig = await start({ store });
  const relay = {
    Hostname: "relay",
    RequestTags: ["tag:relay"],
    Services: leasableServices([{ first: 2222, last: 2222 }]),
  };
  await rig.coordinator.setPolicy(compilePolicy(POLICY), POLICY, "start");
  await rig.join(RELAY, "ada@example.com", { Hostinfo: relay });
  for (const seed of NODES) await rig.join(seed, "bob@example.com", asking(seed, []));
  return rig;
}

/** To whom the relay brings visitors of each, by host name. */
function routes({ peers }: NetworkMap): Record<Claim, string[]> {
  const found: Record<Claim, string[]> = { "2222": [], "demo.example.org": [] };
  for (const { Name, CapMap = {} } of peers.values()) {
    const host = Name.split(".")[0]!;
    for (const one of (CapMap["sallyport.dev/leases"] ?? []) as { port: number }[])
      found[`${one.port}` as Claim].push(host);
    for (const one of (CapMap["sallyport.dev/public-names"] ?? []) as { name: string }[])
      if (one.name === "demo.example.org") found["demo.example.org"].push(host);
  }
  return found;
}

const stateOf = ({ self }: NetworkMap, claim: string): unknown =>
  ((self.CapMap?.["sallyport.dev/claims"] ?? []) as { claim: string; state: string }[]).find(
    (one) => one.claim === claim,
  )?.state;

test("FN-14 200 races of two nodes for one domain and one raw port: one holds each, the other is told, nothing moves", async () => {
  const rig = await world(new MemoryCoordinationStore());
  const random = seededRandom(14);
  const flip = (): boolean => random(1)[0]! < 128;
  const relay = await rig.follow(RELAY);
  const nodes = await Promise.all(NODES.map((seed) => rig.follow(seed)));
  const first = new Map<string, number>();
  for (let race = 0; race < 200; race++) {
    const order = flip() ? NODES : NODES.toReversed();
    await Promise.all(order.map((seed) => rig.lite(seed, asking(seed, flip() ? CLAIMS : CLAIMS.toReversed()))));
    const before = routes(await relay());
    for (const claim of CLAIMS) {
      expect(before[claim]).toHaveLength(1);
      const states = await Promise.all(nodes.map(async (map) => stateOf(await map(), claim)));
      expect(states.toSorted()).toEqual(["held", "taken"]);
      expect(before[claim]).toEqual([`host-${NODES[states.indexOf("held")]!}`]);
      first.set(before[claim][0]!, (first.get(before[claim][0]!) ?? 0) + 1);
    }
    // Whoever comes again, and whatever else changes, traffic stays where it is.
    for (const seed of order)
      await rig.lite(seed, { ...asking(seed, CLAIMS), Endpoints: [`192.0.2.${seed}:${race + 1}`] });
    if (race % 20 === 0) await rig.coordinator.setPolicy(compilePolicy(POLICY), `${POLICY} // ${race}`, "root");
    expect(routes(await relay())).toEqual(before);
    for (const seed of order) await rig.lite(seed, asking(seed, []));
    expect(routes(await relay())).toEqual({ "2222": [], "demo.example.org": [] });
  }
  expect([...first.values()].every((wins) => wins > 20) && first.size === 2).toBe(true); // neither always wins
});

test("FN-14 who holds keeps it over a restart of the server, of the ingress and of the node", async () => {
  const store = new MemoryCoordinationStore();
  const rig = await world(store);
  await rig.lite(NODES[1], asking(NODES[1], CLAIMS)); // the younger node was first
  await rig.lite(NODES[0], asking(NODES[0], CLAIMS));
  const held = { "2222": ["host-3"], "demo.example.org": ["host-3"] };
  expect(routes(await (await rig.follow(RELAY))())).toEqual(held);

  const state = await store.load();
  const again = new MemoryCoordinationStore();
  await again.commit([
    ...state.users.map((value) => ({ put: "user", value }) as const),
    ...state.nodes.map((value) => ({ put: "node", value }) as const),
    ...[...state.settings].map(([name, value]) => ({ put: "setting", name, value }) as const),
  ]);
  const restarted = await start({ store: again, hasUsers: true });
  await restarted.coordinator.setPolicy(compilePolicy(POLICY), POLICY, "start");
  await restarted.ask(NODES[0], asking(NODES[0], CLAIMS)); // the loser is the first to come back
  await restarted.lite(NODES[0], asking(NODES[0], CLAIMS));
  await restarted.ask(RELAY, {
    Hostinfo: { Hostname: "relay", Services: leasableServices([{ first: 2222, last: 2222 }]) },
  });
  await restarted.ask(NODES[1], asking(NODES[1], CLAIMS));
  expect(routes(await (await restarted.follow(RELAY))())).toEqual(held);
});

test("FN-14 a claim of a node that is away for good went to nobody else until that was deleted; now it can be released", async () => {
  const store = new MemoryCoordinationStore();
  const rig = await world(store);
  await rig.lite(NODES[0], asking(NODES[0], CLAIMS));
  const shown = () =>
    rig.coordinator.claims().map(({ claim, node, state, isReleased }) => `${claim} ${node} ${state} ${isReleased}`);
  await expect(rig.coordinator.releaseClaim("3333", "root")).rejects.toThrow(
    'Cannot release "3333": no node holds it, wanted a domain or port that `claims list` shows',
  );
  await rig.coordinator.releaseClaim("2222", "root");
  await rig.coordinator.releaseClaim("Demo.Example.org.", "root");
  expect(shown()).toEqual(["2222 host-2 held true", "demo.example.org host-2 held true"]);
  const state = await store.load();
  expect([state.settings.get("funnelReleased"), (await rig.coordinator.adminLog())[0]]).toMatchObject([
    '["2222","demo.example.org"]',
    { by: "root", action: "claim.release", detail: "demo.example.org" },
  ]);
  await rig.lite(NODES[1], asking(NODES[1], CLAIMS));
  const relay = await rig.follow(RELAY);
  expect(routes(await relay())).toEqual({ "2222": ["host-3"], "demo.example.org": ["host-3"] });
  await rig.lite(NODES[0], asking(NODES[0], CLAIMS)); // back, and told so
  expect(shown()).toEqual([
    "2222 host-3 held false",
    "2222 host-2 taken false",
    "demo.example.org host-3 held false",
    "demo.example.org host-2 taken false",
  ]);
  const released = await rig.coordinator.releaseClaim("2222", "root"); // to who waits for it
  expect(released).toMatchObject({ claim: "2222", node: "host-2", state: "held", isReleased: false });
});

test("FN-14 a policy without its grants for a minute moved what nodes hold to whoever was first afterwards", async () => {
  const rig = await world(new MemoryCoordinationStore());
  await rig.lite(NODES[1], asking(NODES[1], CLAIMS)); // the younger node was first
  await rig.lite(NODES[0], asking(NODES[0], CLAIMS));
  const relay = await rig.follow(RELAY);
  const held = { "2222": ["host-3"], "demo.example.org": ["host-3"] };
  expect(routes(await relay())).toEqual(held);
  const relayed = `{"target": ["tag:relay"], "attr": ["sallyport.dev/ingress"]}`;
  for (const attrs of [relayed, `${relayed}, {"target": ["*"], "attr": ["funnel"]}`]) {
    const slip = `{"tagOwners": {"tag:relay": ["ada@example.com"]}, "nodeAttrs": [${attrs}]}`;
    await rig.coordinator.setPolicy(compilePolicy(slip), slip, "root");
    expect(routes(await relay())).toEqual({ "2222": [], "demo.example.org": [] });
    expect(rig.coordinator.claims().map(({ state }) => state)).toEqual(Array(4).fill("ungranted"));
    // Whoever was heard of last stands behind the others, and would be asked last.
    await rig.lite(NODES[1], { ...asking(NODES[1], CLAIMS), Endpoints: [`192.0.2.1:${attrs.length}`] });
    await rig.coordinator.setPolicy(compilePolicy(POLICY), POLICY, "root");
    expect(routes(await relay())).toEqual(held);
  }
  const others = POLICY.replace('"target": ["*"]', '"target": ["bob@example.com"]');
  const node = rig.coordinator.nodes().find(({ name }) => name === "host-3")!;
  await rig.coordinator.setPolicy(compilePolicy(others), others, "root");
  await rig.coordinator.assignNode(node.id, "ada@example.com", "root"); // a grant that the other one keeps
  expect(routes(await relay())).toEqual({ "2222": ["host-2"], "demo.example.org": ["host-2"] });
  await rig.coordinator.assignNode(node.id, "bob@example.com", "root");
  expect(routes(await relay())).toEqual({ "2222": ["host-2"], "demo.example.org": ["host-2"] });
});

test("FN-14 a key that has run out keeps what its node holds; a node that is removed gives it up", async () => {
  const rig = await world(new MemoryCoordinationStore());
  const [, holder] = await Promise.all(
    NODES.map(async (seed) => rig.coordinator.nodes().find(({ name }) => name === `host-${seed}`)!),
  );
  await rig.lite(NODES[1], asking(NODES[1], CLAIMS));
  await rig.lite(NODES[0], asking(NODES[0], CLAIMS));
  const relay = await rig.follow(RELAY);
  await rig.coordinator.expireNode(holder!.id, "root");
  expect(routes(await relay())).toEqual({ "2222": [], "demo.example.org": [] });
  await rig.coordinator.deleteNode(holder!.id, "root");
  expect(routes(await relay())).toEqual({ "2222": ["host-2"], "demo.example.org": ["host-2"] });
});
