import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FakeClock, systemClock } from "../../src/base/clock.ts";
import { type Log, silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openKeeper } from "../../src/certs/open-keeper.ts";
import { type CertificateStore, STALE_MS } from "../../src/certs/store/certificate-store.ts";
import { fileCertificateStore } from "../../src/certs/store/file-store.ts";
import { postgresCertificateStore } from "../../src/certs/store/postgres-store.ts";
import type { CertificatesConfig } from "../../src/config/certificates.ts";
import { openCertificateSources } from "../../src/gateway/certificates/certificate-sources.ts";
import { startCa } from "../acme-ca/customer.ts";
import { peersOrSkip } from "../peers.ts";
import { certificateStoreSuite } from "../suites/certificate-store.ts";
import { FakeAuthority, Signer } from "../suites/fake-authority.ts";
import { listening } from "../suites/listening.ts";
import { POSTGRES_PASSWORD, type PostgresServer, startPostgres } from "./postgres.ts";

const { missing } = peersOrSkip("postgres", "initdb");
const never = new AbortController().signal;
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const options = { clock: systemClock, random: systemRandom, log: silentLog };

describe.skipIf(missing !== undefined)(`PostgreSQL ${missing ?? ""}`, () => {
  let server: PostgresServer;
  let admin: pg.Client;
  beforeAll(async () => {
    server = await startPostgres();
    admin = new pg.Client({ connectionString: server.url });
    await admin.connect();
  });
  afterAll(async () => {
    await admin?.end();
    await server?.close();
  });

  const another = (): Promise<CertificateStore> => postgresCertificateStore(server.url, options);
  const empty = async (): Promise<void> => void (await admin.query("drop schema if exists sallyport cascade"));

  certificateStoreSuite("certificates in PostgreSQL", async () => {
    await empty();
    return { store: await another(), another };
  });

  test("gateways that start together make one schema", async () => {
    await empty();
    const stores = await Promise.all(Array.from({ length: 8 }, another));
    await Promise.all(stores.map((store) => store.list("")));
    await stores[0]!.write("a", bytes("one"));
    for (const store of stores) expect(await store.list("")).toEqual(["a"]);
    await Promise.all(stores.map((store) => store.close()));
    expect((await admin.query("select version from sallyport.certificate_schema")).rows).toEqual([{ version: 1 }]);
  });

  test("ST-8 what a newer sallyport wrote is left alone", async () => {
    await empty();
    const before = await another();
    await before.write("a", bytes("one"));
    await before.close();
    await admin.query("update sallyport.certificate_schema set version = 2");
    const store = await another();
    for (const use of [store.read("a"), store.write("a", bytes("two")), store.lock("a", never)]) {
      await expect(use).rejects.toMatchObject({ code: "CERT_STORE_VERSION" });
    }
    await store.close();
  });

  test("the URL is a secret: no error holds its password, in any spelling", async () => {
    const wrong = encodeURIComponent(`${POSTGRES_PASSWORD}-not`);
    for (const url of [
      server.url.replace(encodeURIComponent(POSTGRES_PASSWORD), wrong),
      `postgresql://house:${wrong}@127.0.0.1:1/postgres`,
      server.url.replace("/postgres?", "/no-such-database?"),
    ]) {
      const store = await postgresCertificateStore(url, options); // which asks for nothing yet
      const fault = await store.read("a").catch((error: unknown) => error);
      await store.close();
      expect(fault).toMatchObject({ code: "CERT_STORE_FAILED" });
      const { message, stack, cause, hint } = fault as Error & { hint?: string };
      for (const secret of [POSTGRES_PASSWORD, encodeURIComponent(POSTGRES_PASSWORD)]) {
        expect(JSON.stringify([message, stack, cause, hint])).not.toContain(secret);
      }
    }
  });

  test("a database that is away when the gateway starts: used as soon as it is there", async () => {
    await empty();
    const url = new URL(`postgresql://house:${encodeURIComponent(POSTGRES_PASSWORD)}@127.0.0.1/postgres`);
    const door = createServer((caller) => {
      const inside = connect(server.socket);
      for (const end of [caller, inside]) end.on("error", () => end.destroy()); // the server may be the first to end
      caller.pipe(inside).pipe(caller);
    });
    const port = await listening(door);
    door.close();
    await once(door, "close");
    url.port = String(port);
    const store = await postgresCertificateStore(url.href, options);
    await expect(store.read("a")).rejects.toMatchObject({ code: "CERT_STORE_FAILED" });
    door.listen(port, "127.0.0.1");
    await once(door, "listening");
    await store.write("a", bytes("one"));
    expect(Buffer.from((await store.read("a"))!).toString()).toBe("one");
    await store.close();
    door.close();
  });

  test("ST-10 connections that the server ends while it writes: every write lands, once", async () => {
    await empty();
    const store = await another();
    let written = 0;
    let writing = true;
    const breaking = (async () => {
      // All connections, again once a write got through: none is made to fail for ever.
      for (let seen = -1; writing; await sleep(20)) {
        if (seen === written) continue;
        seen = written;
        await admin.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sallyport'",
        );
      }
    })();
    try {
      for (let i = 1; i <= 200; i++) {
        await store.write("count", bytes(String(i)));
        written = i;
        expect(Buffer.from((await store.read("count"))!).toString()).toBe(String(i));
        if (i > 1) expect(Buffer.from((await store.previous("count"))!).toString()).toBe(String(i - 1));
      }
    } finally {
      writing = false;
      await breaking;
    }
    await store.close();
  });

  test("AC-6 ten gateways that share a database, 20 names: 20 orders", async () => {
    await empty();
    await shareNames(await Promise.all(Array.from({ length: 10 }, another)));
  });

  test("three gateways with `store` in a database: one order over ACME, one account, and its password in no log", async () => {
    await empty();
    const ca = await startCa();
    const lines: string[] = [];
    const write = (event: string, fields?: object): void => void lines.push(`${event} ${JSON.stringify(fields)}`);
    const log: Log = { debug: write, info: write, warn: write, error: write, with: () => log };
    const settings: CertificatesConfig = {
      authority: { directory: ca.directory },
      challenges: [{ type: "exec", command: ["/bin/true"], waitMs: 1 }],
      store: "env:CERTIFICATES",
    };
    const around = { control: { names: () => [], set: async () => {} }, env: { CERTIFICATES: server.url } };
    const gateways = await Promise.all(
      Array.from({ length: 3 }, () => openCertificateSources(settings, { ...options, ...around, log })),
    );
    const names = ["app.example.com", "*.app.example.com"];
    const served = await Promise.all(
      gateways.map(async ({ keeper }) => {
        await keeper!.want([{ names, when: "ahead" }]);
        return keeper!.obtain("x.app.example.com");
      }),
    );
    expect(new Set(served.map(({ chain }) => chain)).size).toBe(1);
    expect(ca.orders.map(({ status }) => status)).toEqual(["valid"]);
    expect(ca.accounts).toHaveLength(1);
    await Promise.all(gateways.map((gateway) => gateway.close()));
    expect(lines.join("\n")).toContain("certs.issued");
    for (const secret of [POSTGRES_PASSWORD, encodeURIComponent(POSTGRES_PASSWORD), "PRIVATE KEY"]) {
      expect(lines.join("\n")).not.toContain(secret);
    }
  });

  test("AC-7 a holder that stopped: taken over after 10 s of the database, its late write is refused by the database", async () => {
    await empty();
    // Its clock stands still, as that of a process that is stopped; the waiter's is an hour wrong.
    const stopped = await postgresCertificateStore(server.url, { ...options, clock: new FakeClock() });
    const lease = await stopped.lock("order", never);
    const store = await postgresCertificateStore(server.url, {
      ...options,
      clock: { ...systemClock, wall: () => systemClock.wall() + 3_600_000 },
    });
    const since = performance.now();
    const taken = await store.lock("order", never);
    const waited = performance.now() - since;
    expect(waited).toBeGreaterThan(STALE_MS - 500);
    expect(waited).toBeLessThan(30_000);
    expect(lease.lost.aborted, "it does not know").toBe(false);
    await expect(stopped.write("a", bytes("late"), lease)).rejects.toMatchObject({ code: "CERT_LEASE_LOST" });
    await store.write("a", bytes("in time"), taken);
    await lease.release();
    await store.write("a", bytes("the late release took nothing away"), taken);
    await taken.release();
    await Promise.all([store.close(), stopped.close()]);
  });

  test("AC-7 a holder that beats keeps it past 10 s", async () => {
    await empty();
    const [store, other] = [await another(), await another()];
    const lease = await store.lock("order", never);
    let overtaken = false;
    const waiting = other.lock("order", never).then((got) => {
      overtaken = true;
      return got;
    });
    await sleep(STALE_MS + 2_500);
    expect([overtaken, lease.lost.aborted]).toEqual([false, false]);
    await lease.release();
    await (await waiting).release();
    await Promise.all([store.close(), other.close()]);
  });
});

/** As many gateways as there are stores start at once; 20 names, one order each. */
async function shareNames(stores: readonly CertificateStore[]): Promise<void> {
  const [from, to] = [Date.now() - 86_400_000, Date.now() + 365 * 86_400_000];
  const signer = await Signer.create("issuer", from, to);
  const authority = new FakeAuthority("test", systemClock, signer);
  const names = Array.from({ length: 20 }, (_, i) => `n${i}.example`);
  const keepers = await Promise.all(
    stores.map((store) => openKeeper({ ...options, store, authorities: [authority], solvers: [] })),
  );
  await Promise.all(keepers.map((keeper) => keeper.want(names.map((name) => ({ names: [name], when: "ahead" })))));
  await Promise.all(keepers.flatMap((keeper) => names.map((name) => keeper.obtain(name))));
  expect(authority.issued.map((order) => order.names[0]).sort()).toEqual([...names].sort());
  for (const keeper of keepers) {
    for (const name of names) expect(keeper.certificate(name)).toEqual(keepers[0]!.certificate(name));
  }
  await Promise.all(keepers.map((keeper) => keeper.close()));
  await Promise.all(stores.map((store) => store.close()));
}

test("AC-6 50 gateways that share a folder, 20 names: 20 orders", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "sp-shared-"));
  try {
    await shareNames(await Promise.all(Array.from({ length: 50 }, () => fileCertificateStore(folder, options))));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("AC-7 three holders of locks in files, killed by -9: each is taken over within 30 s", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "sp-locks-"));
  const module = (file: string): string => JSON.stringify(new URL(`../../src/${file}`, import.meta.url).href);
  const script = `
    const { fileCertificateStore } = await import(${module("certs/store/file-store.ts")});
    const { systemClock } = await import(${module("base/clock.ts")});
    const { systemRandom } = await import(${module("base/random.ts")});
    const clock = { ...systemClock, wall: () => Date.now() + Number(process.argv[2]) };
    const store = await fileCertificateStore(process.argv[1], { clock, random: systemRandom });
    for (const name of ["a", "b", "c"]) await store.lock(name, new AbortController().signal);
    process.stdout.write("held");
    setInterval(() => {}, 1000);`;
  const child = spawn(
    "setpriv",
    ["--pdeathsig", "KILL", process.execPath, "--input-type=module", "-e", script, folder, "300000"],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  try {
    await once(child.stdout, "data");
    const store = await fileCertificateStore(folder, options);
    let dead = false;
    const waits = ["a", "b", "c"].map(async (name) => {
      const lease = await store.lock(name, never);
      expect(dead, "never while it lives").toBe(true);
      await lease.release();
      return performance.now();
    });
    await sleep(12_000);
    dead = true;
    const killedAt = performance.now();
    child.kill("SIGKILL");
    for (const takenAt of await Promise.all(waits)) expect(takenAt - killedAt).toBeLessThan(30_000);
  } finally {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
});
