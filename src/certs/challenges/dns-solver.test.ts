import { describe, expect, test } from "vitest";
import { parseAddress } from "../../base/address.ts";
import { FakeClock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { silentLog } from "../../base/log.ts";
import { CLASS, CODE, type DnsMessage, type DnsRecord, encodeName, RECORD } from "../../wire/dns.ts";
import { soaData, textData } from "../../wire/dns-data.ts";
import { memoryCertificateStore } from "../store/memory-store.ts";
import type { Challenge } from "./challenge.ts";
import { ChallengeJournal } from "./challenge-journal.ts";
import type { DnsLookup } from "./dns-lookup.ts";
import type { DnsProvider } from "./dns-provider.ts";
import { type DnsSolverOptions, dnsSolver } from "./dns-solver.ts";
import { setDnsProvider } from "./providers/set-dns.ts";

const never = new AbortController().signal;
const VALUE = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
const CHALLENGE: Challenge = {
  ...{ type: "dns-01", name: "www.example.com", record: "_acme-challenge.www.example.com", value: VALUE },
};

type Answer = "silent" | { readonly code?: number; readonly answers?: DnsRecord[]; readonly authority?: DnsRecord[] };
const record = (name: string, type: number, data: Uint8Array): DnsRecord => ({
  ...{ name, type, class: CLASS.IN, ttl: 60, data },
});
const soa = (zone: string): DnsRecord =>
  record(
    zone,
    RECORD.SOA,
    soaData({ primary: "ns1.p.test", contact: "h.p.test", serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 1 }),
  );
const name = (text: string): Uint8Array => encodeName(text)!;

/** A DNS of two servers for one zone, `example.com`, and whatever `more` says. */
class World implements DnsLookup {
  readonly clock: FakeClock = new FakeClock();
  /** Server → records → values, as each of them shows it. */
  readonly servers: Map<string, Map<string, string[]>> = new Map([
    ["192.0.2.1", new Map()],
    ["192.0.2.2", new Map()],
  ]);
  readonly asked: string[] = [];
  readonly aliases: Map<string, string> = new Map();
  silent: ReadonlySet<string> = new Set();
  zone = "example.com";

  async ask(asked: string, type: number, { server }: { readonly server?: string }): Promise<DnsMessage> {
    this.asked.push(`${asked} ${type}${server === undefined ? "" : ` @${server}`}`);
    const answer = this.#answer(asked, type, server);
    if (answer === "silent") throw new Fault("CERT_DNS_SILENT", "no answer");
    const { code = CODE.OK, answers = [], authority = [] } = answer;
    return { id: 1, flags: 0x8000 | code, questions: [], answers, authority, additional: [] };
  }

  #answer(asked: string, type: number, server: string | undefined): Answer {
    if (server !== undefined) {
      const values = this.servers.get(server)?.get(asked) ?? [];
      if (this.silent.has(server)) return "silent";
      return { answers: values.map((value) => record(asked, RECORD.TXT, textData(value))) };
    }
    const alias = this.aliases.get(asked);
    if (type === RECORD.CNAME) {
      return alias === undefined ? { code: CODE.NAME } : { answers: [record(asked, RECORD.CNAME, name(alias))] };
    }
    if (type === RECORD.SOA) {
      return asked === this.zone ? { answers: [soa(this.zone)] } : { code: CODE.NAME, authority: [soa(this.zone)] };
    }
    if (type === RECORD.NS) {
      return { answers: ["ns1.p.test", "ns2.p.test"].map((ns) => record(asked, RECORD.NS, name(ns))) };
    }
    const address = { "ns1.p.test": "192.0.2.1", "ns2.p.test": "192.0.2.2" }[asked];
    if (type !== RECORD.A || address === undefined) return { code: CODE.NAME };
    return { answers: [record(asked, RECORD.A, parseAddress(address)!)] };
  }

  /** Writes to all servers, or to those named. */
  show(of: string, value: string, servers: Iterable<string> = this.servers.keys()): void {
    for (const server of servers) {
      const records = this.servers.get(server)!;
      records.set(of, [...(records.get(of) ?? []), value]);
    }
  }

  /** Lets everything go on until `work` settles, a second at a time. */
  async run<T>(work: Promise<T>): Promise<T> {
    let isOver = false;
    const watched = work.finally(() => {
      isOver = true;
    });
    watched.catch(() => {});
    for (let i = 0; i < 1000 && !isOver; i++) {
      for (let n = 0; n < 30; n++) await Promise.resolve();
      this.clock.advance(1000);
    }
    return watched;
  }
}

function setUp(more: Partial<DnsSolverOptions> = {}, world = new World()) {
  const calls: string[] = [];
  const provider: DnsProvider = {
    async set(of, value) {
      calls.push(`set ${of}`);
      world.show(of, value);
    },
    async remove(of) {
      calls.push(`remove ${of}`);
      for (const records of world.servers.values()) records.delete(of);
    },
  };
  const solver = dnsSolver({ id: "p", provider, lookup: world, clock: world.clock, log: silentLog, ...more });
  return { world, calls, solver, present: () => world.run(solver.present(CHALLENGE, never)) };
}

describe("AC-11 dns-01", () => {
  test("written, seen at every server of the zone, taken away", async () => {
    const { world, calls, present } = setUp();
    const away = await present();
    expect(calls).toEqual(["set _acme-challenge.www.example.com"]);
    expect(world.asked.filter((line) => line.includes("@"))).toEqual([
      "_acme-challenge.www.example.com 16 @192.0.2.1",
      "_acme-challenge.www.example.com 16 @192.0.2.2",
    ]);
    await away();
    expect(calls.at(-1)).toBe("remove _acme-challenge.www.example.com");
  });

  test("waits for the slowest server", async () => {
    const world = new World();
    const { present } = setUp(
      { provider: { set: async (of, value) => world.show(of, value, ["192.0.2.1"]), remove: async () => {} } },
      world,
    );
    world.clock.at(20_000, () => world.show(CHALLENGE.type === "dns-01" ? CHALLENGE.record : "", VALUE, ["192.0.2.2"]));
    await present();
    expect(world.clock.now()).toBeGreaterThanOrEqual(20_000);
    expect(world.clock.now()).toBeLessThan(40_000);
  });

  test("a server that does not answer us is not waited for, but one has to", async () => {
    const world = new World();
    world.silent = new Set(["192.0.2.2"]);
    await setUp({}, world).present();
    world.silent = new Set(["192.0.2.1", "192.0.2.2"]);
    await expect(setUp({}, world).present()).rejects.toMatchObject({ code: "CERT_CHALLENGE_UNSEEN" });
  });

  test("a value that is never shown: a fault that names the servers, and the record is taken away", async () => {
    const removed: string[] = [];
    const { present } = setUp({ provider: { set: async () => {}, remove: async (of) => void removed.push(of) } });
    await expect(present()).rejects.toMatchObject({
      code: "CERT_CHALLENGE_UNSEEN",
      message: expect.stringContaining("192.0.2.1, 192.0.2.2"),
    });
    expect(removed).toEqual(["_acme-challenge.www.example.com"]);
  });

  test("taken away also when writing failed, and when the order is stopped", async () => {
    const removed: string[] = [];
    const remove = async (of: string) => void removed.push(of);
    const failing = setUp({ provider: { set: () => Promise.reject(new Fault("X", "no")), remove } });
    await expect(failing.present()).rejects.toMatchObject({ code: "X" });
    const stop = new AbortController();
    const { world, solver } = setUp({ provider: { set: async () => stop.abort(new Error("stopped")), remove } });
    await expect(world.run(solver.present(CHALLENGE, stop.signal))).rejects.toThrow("stopped");
    expect(removed.length).toBe(2);
  });

  test("a provider that cannot take it away does not fail the order, and is asked again later", async () => {
    const store = memoryCertificateStore();
    const world = new World();
    const journal = new ChallengeJournal(store, world.clock);
    let isDown = true;
    const calls: string[] = [];
    const provider: DnsProvider = {
      set: async (of, value) => world.show(of, value),
      async remove(of) {
        calls.push(of);
        if (isDown) throw new Error("down");
      },
    };
    const { solver, present } = setUp({ provider, journal }, world);
    await (await present())();
    expect((await store.list("challenges/")).length).toBe(1);
    await solver.sweep(); // too early: it may be another process's
    expect(calls.length).toBe(1);
    world.clock.advance(3_600_001);
    isDown = false;
    await solver.sweep();
    await solver.sweep();
    expect([calls.length, await store.list("challenges/")]).toEqual([2, []]);
  });

  test("what a process left behind that died is taken away by the next one, after an hour", async () => {
    const store = memoryCertificateStore();
    const world = new World();
    const journal = new ChallengeJournal(store, world.clock);
    await setUp({ journal }, world).present(); // and here it dies
    const next = setUp({ journal }, world);
    const other = setUp({ journal, id: "another provider" }, world);
    world.clock.advance(3_600_001);
    await other.solver.sweep();
    await next.solver.sweep();
    expect([next.calls, other.calls]).toEqual([["remove _acme-challenge.www.example.com"], []]);
  });

  test("what stands for an order under way is not swept, however far the clock jumped", async () => {
    const world = new World();
    const journal = new ChallengeJournal(memoryCertificateStore(), world.clock);
    const { calls, solver, present } = setUp({ journal }, world);
    await present();
    world.clock.advance(30 * 86_400_000);
    await solver.sweep();
    expect(calls.length).toBe(1);
  });

  test("a foreign file in the journal is left alone", async () => {
    const store = memoryCertificateStore();
    await store.write("challenges/x.json", Buffer.from("no json"));
    await store.write("challenges/y.json", Buffer.from('{"provider":"p"}'));
    const { calls, solver, world } = setUp({ journal: new ChallengeJournal(store, new FakeClock()) });
    world.clock.advance(86_400_000);
    await solver.sweep();
    expect(calls).toEqual([]);
  });
});

describe("a CNAME of _acme-challenge", () => {
  const chain = (world: World, length: number): string => {
    let from = "_acme-challenge.www.example.com";
    for (let i = 1; i <= length; i++) {
      world.aliases.set(from, `c${i}.auth.test`);
      from = `c${i}.auth.test`;
    }
    return from;
  };

  test.each([1, 2, 8])("is followed over %i names", async (length) => {
    const { world, calls, present } = setUp();
    world.zone = "auth.test";
    const end = chain(world, length);
    await (await present())();
    expect(calls).toEqual([`set ${end}`, `remove ${end}`]);
  });

  test.each<[string, (world: World) => void]>([
    ["nine of them", (world) => void chain(world, 9)],
    ["a circle", (world) => world.aliases.set(chain(world, 3), "c1.auth.test")],
    ["to itself in a circle of two", (world) => world.aliases.set(chain(world, 1), "_acme-challenge.www.example.com")],
  ])("is refused where it leads on: %s", async (_name, lead) => {
    const { world, calls, present } = setUp();
    lead(world);
    await expect(present()).rejects.toMatchObject({ code: "CERT_CHALLENGE_ALIAS" });
    expect(calls).toEqual([]);
  });
});

test("set-dns of the coordination server: no aliases, no waiting, nothing to take away", async () => {
  const set: string[] = [];
  const provider = setDnsProvider(async (...args) => void set.push(args.slice(0, 2).join(" ")));
  const { world, present } = setUp({ provider });
  world.aliases.set("_acme-challenge.www.example.com", "elsewhere.test");
  await (await present())();
  expect(set).toEqual([`_acme-challenge.www.example.com ${VALUE}`]);
  expect(world.asked).toEqual([]);
});

test("where the zone's servers cannot be asked, a time is waited instead", async () => {
  const { world, present } = setUp({ propagation: { insteadMs: 45_000 } });
  await present();
  expect(world.clock.now()).toBeGreaterThanOrEqual(45_000);
  expect(world.asked.filter((line) => line.includes("@"))).toEqual([]);
});

test("covers names and their wildcards", () => {
  const { solver } = setUp({ covers: (of) => of === "example.com" || of.endsWith(".example.com") });
  const names = ["example.com", "*.example.com", "a.example.com", "*.a.example.com", "example.org", "*.org"];
  expect(names.map((of) => solver.canProve(of))).toEqual([true, true, true, true, false, false]);
});
