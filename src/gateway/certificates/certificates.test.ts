import { X509Certificate } from "node:crypto";
import type { SecureContext } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import { FakeClock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import { type Log, type LogFields, silentLog } from "../../base/log.ts";
import { memoryStore } from "../../base/store.ts";
import type { Certificate } from "../../certs/certificate.ts";
import type { CertificateKeeper, WantedCertificate } from "../../certs/keeper.ts";
import { LocalCa } from "../../certs/local-ca.ts";
import type { CertificatesConfig } from "../../config/certificates.ts";
import { servedNames } from "./certificate-plan.ts";
import { type CertificateSources, Certificates, type CertificatesOptions } from "./certificates.ts";

const OWN = "gw.tail.test";

interface Line {
  readonly event: string;
  readonly fields: LogFields;
}

function notingLog(lines: Line[]): Log {
  const note = (event: string, fields: LogFields = {}): void => void lines.push({ event, fields });
  return { ...silentLog, info: note, warn: note, error: note };
}

const open: Certificates[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

/** A CA of the tests' own stands for the public one; every order is written down. */
async function publicCa(clock: FakeClock) {
  const ca = await LocalCa.create({ wall: () => clock.wall() });
  const orders: string[] = [];
  const held = new Map<string, Certificate>();
  let wanted: readonly WantedCertificate[] = [];
  const order = async (name: string): Promise<Certificate> => {
    const names = wanted.find((one) => one.names.includes(name))?.names;
    if (names === undefined) throw new Fault("CERT_NAME_UNKNOWN", "not wanted");
    orders.push(names.join(" "));
    const { key, certificate: chain, notAfter } = await ca.issue(names);
    const made = { names, key, chain, notBefore: clock.wall(), notAfter };
    for (const one of names) held.set(one, made);
    return made;
  };
  const keeper: CertificateKeeper = {
    want: async (next) => {
      wanted = next;
      for (const { names, when } of next) if (when === "ahead" && !held.has(names[0]!)) await order(names[0]!);
    },
    certificate: (name) => held.get(name) ?? held.get(`*${name.slice(name.indexOf("."))}`),
    obtain: async (name) => held.get(name) ?? order(name),
    renew: order,
    revoke: async (name) => void held.delete(name),
    list: () => [],
    budget: async () => [],
    counts: () => ({ orders: [], renewalQueries: 0 }),
    idle: async () => {},
    subscribe: () => () => {},
    close: async () => {},
  };
  return { keeper, orders, wanted: () => wanted, opened: [] as CertificatesConfig[], closed: 0 };
}

const sourcesOf = (keeper: CertificateKeeper, onClosed: () => void = () => {}): CertificateSources => ({
  keeper,
  file: () => undefined,
  fileList: () => [],
  onFiles: () => {},
  challengeContext: () => undefined,
  challengeAnswer: () => undefined,
  advice: async () => "",
  rollAccountKey: async () => {},
  close: async () => onClosed(),
});

async function stage(options: Partial<CertificatesOptions> & { facts?: CertificatesOptions["facts"] } = {}) {
  const clock = new FakeClock();
  const ca = await publicCa(clock);
  const lines: Line[] = [];
  const certificates = new Certificates({
    store: memoryStore(),
    clock,
    log: notingLog(lines),
    facts: () => ({ ownName: OWN, certDomains: [OWN], ownWildcard: false, visited: [], served: [OWN] }),
    open: async (settings) => {
      ca.opened.push(settings);
      return sourcesOf(ca.keeper, () => {
        ca.closed += 1;
      });
    },
    ...options,
  });
  open.push(certificates);
  certificates.refresh();
  return { certificates, ca, clock, lines };
}

const namesOf = (certificate: Certificate): string => new X509Certificate(certificate.chain).subjectAltName ?? "";

describe("where a certificate comes from", () => {
  test("a server that answers challenges: from the public CA, ahead of the first request", async () => {
    const { certificates, ca } = await stage();
    expect(namesOf(await certificates.certificate(OWN))).toBe(`DNS:${OWN}`);
    expect(ca.orders).toEqual([OWN]);
    expect(certificates.secureContext(OWN)).not.toBeInstanceOf(Promise); // there and then
    expect(certificates.list()).toEqual([]);
  });

  test("a server that does not: from the local CA, and no public one is opened", async () => {
    const { certificates, ca } = await stage({
      facts: () => ({ ownName: OWN, certDomains: [], ownWildcard: false, visited: [], served: [OWN] }),
    });
    const made = await certificates.certificate(OWN);
    expect(new X509Certificate(made.chain).issuer).toBe("CN=Sallyport local CA");
    expect(new X509Certificate(made.chain).verify(new X509Certificate(await certificates.authority()).publicKey)).toBe(
      true,
    );
    expect([ca.opened, ca.orders]).toEqual([[], []]);
    expect(certificates.list()).toMatchObject([{ names: [OWN], state: "valid", authority: "internal" }]);
  });

  test("other settings: the sources are opened anew, and the old ones closed", async () => {
    const { certificates, ca } = await stage();
    await certificates.certificate(OWN);
    certificates.configure({ contact: ["ops@example.com"] });
    certificates.configure({ contact: ["ops@example.com"] });
    await certificates.certificate(OWN);
    expect([ca.opened, ca.closed]).toEqual([[{}, { contact: ["ops@example.com"] }], 1]);
  });

  test("which names become public is said, once", async () => {
    const { certificates, lines } = await stage();
    await certificates.certificate(OWN);
    certificates.refresh();
    expect(lines.filter(({ event }) => event === "certificates.published")).toMatchObject([
      { fields: { names: [OWN] } },
    ]);
  });
});

describe("AC-10 no issuance by strangers", () => {
  test("100,000 names nobody serves, and names below ours: not one order, not one context", async () => {
    const { certificates, ca } = await stage();
    await certificates.certificate(OWN);
    const before = ca.orders.length;
    const refused = new Set<string>();
    for (let i = 0; i < 100_000; i += 1) {
      const name = i % 2 === 0 ? `x${i}.${OWN}` : `x${i}.example.com`;
      const found = await certificates.secureContext(name);
      refused.add(found instanceof Fault ? found.code : "served");
    }
    expect([...refused]).toEqual(["CERT_NAME_UNKNOWN"]);
    expect(ca.orders.length).toBe(before);
  });

  test.each(["", ".", "*", "*.tail.test", "../../etc/passwd", "__proto__", `${OWN}\0`, "100.64.0.1"])(
    "%j",
    async (name) => {
      const { certificates, ca } = await stage();
      await certificates.certificate(OWN);
      expect(await certificates.secureContext(name)).toBeInstanceOf(Fault);
      expect(ca.orders).toEqual([OWN]);
    },
  );
});

test("below one wildcard each name has its own TLS context, from one certificate", async () => {
  const { certificates, ca } = await stage({
    facts: () => ({ ownName: OWN, certDomains: [], ownWildcard: false, visited: [], served: ["*.example.com"] }),
    settings: { challenges: [{ type: "exec", command: ["x"] }] },
  });
  await certificates.certificate("a.example.com");
  const contexts = ["a", "b", "a"].map((label) => certificates.secureContext(`${label}.example.com`));
  expect(contexts[0]).toBe(contexts[2]);
  expect(contexts[0]).not.toBe(contexts[1]);
  expect(ca.orders).toEqual(["*.example.com"]);
});

test("TL-5: a name's context, and with it the keys of its tickets, lasts twelve hours", async () => {
  const { certificates, clock } = await stage();
  await certificates.certificate(OWN);
  const first = certificates.secureContext(OWN);
  clock.advance(11 * 3_600_000);
  expect(certificates.secureContext(OWN)).toBe(first);
  clock.advance(3_600_000);
  expect(certificates.secureContext(OWN)).not.toBe(first);
});

test("TL-5 nothing that is stored holds a key of tickets", async () => {
  const written: Buffer[] = [];
  const store = memoryStore();
  const set = (name: string, value: Uint8Array): Promise<void> => {
    written.push(Buffer.from(value));
    return store.set(name, value);
  };
  const noting = { ...store, set };
  const facts = () => ({ ownName: OWN, certDomains: [], ownWildcard: false, visited: [], served: [OWN] });
  const { certificates } = await stage({ store: noting, facts }); // a local CA: its keys are stored
  await certificates.certificate(OWN);
  const keys = [false, true].map((asksClients) => {
    const made = certificates.secureContext(OWN, asksClients) as SecureContext;
    return (made.context as { getTicketKeys(): Buffer }).getTicketKeys(); // Node's own: name, MAC key and AES key
  });
  expect(keys.map(({ length }) => length)).toEqual([48, 48]);
  expect(keys[0]).not.toEqual(keys[1]);
  const all = Buffer.concat(written);
  expect(all.length).toBeGreaterThan(100);
  for (const part of keys.flatMap((key) => [0, 16, 32].map((at) => key.subarray(at, at + 16)))) {
    for (const form of [part, part.toString("hex"), part.toString("base64").slice(0, 20)])
      expect(all.includes(form)).toBe(false);
  }
});

test("TL-8: 1,000 new certificates, and every handshake has key and chain of one of them", async () => {
  const { certificates, ca } = await stage();
  await certificates.certificate(OWN);
  for (let round = 0; round < 1000; round += 1) {
    const context = certificates.secureContext(OWN); // a mix of key and chain would throw here
    expect(context).not.toBeInstanceOf(Promise);
    if (round % 10 === 0) await certificates.renew(OWN);
  }
  expect(ca.orders.length).toBe(101);
});

test("sources that cannot be opened are said to be, and tried again after a minute", async () => {
  let isBroken = true;
  const clock = new FakeClock();
  const ca = await publicCa(clock);
  const { certificates, lines } = await stage({
    clock,
    open: async () => {
      if (isBroken) throw new Fault("CERT_STORE", "Cannot reach the store");
      return sourcesOf(ca.keeper);
    },
  });
  await expect(certificates.certificate(OWN)).rejects.toThrow("Cannot reach the store");
  expect(certificates.problems).toEqual(["No public certificates: Cannot reach the store"]);
  expect(lines.map(({ event }) => event)).toContain("certificates.unavailable");
  isBroken = false;
  clock.advance(60_000);
  expect(namesOf(await certificates.certificate(OWN))).toBe(`DNS:${OWN}`);
  expect(certificates.problems).toEqual([]);
});

test("names for which TLS ends here; plain HTTP orders nothing", () => {
  const site = { Handlers: { "/": { Text: "x" } } };
  expect(
    servedNames({
      TCP: { 80: { HTTP: true }, 443: { HTTPS: true }, 5432: { TCPForward: "x:1", TerminateTLS: "DB.example.com." } },
      Web: { "plain.tail.test:80": site, "GW.tail.test:443": site },
      Services: { "svc:web": { TCP: { 443: { HTTPS: true } }, Web: { "web.tail.test:443": site } } },
    }),
  ).toEqual(["db.example.com", "gw.tail.test", "web.tail.test"]);
});

test("who waits for a certificate is known for as long as it takes, and no longer", async () => {
  const { certificates, ca } = await stage({
    facts: () => ({ ownName: OWN, certDomains: [OWN], ownWildcard: false, visited: [], served: [] }), // ordered when needed
  });
  const seen: (readonly string[])[] = [];
  certificates.onWaiting(() => seen.push(certificates.waiting));
  await Promise.all([certificates.certificate(OWN), certificates.certificate(OWN)]);
  await certificates.certificate(OWN);
  expect(seen).toEqual([[OWN], []]);
  expect(ca.orders).toContain(OWN);
});
