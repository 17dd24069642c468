import { type CertificateStore, checkedPath, checkedValue, type Lease, leaseLost } from "./certificate-store.ts";
import { Turns } from "./turns.ts";

/** A store that forgets everything with the process. */
export function memoryCertificateStore(): CertificateStore {
  const values = new Map<string, { value: Uint8Array; previous: Uint8Array | undefined }>();
  const turns = new Turns();
  const released = new WeakSet<Lease>();
  const checkLease = (lease: Lease | undefined): void => {
    if (lease !== undefined && released.has(lease)) throw leaseLost("a released lock");
  };
  return {
    read: async (path) => values.get(checkedPath(path))?.value.slice(),
    previous: async (path) => values.get(checkedPath(path))?.previous?.slice(),
    async write(path, value, lease) {
      checkLease(lease);
      const before = values.get(checkedPath(path));
      if (before !== undefined && Buffer.compare(before.value, value) === 0) return;
      values.set(path, { value: checkedValue(path, value).slice(), previous: before?.value });
    },
    async delete(path, lease) {
      checkLease(lease);
      values.delete(checkedPath(path));
    },
    list: async (prefix) => [...values.keys()].filter((path) => path.startsWith(prefix)).sort(),
    async lock(name, signal) {
      const end = await turns.take(checkedPath(name), signal);
      const lease: Lease = {
        lost: new AbortController().signal,
        async release() {
          released.add(lease);
          end();
        },
      };
      return lease;
    },
    async close() {},
  };
}
