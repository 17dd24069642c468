import { expect, test } from "vitest";
import { open, peersOf, type Recorder, start } from "../../test/suites/coordination-rig.ts";
import { compilePolicy } from "./policy/policy.ts";
import type { PolicyEngine } from "./policy-engine.ts";

test("a subnet route moves to the router that is there", async () => {
  const { coordinator, join, poll, settle, lite } = await start();
  for (const seed of [1, 2, 3]) await join(seed, "ada@example.com");
  const three = await poll(3);
  await poll(1);
  const two = await poll(2);
  for (const seed of [1, 2]) {
    await lite(seed, { Hostinfo: { Hostname: `host-${seed}`, RoutableIPs: ["10.2.0.0/16"] } });
    await coordinator.setRoutes(seed, ["10.2.0.0/16"], "root");
  }
  await settle(250);
  const routers = () => new Map(peersOf(three.messages).map((peer) => [peer.ID, peer.PrimaryRoutes]));
  expect(routers().get(1)).toEqual(["10.2.0.0/16"]);
  expect(routers().get(2)).toBeUndefined();
  const one = await poll(1);
  one.hangUp();
  await one.done;
  await settle(10_000);
  await settle(250);
  expect(routers().get(2)).toEqual(["10.2.0.0/16"]);
  expect(routers().get(1)).toBeUndefined();
  two.hangUp();
});

test("CS-9 via sends each to their own router of one route, whoever carries it for the others", async () => {
  const policy = compilePolicy(`{"tagOwners": {"tag:a": [], "tag:b": []}, "grants": [
    {"src": ["ada@example.com"], "dst": ["10.2.0.0/16"], "ip": ["*"], "via": ["tag:a"]},
    {"src": ["bob@example.com"], "dst": ["10.2.0.0/16"], "ip": ["*"], "via": ["tag:b"]}]}`);
  const { coordinator, join, poll, settle, lite } = await start({ policy });
  await join(1, "ada@example.com");
  await join(2, "bob@example.com");
  for (const seed of [3, 4, 5]) await join(seed, "ada@example.com");
  const [ada, bob] = [await poll(1), await poll(2)];
  const routers = [await poll(3), await poll(4), await poll(5)];
  for (const [i, seed] of [3, 4, 5].entries()) {
    await coordinator.tagNode(seed, [i === 0 ? "tag:a" : "tag:b"], "root");
    await lite(seed, { Hostinfo: { Hostname: `host-${seed}`, RoutableIPs: ["10.2.0.0/16"] } });
    await coordinator.setRoutes(seed, ["10.2.0.0/16"], "root");
  }
  await settle(250);
  const shown = (sink: Recorder) => {
    const last = new Map(peersOf(sink.messages).map((peer) => [peer.ID, peer.PrimaryRoutes ?? []]));
    return [3, 4, 5].filter((id) => (last.get(id) ?? []).length > 0);
  };
  expect([shown(ada), shown(bob)]).toEqual([[3], [4]]);
  routers[1]!.hangUp();
  await routers[1]!.done;
  await settle(10_000);
  await settle(250);
  expect([shown(ada), shown(bob)]).toEqual([[3], [5]]);
});

test("CS-9 a route is shown to those whom the policy admits, also when only the router changes", async () => {
  const routes = (viewer: string): readonly string[] =>
    viewer === "ada@example.com" ? ["10.2.0.0/16", "0.0.0.0/0"] : ["10.2.0.0/16"];
  const policy: PolicyEngine = { ...open, routesFor: (viewer) => routes(viewer.user ?? "") };
  const { coordinator, join, poll, settle, lite } = await start({ policy });
  await join(1, "ada@example.com");
  await join(2, "bob@example.com");
  await join(3, "bob@example.com");
  const [one, two] = [await poll(1), await poll(2)];
  const RoutableIPs = ["10.2.0.0/16", "10.3.0.0/16", "0.0.0.0/0"];
  await lite(3, { Hostinfo: { Hostname: "host-3", RoutableIPs } });
  await coordinator.setRoutes(3, RoutableIPs, "root");
  await settle(250);
  const shown = (sink: Recorder) => {
    const { AllowedIPs, PrimaryRoutes } = peersOf(sink.messages).findLast(({ ID }) => ID === 3)!;
    return [AllowedIPs!.slice(2), PrimaryRoutes];
  };
  expect(shown(one)).toEqual([["10.2.0.0/16", "0.0.0.0/0"], ["10.2.0.0/16"]]);
  expect(shown(two)).toEqual([["10.2.0.0/16"], ["10.2.0.0/16"]]);
  await coordinator.renameNode(3, "router", "root");
  await settle(250);
  expect(shown(one)).toEqual([["10.2.0.0/16", "0.0.0.0/0"], ["10.2.0.0/16"]]);
  expect(shown(two)).toEqual([["10.2.0.0/16"], ["10.2.0.0/16"]]);
  await coordinator.setPolicy({ ...policy, routesFor: () => [] }, "{}", "root");
  await settle(250);
  expect(shown(one)).toEqual([[], undefined]);
});

test("approving an exit node for one family approves it for both; unasked routes are approved for later", async () => {
  const { coordinator, join, lite } = await start();
  await join(1, "ada@example.com");
  await lite(1, { Hostinfo: { Hostname: "host-1", RoutableIPs: ["0.0.0.0/0", "::/0", "10.1.0.0/16"] } });
  const { servedRoutes } = await coordinator.setRoutes("host-1", ["0.0.0.0/0", "10.2.0.0/16"], "root");
  expect(servedRoutes).toEqual(["0.0.0.0/0", "::/0"]);
  await lite(1, { Hostinfo: { Hostname: "host-1", RoutableIPs: ["10.2.0.0/16"] } });
  expect(coordinator.node(1)!.servedRoutes).toEqual(["10.2.0.0/16"]);
});
