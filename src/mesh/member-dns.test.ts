import { describe, expect, test } from "vitest";
import { mapNode, networkMap } from "../../test/suites/network-map.ts";
import { FakeClock } from "../base/clock.ts";
import type { Conn } from "../base/conn.ts";
import { connPair } from "../base/conn-pair.ts";
import { asDuplex } from "../base/duplex.ts";
import { SERVICE_ADDRESS } from "../wire/mesh-address.ts";
import type { NetworkMap } from "../wire/network-map.ts";
import type { Node } from "../wire/tailcfg.ts";
import { framed } from "./dns/stream-queries.ts";
import { MemberDns } from "./member-dns.ts";
import type { UdpReceive } from "./tcpip/udp-service.ts";

const PHONE = 1;
const LAPTOP = 2;
const PEERS = [
  mapNode(PHONE, { IsWireGuardOnly: true, Addresses: ["100.64.0.7/32", "fd7a::7/128"] }),
  mapNode(LAPTOP, { Addresses: ["100.64.0.8/32"] }),
];
const peer = (id: number): Node | undefined => PEERS.find(({ ID }) => ID === id);
const service = { address: SERVICE_ADDRESS, port: 53 };
const phone = { address: "100.64.0.7", port: 4242 };
const mapOf = (...ids: number[]): NetworkMap => networkMap(PEERS.filter(({ ID }) => ids.includes(ID)));

function start() {
  const sent: unknown[] = [];
  let receive: UdpReceive | undefined;
  const clock = new FakeClock();
  const dns = new MemberDns({
    clock,
    peer,
    answer: async (query, transport) => Buffer.from(`${transport} ${Buffer.from(query).toString()}`),
    netstack: {
      listenUdp: (port, onDatagram) => {
        receive = onDatagram;
        return {
          port,
          send: (payload, to, from) => sent.push([Buffer.from(payload).toString(), to, from]),
          close: () => {
            receive = undefined;
          },
        };
      },
    },
  });
  const ask = async (from: number, destination = service) => {
    receive?.(Buffer.from("who"), phone, destination, from);
    await Promise.resolve();
    await Promise.resolve();
    return sent.splice(0);
  };
  return { dns, clock, ask, isListening: () => receive !== undefined };
}

function openStream(accept: ((conn: Conn) => void) | undefined) {
  const [client, conn] = connPair({ kind: "mesh", nodeKey: "", source: phone, destination: service });
  accept?.(conn);
  return asDuplex(client);
}

describe("MagicDNS for WireGuard-only members", () => {
  test("listens, and lets members through to port 53 only, while there is one", () => {
    const { dns, isListening } = start();
    dns.setMap(mapOf(LAPTOP));
    expect([dns.rules, dns.prefixes, isListening()]).toEqual([[], [], false]);
    dns.setMap(mapOf(LAPTOP, PHONE));
    expect(dns.rules).toEqual([
      {
        SrcIPs: ["100.64.0.7/32", "fd7a::7/128"],
        DstPorts: [{ IP: SERVICE_ADDRESS, Ports: { First: 53, Last: 53 } }],
        IPProto: [6, 17],
      },
    ]);
    expect(dns.addresses).toEqual([Uint8Array.of(100, 100, 100, 100)]);
    expect(isListening()).toBe(true);
    dns.setMap(mapOf(LAPTOP));
    expect(isListening()).toBe(false);
  });

  test("DN-7 only a member's datagram to the service address is answered, from there", async () => {
    const { dns, ask } = start();
    dns.setMap(mapOf(PHONE, LAPTOP));
    expect(await ask(PHONE)).toEqual([["udp who", phone, service]]);
    expect(await ask(LAPTOP)).toEqual([]);
    expect(await ask(PHONE, { address: "100.64.0.1", port: 53 })).toEqual([]);
    expect(await ask(-1)).toEqual([]);
  });

  test("TCP: members only, port 53 only, 64 streams at once, 30 s each", async () => {
    const { dns, clock } = start();
    dns.setMap(mapOf(PHONE, LAPTOP));
    expect(dns.accept(service, LAPTOP)).toBeUndefined();
    expect(dns.accept({ ...service, port: 80 }, PHONE)).toBeUndefined();
    const stream = openStream(dns.accept(service, PHONE));
    stream.write(framed(Buffer.from("who")));
    const [answer] = (await Array.fromAsync(stream.take(1))) as Buffer[];
    expect(answer).toEqual(framed(Buffer.from("tcp who")));
    for (let i = 0; i < 64; i++) openStream(dns.accept(service, PHONE)).on("error", () => undefined);
    expect(dns.accept(service, PHONE)).toBeUndefined();
    clock.advance(30_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(dns.accept(service, PHONE)).toBeDefined();
  });
});
