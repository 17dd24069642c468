import { expect, test } from "vitest";
import { mkey, nodeKey, open, start } from "../../test/suites/coordination-rig.ts";

/** All that a node could ask for that is not its own challenge. */
function foreignNames(own: string, others: readonly string[], domain: string): string[] {
  const challenge = "_acme-challenge.";
  const spellings = [
    ...[`${challenge}${own}.`, `${challenge}${own}..`, ` ${challenge}${own}`, `${challenge}${own} `],
    ...[`${challenge}${own}\n`, `${challenge}${own}\0`, `${challenge}*.${own}`, `${challenge}.${own}`],
    ...[`_ACME-challenge.${own}`, `_acme-Challenge.${own}`, `${challenge}${own}`.toUpperCase()],
    ...[`${challenge}${own.replace("h", "H")}`, `${challenge}${own.replace("tail", "tAil")}`],
    ...[`x.${challenge}${own}`, `${challenge}x.${own}`, `${challenge}${challenge}${own}`, `_acme-challenge${own}`],
    ...[own, `*.${own}`, `_dmarc.${own}`, `acme-challenge.${own}`, `_acme-challenge-2.${own}`, `${challenge}-1${own}`],
    ...[domain, `${challenge}${domain}`, `*.${domain}`, `${challenge}*.${domain}`, `${challenge}test`, challenge],
    ...["_acme-challenge", "", ".", "*", "*.", "com", "example.com", `${challenge}example.com`],
    ...[`${challenge}${own}.example.com`, `${challenge}${own}@${domain}`, `${challenge}${own}/${own}`, "__proto__"],
    ...[`${challenge}${"a.".repeat(100)}${domain}`, `${challenge}${own}%2e`, `${challenge}${own}\\046`],
  ];
  return [...spellings, ...others.flatMap((name) => [`${challenge}${name}`, name, `${challenge}x.${name}`])];
}

test("CS-17 of 200 names a node may write one: its own challenge", async () => {
  const written: string[] = [];
  const { coordinator, join } = await start({ setTxt: async (name) => void written.push(name) });
  await join(1, "ada@example.com");
  const others: string[] = [];
  for (let seed = 2; seed <= 60; seed++) others.push((await join(seed, "bob@example.com")).fqdn.replace(/\.$/, ""));
  const names = [...new Set(foreignNames("host-1.tail.test", others, "tail.test"))].slice(0, 199);
  expect(new Set([...names, "_acme-challenge.host-1.tail.test"]).size).toBe(200);
  const set = (Name: string) =>
    coordinator.other(mkey(1), "POST", "/machine/set-dns", { NodeKey: nodeKey(1), Name, Type: "TXT", Value: "v" });
  const statuses = await Promise.all(names.map(async (name) => (await set(name)).status));
  expect(new Set(statuses)).toEqual(new Set([403]));
  expect((await set("_acme-challenge.host-1.tail.test")).status).toBe(200);
  expect(written).toEqual(["_acme-challenge.host-1.tail.test"]);
});

test("CS-17 the answer comes when the value is served, and says so when it could not be", async () => {
  const served = Promise.withResolvers<void>();
  const { coordinator, join } = await start({ setTxt: () => served.promise });
  await join(1, "ada@example.com");
  const ask = { NodeKey: nodeKey(1), Name: "_acme-challenge.host-1.tail.test", Type: "TXT", Value: "v" };
  let isAnswered = false;
  const answer = coordinator.other(mkey(1), "POST", "/machine/set-dns", ask).finally(() => {
    isAnswered = true;
  });
  for (let i = 0; i < 20; i++) await Promise.resolve();
  expect(isAnswered).toBe(false);
  served.reject(new Error("the disk is full"));
  expect((await answer).status).toBe(502);
});

test("CS-17 a node whose key is over proves nothing any more", async () => {
  const { coordinator, join } = await start({ setTxt: async () => {} });
  const node = await join(1, "ada@example.com");
  await coordinator.expireNode(node.id, "root");
  const ask = { NodeKey: nodeKey(1), Name: "_acme-challenge.host-1.tail.test", Type: "TXT", Value: "v" };
  expect((await coordinator.other(mkey(1), "POST", "/machine/set-dns", ask)).status).toBe(403);
});

test("nodes are told of certificates where their names can be proved, and only there", async () => {
  const policy = { ...open, attributesFor: () => ({}) };
  for (const setTxt of [undefined, async () => {}]) {
    const { coordinator, join, poll } = await start({ policy, ...(setTxt === undefined ? {} : { setTxt }) });
    await join(1, "ada@example.com");
    const [full] = (await poll(1)).take();
    const has = setTxt !== undefined;
    expect(full?.DNSConfig?.CertDomains).toEqual(has ? ["host-1.tail.test"] : undefined);
    expect("https" in (full?.Node?.CapMap ?? {})).toBe(has);
    expect(coordinator.mayHaveCertificate("host-1.tail.test")).toBe(has);
    expect(coordinator.mayHaveCertificate("host-2.tail.test")).toBe(false);
  }
});
