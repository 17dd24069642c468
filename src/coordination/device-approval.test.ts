import { expect, test } from "vitest";
import { mkey, nodeKey, peersOf, start } from "../../test/suites/coordination-rig.ts";

test("a device that joined while approval is on knows nobody and is known to nobody, until it is approved", async () => {
  const { coordinator, ask, join, poll, settle, lite } = await start();
  await join(1, "ada@example.com");
  const one = await poll(1);
  one.take();
  await coordinator.setDeviceApproval(true, "root");
  const { key } = await coordinator.createAuthKey({ user: "bob@example.com", reusable: true }, "root");
  expect(await ask(2, { Auth: { AuthKey: key } })).toMatchObject({ MachineAuthorized: false, Error: "", AuthURL: "" });
  const two = await poll(2);
  await lite(2, { Hostinfo: { Hostname: "host-2", RoutableIPs: ["10.9.0.0/16"] } });
  await settle(1000);
  const [full] = two.take();
  expect(full).toMatchObject({ PacketFilters: { base: [] } });
  expect([full!.Node!.MachineAuthorized, full!.Peers, peersOf(one.take())]).toEqual([undefined, undefined, []]);
  expect(coordinator.isKnownNodeKey(nodeKey(2))).toBe(false);
  const body = { NodeKey: nodeKey(2), Feature: "serve" };
  expect(await coordinator.other(mkey(2), "POST", "/machine/feature/query", body)).toMatchObject({ status: 403 });
  // A restart of the client changes nothing about it.
  expect(await ask(2, { Auth: { AuthKey: key } })).toMatchObject({ MachineAuthorized: false });

  await coordinator.approveNode("host-2", "root");
  await settle(1000);
  const approved = two.take();
  expect(approved[0]).toMatchObject({ Node: { MachineAuthorized: true } });
  expect(peersOf(approved).map(({ ID }) => ID)).toEqual([1]);
  expect(peersOf(one.take())).toMatchObject([{ ID: 2, MachineAuthorized: true, PrimaryRoutes: ["10.9.0.0/16"] }]);
  expect(coordinator.isKnownNodeKey(nodeKey(2))).toBe(true);
  expect(await coordinator.adminLog({ limit: 1 })).toMatchObject([{ by: "root", action: "node.approve" }]);
});

test("who is in stays in; a preapproved key and an administrator's own approval of the login are enough", async () => {
  const { coordinator, ask, join } = await start();
  await join(1, "ada@example.com");
  await coordinator.setDeviceApproval(true, "root");
  const { key } = await coordinator.createAuthKey({ user: "bob@example.com", preapproved: true }, "root");
  expect(await ask(2, { Auth: { AuthKey: key } })).toMatchObject({ MachineAuthorized: true });
  for (const [seed, isApproved] of [
    [3, true],
    [4, false],
  ] as const) {
    await ask(seed);
    const { id } = coordinator.pendingLogins()[0]!;
    await coordinator.approveRegistration(id, "ada@example.com", "ada@example.com", { isApproved });
  }
  expect(coordinator.nodes().map(({ isUnapproved = false }) => isUnapproved)).toEqual([false, false, false, true]);
  await coordinator.setDeviceApproval(false, "root");
  await join(5, "ada@example.com");
  expect(coordinator.node(5)?.isUnapproved).toBeUndefined();
  expect(coordinator.node(4)?.isUnapproved).toBe(true);
});
