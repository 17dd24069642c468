import { createSocket } from "node:dgram";
import { connect, type Socket } from "node:net";
import { type DecodedPacket, decode, encode } from "dns-packet";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { addressRecord } from "../certs/zone/records.ts";
import { openPublicZone, type PublicZone, type PublicZoneOptions } from "./public-zone.ts";

const around = {
  baseDomain: "Tail.mesh.example",
  ownName: "control.example.org",
  isPublic: (name: string) => ["web.tail.mesh.example", "db.tail.mesh.example"].includes(name),
  clock: new FakeClock(),
  log: silentLog,
};
const options: PublicZoneOptions = {
  ...{ zone: "Mesh.example.", nameServer: "ns1.mesh.example", address: "127.0.0.1", port: 0 },
  caa: ["letsencrypt.org; validationmethods=dns-01"],
  records: (name) => (name === "app.mesh.example" ? [addressRecord("203.0.113.9", 60)!] : undefined),
};

type Answer = DecodedPacket & { readonly rcode?: string };
const query = (name: string, type: string): Buffer =>
  encode({ type: "query", id: 7, questions: [{ name, type: type as "A" }] });
const gist = ({ rcode, answers, authorities }: Answer): unknown[] => [
  rcode,
  ...answers!.map((record) => ("data" in record ? dataText(record.data) : "")),
  ...authorities!.map(({ type }) => type),
];

const dataText = (data: unknown): string =>
  typeof data === "object" && data !== null && "value" in data ? String(data.value) : String(data);

function overUdp(port: number, message: Uint8Array): Promise<Answer> {
  const socket = createSocket("udp4");
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("message", (answer: Uint8Array) => {
      socket.close();
      resolve(decode(Buffer.from(answer)) as Answer);
    });
    socket.send(message, port, "127.0.0.1");
  });
}

const framed = (message: Uint8Array): Buffer => Buffer.concat([Buffer.from([0, message.length]), message]);

/** Reads the next framed message. */
function nextAnswer(socket: Socket): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let text = Buffer.alloc(0);
    socket.on("error", reject);
    socket.on("data", (chunk: Uint8Array) => {
      text = Buffer.concat([text, chunk]);
      if (text.length < 2 || text.length < 2 + text.readUInt16BE(0)) return;
      socket.removeAllListeners("data");
      resolve(decode(text.subarray(2)) as Answer);
    });
  });
}

describe("the public zone of a server", () => {
  let zone: PublicZone;
  beforeEach(async () => {
    zone = await openPublicZone(options, around);
  });
  afterEach(() => zone.close());

  test.each<[string, string, unknown[]]>([
    ["mesh.example", "NS", ["NOERROR", "ns1.mesh.example"]],
    ["ns1.mesh.example", "A", ["NOERROR", "127.0.0.1"]],
    ["tail.mesh.example", "A", ["NOERROR", "SOA"]],
    ["web.tail.mesh.example", "CAA", ["NOERROR", "SOA"]],
    ["mesh.example", "CAA", ["NOERROR", "letsencrypt.org; validationmethods=dns-01"]],
    ["_acme-challenge.web.tail.mesh.example", "TXT", ["NOERROR", "first", "second"]],
    ["_acme-challenge.db.tail.mesh.example", "TXT", ["NOERROR", "SOA"]],
    ["_acme-challenge.tail.mesh.example", "TXT", ["NXDOMAIN", "SOA"]],
    ["_acme-challenge.secret.tail.mesh.example", "TXT", ["NXDOMAIN", "SOA"]],
    ["secret.tail.mesh.example", "A", ["NXDOMAIN", "SOA"]],
    ["app.mesh.example", "A", ["NOERROR", "203.0.113.9"]],
    ["example", "A", ["REFUSED"]],
  ])("DN-9 over UDP and TCP: %s %s", async (name, type, wanted) => {
    for (const value of ["first", "second"]) zone.challenges.set("_acme-challenge.web.tail.mesh.example", value);
    expect(gist(await overUdp(zone.port, query(name, type)))).toEqual(wanted);
    const socket = connect(zone.port, "127.0.0.1");
    const answer = nextAnswer(socket);
    socket.write(framed(query(name, type)));
    expect(gist(await answer)).toEqual(wanted);
    expect(zone.counters).toEqual({ udp: 1, tcp: 1, limited: 0, dropped: 0 });
    socket.destroy();
  });

  test("a stock client asks for its challenge right before it sets it: a CA behind the same resolver got the answer of before", async () => {
    const name = "_acme-challenge.web.tail.mesh.example";
    const ttls = async (): Promise<unknown[]> => {
      const { answers, authorities } = await overUdp(zone.port, query(name, "TXT"));
      return [...answers!, ...authorities!].map((record) => "ttl" in record && record.ttl);
    };
    expect(await ttls()).toEqual([0]); // the SOA, which says for how long absence holds
    zone.challenges.set(name, "of the last order");
    expect(await ttls()).toEqual([0]);
  });

  test("DN-9 one address holds sixteen connections, and new ones when those are gone", async () => {
    const open = () =>
      new Promise<{ socket: Socket; isServed: boolean }>((resolve) => {
        const socket = connect(zone.port, "127.0.0.1");
        socket.on("error", () => {});
        socket.on("close", () => resolve({ socket, isServed: false }));
        nextAnswer(socket).then(
          () => resolve({ socket, isServed: true }),
          () => resolve({ socket, isServed: false }),
        );
        socket.write(framed(query("mesh.example", "NS")));
      });
    const held: Socket[] = [];
    for (let i = 0; i < 16; i++) {
      const { socket, isServed } = await open();
      expect(isServed).toBe(true);
      held.push(socket);
    }
    expect((await open()).isServed).toBe(false);
    const gone = new Promise<void>((resolve) => held[0]!.on("close", () => resolve()));
    held[0]!.end();
    await gone;
    const again = await open();
    expect(again.isServed).toBe(true);
    for (const socket of [...held, again.socket]) socket.destroy();
  });
});

describe("the server's own name inside its zone had no address, and nobody found the server", () => {
  test.each<[string, string, Partial<PublicZoneOptions>, string, unknown[]]>([
    ["the zone itself", "mesh.example", {}, "A", ["NOERROR", "127.0.0.1"]],
    ["the zone itself, still a zone", "mesh.example", {}, "NS", ["NOERROR", "ns1.mesh.example"]],
    ["below it", "hs.mesh.example", { nameServerAddresses: ["2001:db8::5"] }, "AAAA", ["NOERROR", "2001:db8::5"]],
    ["a name that is there, of another family", "hs.mesh.example", {}, "AAAA", ["NOERROR", "SOA"]],
    ["elsewhere", "hs.mesh.example", { ownAddresses: ["203.0.113.7"] }, "A", ["NOERROR", "203.0.113.7"]],
    ["the name server's", "ns1.mesh.example", { ownAddresses: ["203.0.113.7"] }, "A", ["NOERROR", "127.0.0.1"]],
    ["the nodes' domain", "tail.mesh.example", {}, "A", ["NOERROR", "127.0.0.1"]],
    ["outside", "control.example.org", {}, "A", ["REFUSED"]],
  ])("%s: %s", async (_name, ownName, more, type, wanted) => {
    await using stack = new AsyncDisposableStack();
    const zone = await openPublicZone({ ...options, ...more }, { ...around, ownName });
    stack.defer(() => zone.close());
    expect(gist(await overUdp(zone.port, query(ownName, type)))).toEqual(wanted);
  });

  test("where nobody said its address the log says so", async () => {
    const lines: unknown[] = [];
    const log = { ...silentLog, warn: (event: string, fields?: object) => void lines.push([event, fields]) };
    const nowhere = { address: "0.0.0.0", nameServer: "ns.example.org" };
    const zone = await openPublicZone({ ...options, ...nowhere }, { ...around, ownName: "mesh.example", log });
    await zone.close();
    expect(lines).toEqual([["zone.own_name", expect.objectContaining({ name: "mesh.example" })]]);
  });
});

describe("a zone that cannot be", () => {
  test.each<[string, Partial<PublicZoneOptions>, string]>([
    ["the nodes are elsewhere", { zone: "other.example" }, "ZONE_DOMAIN"],
    ["the nodes are only nearly inside", { zone: "esh.example" }, "ZONE_DOMAIN"],
    ["no name", { zone: "not a name" }, "ZONE_NAME"],
    ["a single label", { zone: "example" }, "ZONE_NAME"],
    ["an address for a name server", { nameServer: "192.0.2.1" }, "ZONE_NAME"],
    ["a name server inside without an address", { address: "0.0.0.0" }, "ZONE_NAME_SERVER"],
    ["an address that is none", { nameServerAddresses: ["here"] }, "ZONE_NAME_SERVER"],
    ["an address that is not ours", { address: "192.0.2.77", nameServer: "ns.other.example" }, "ZONE_LISTEN"],
  ])("%s", async (_name, more, code) => {
    await expect(openPublicZone({ ...options, ...more }, around)).rejects.toMatchObject({ code });
  });
});
