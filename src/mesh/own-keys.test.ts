import { expect, test } from "vitest";
import { toHex } from "../base/bytes.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import { memoryStore, type Store } from "../base/store.ts";
import { generatePrivateKey } from "../crypto/keys.ts";
import { OwnKeys } from "./own-keys.ts";
import { TIMESTAMP_RESERVE_MS } from "./state.ts";

const random = seededRandom(3);
const load = (store: Store) => OwnKeys.load(store, random);
const text = (keys: OwnKeys) => [toHex(keys.machineKey), toHex(keys.nodeKey.private)];

test("a restart finds the same keys", async () => {
  const store = memoryStore();
  const before = await load(store);
  expect(text(await load(store))).toEqual(text(before));
});

test("a key that the server took is in force at once and after a restart, and remembers the one before", async () => {
  const store = memoryStore();
  const keys = await load(store);
  const old = keys.nodeKey.private;
  const fresh = generatePrivateKey(random);
  await keys.adopt(fresh);
  for (const found of [keys, await load(store)]) {
    expect([toHex(found.nodeKey.private), toHex(found.nodeKey.old!)]).toEqual([toHex(fresh), toHex(old)]);
  }
});

test("after a logout it is another node on the same machine, and trusts no server", async () => {
  const store = memoryStore();
  const keys = await load(store);
  await keys.rememberServer("https://mesh.test", "mkey:1");
  await keys.adopt(generatePrivateKey(random));
  keys.reserveTimestamps(5000, silentLog);
  const before = text(keys);
  await keys.forget();
  const after = await load(store);
  expect(text(after)[0]).toBe(before[0]);
  expect(text(after)[1]).not.toBe(before[1]);
  expect([after.nodeKey.old, after.serverKeyOf("https://mesh.test")]).toEqual([undefined, undefined]);
  expect(after.timestampFloor).toBe(5000 + TIMESTAMP_RESERVE_MS); // peers would take older ones for replays
});

test("CC-1 the server's key is remembered by its URL, over a restart", async () => {
  const store = memoryStore();
  const keys = await load(store);
  await keys.rememberServer("https://mesh.test", "mkey:1");
  const after = await load(store);
  expect([after.serverKeyOf("https://mesh.test"), after.serverKeyOf("https://other.test")]).toEqual([
    "mkey:1",
    undefined,
  ]);
});

test("writes go one after the other, so that the last one stays", async () => {
  const inner = memoryStore();
  let writing = 0;
  const store: Store = {
    ...inner,
    async set(name, value) {
      expect(++writing).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
      await inner.set(name, value);
      writing--;
    },
  };
  const keys = await load(store);
  const last = generatePrivateKey(random);
  await Promise.all([keys.rememberServer("u", "k"), keys.adopt(generatePrivateKey(random)), keys.adopt(last)]);
  const after = await load(inner);
  expect([toHex(after.nodeKey.private), after.serverKeyOf("u")]).toEqual([toHex(last), "k"]);
});
