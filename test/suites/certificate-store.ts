import { describe, expect, test } from "vitest";
import type { CertificateStore } from "../../src/certs/store/certificate-store.ts";

export interface StoreUnderTest {
  readonly store: CertificateStore;
  /** The same data as another process sees it; absent where no other process can. */
  readonly another?: () => Promise<CertificateStore>;
}

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const textOf = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : Buffer.from(value).toString();
const never = new AbortController().signal;

const BAD_PATHS = [
  "",
  "/",
  "/etc/passwd",
  "../x",
  "a/../b",
  "a/..",
  ".",
  "a//b",
  "a/",
  "a/b/c/d/e",
  "a b",
  "a\0b",
  "a\\b",
  "A",
  "*.example.com",
  "locks/x",
  "x.previous",
  "x.new",
  "ä",
  `a/${"x".repeat(300)}`,
];

/** What every certificate store promises. */
export function certificateStoreSuite(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(name, () => {
    test("keeps, replaces, lists in order and deletes; the value before is there until then", async () => {
      const { store } = await open();
      expect(await store.read("certificates/b.example.pem")).toBeUndefined();
      await store.write("certificates/b.example.pem", bytes("one"));
      expect(await store.previous("certificates/b.example.pem")).toBeUndefined();
      await store.write("certificates/b.example.pem", bytes("two"));
      await store.write("certificates/_wildcard.a.example+0a1b.pem", Uint8Array.of(0, 255, 10));
      await store.write("certificates-other", bytes(""));
      expect(textOf(await store.read("certificates/b.example.pem"))).toBe("two");
      expect(textOf(await store.previous("certificates/b.example.pem"))).toBe("one");
      expect(await store.read("certificates/_wildcard.a.example+0a1b.pem")).toEqual(Uint8Array.of(0, 255, 10));
      expect(await store.read("certificates-other")).toEqual(new Uint8Array());
      const lease = await store.lock("x", never);
      expect(await store.list("certificates/")).toEqual([
        "certificates/_wildcard.a.example+0a1b.pem",
        "certificates/b.example.pem",
      ]);
      expect(await store.list("certificates/b")).toEqual(["certificates/b.example.pem"]);
      expect(await store.list("nothing/")).toEqual([]);
      expect(await store.list(""), "locks are no values").toHaveLength(3);
      await lease.release();
      await store.delete("certificates/b.example.pem");
      await store.delete("certificates/b.example.pem");
      expect(await store.read("certificates/b.example.pem")).toBeUndefined();
      expect(await store.previous("certificates/b.example.pem")).toBeUndefined();
      await store.close();
    });

    test("the same value again is no change: the value before it stays", async () => {
      const { store } = await open();
      for (const text of ["one", "two", "two"]) await store.write("a", bytes(text));
      expect(textOf(await store.previous("a"))).toBe("one");
      await store.close();
    });

    test("values are the store's own: neither the writer nor a reader changes them", async () => {
      const { store } = await open();
      const value = bytes("one");
      await store.write("a", value);
      value.fill(0);
      (await store.read("a"))!.fill(0);
      expect(textOf(await store.read("a"))).toBe("one");
      await store.close();
    });

    test("writers of one path at once: a whole value of one of them", async () => {
      const { store, another } = await open();
      const other = (await another?.()) ?? store;
      await Promise.all(
        Array.from({ length: 20 }, (_, i) => (i % 2 ? store : other).write("a", bytes(`${i} `.repeat(5000)))),
      );
      const words = textOf(await other.read("a"))!
        .trim()
        .split(" ");
      expect(words).toHaveLength(5000);
      expect(new Set(words).size).toBe(1);
      await other.close();
      if (other !== store) await store.close();
    });

    test("refuses paths that are none, and values that are too large", async () => {
      const { store } = await open();
      for (const path of BAD_PATHS) {
        await expect(store.write(path, bytes("x")), path).rejects.toMatchObject({ code: "CERT_STORE_PATH" });
        await expect(store.read(path), path).rejects.toMatchObject({ code: "CERT_STORE_PATH" });
        await expect(store.lock(path, never), path).rejects.toMatchObject({ code: "CERT_STORE_PATH" });
      }
      await expect(store.write("a", new Uint8Array(5 << 20))).rejects.toMatchObject({ code: "CERT_STORE_SIZE" });
      expect(await store.list("")).toEqual([]);
      await store.close();
    });

    test("one holder of a lock at a time, of all who share the store; names do not wait for each other", async () => {
      const { store, another } = await open();
      const other = (await another?.()) ?? store;
      let holders = 0;
      let most = 0;
      let turns = 0;
      const take = async (from: CertificateStore): Promise<void> => {
        const lease = await from.lock("order", never);
        most = Math.max(most, ++holders);
        const before = Number(textOf(await from.read("count")) ?? 0);
        await from.write("count", bytes(String(before + 1)), lease);
        holders--;
        turns++;
        await lease.release();
      };
      const elsewhere = await store.lock("another-order", never);
      await Promise.all(Array.from({ length: 8 }, (_, i) => take(i % 2 ? store : other)));
      expect([most, turns, textOf(await store.read("count"))]).toEqual([1, 8, "8"]);
      await elsewhere.release();
      await other.close();
      if (other !== store) await store.close();
    });

    test("who gives up waiting is not waited for", async () => {
      const { store } = await open();
      const first = await store.lock("a", never);
      const abort = new AbortController();
      const second = store.lock("a", abort.signal);
      const third = store.lock("a", never);
      abort.abort(new Error("had enough"));
      await expect(second).rejects.toThrow("had enough");
      await expect(store.lock("a", abort.signal)).rejects.toThrow("had enough");
      await first.release();
      await (await third).release();
      await store.close();
    });

    test("a write under a lock that was given back is refused", async () => {
      const { store } = await open();
      const lease = await store.lock("a", never);
      await store.write("a", bytes("held"), lease);
      await lease.release();
      await lease.release();
      await expect(store.write("a", bytes("late"), lease)).rejects.toMatchObject({ code: "CERT_LEASE_LOST" });
      await expect(store.delete("a", lease)).rejects.toMatchObject({ code: "CERT_LEASE_LOST" });
      expect(textOf(await store.read("a"))).toBe("held");
      await store.close();
    });
  });
}
