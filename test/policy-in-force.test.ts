import { expect, test } from "vitest";
import { FakeClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { seededRandom } from "../src/base/random.ts";
import { Coordinator } from "../src/coordination/coordinator.ts";
import { compilePolicy } from "../src/coordination/policy/policy.ts";
import { MemoryCoordinationStore } from "../src/coordination/store/memory-store.ts";

const hex = (seed: number): string => seed.toString(16).padStart(64, "0");

async function house(policy: string) {
  const coordinator = await Coordinator.open({
    store: new MemoryCoordinationStore(),
    clock: new FakeClock(),
    random: seededRandom(11),
    log: silentLog,
    serverUrl: "https://control.example",
    baseDomain: "tail.test",
    derpMap: () => ({ Regions: {} }),
    policy: compilePolicy(policy),
  });
  let seed = 0;
  const join = async (login: string, hostinfo: Readonly<Record<string, string>> = {}) => {
    const { key } = await coordinator.createAuthKey({ user: login }, "test");
    const own = hex(++seed);
    const answer = await coordinator.register(
      `mkey:${own}`,
      {
        Version: 142,
        NodeKey: `nodekey:${own}`,
        Hostinfo: { Hostname: `h${seed}`, ...hostinfo },
        Auth: { AuthKey: key },
      },
      new AbortController().signal,
    );
    return answer.Error === undefined || answer.Error === "" ? coordinator.nodes().at(-1)!.ipv4 : answer.Error;
  };
  for (const login of ["ada@example.com", "bob@example.com"]) await coordinator.createUser({ login }, "test");
  return { coordinator, join };
}

test("a new node of the policy's group gets an address of its ipPool, until the pool is full", async () => {
  const { coordinator, join } = await house(
    '{"groups": {"group:a": ["ada@example.com"]}, "nodeAttrs": [{"target": ["group:a"], "ipPool": ["100.81.0.0/31"]}]}',
  );
  expect([await join("ada@example.com"), await join("bob@example.com"), await join("ada@example.com")]).toEqual([
    "100.81.0.0",
    "100.64.0.1",
    "100.81.0.1",
  ]);
  expect(await join("ada@example.com")).toBe("no address is free");
  expect(await join("bob@example.com")).toBe("100.64.0.2");
  await coordinator.close();
});

test("postures look at what a node says of itself", async () => {
  const source = `{"postures": {"posture:a": ["node:os == 'macos'", "node:tsVersion >= '1.82'"]},
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"], "srcPosture": ["posture:a"]}]}`;
  const { coordinator, join } = await house(source);
  const mac = await join("ada@example.com", { OS: "macOS", IPNVersion: "1.98.1-tabc" });
  await join("ada@example.com", { OS: "linux", IPNVersion: "1.98.1-tabc" });
  await join("bob@example.com", { OS: "macOS", IPNVersion: "1.80.0" });
  await join("bob@example.com");
  const nodes = coordinator.policyNodes();
  const sources = new Set(
    nodes.flatMap((node) => compilePolicy(source).filterFor(node, nodes)).flatMap(({ SrcIPs }) => SrcIPs),
  );
  expect([...sources].filter((text) => !text.includes(":"))).toEqual([mac]);
  await coordinator.close();
});
