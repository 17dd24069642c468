import { describe, expect, test } from "vitest";
import { formatAddressPort, parseAddressPort } from "../../src/base/address.ts";
import { concatBytes, fromHex, toHex } from "../../src/base/bytes.ts";
import { boxKey, openBox, sealBox } from "../../src/crypto/box.ts";
import { parseKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { DERP, DERP_KEY_BYTES, DerpFrameReader } from "../../src/wire/derp.ts";
import {
  type DiscoMessage,
  decodeDiscoFrame,
  decodeDiscoMessage,
  encodeDiscoFrame,
  encodeDiscoMessage,
  looksLikeDisco,
} from "../../src/wire/disco.ts";
import { decodeStunAnswer, decodeStunRequest } from "../../src/wire/stun.ts";
import { Host, World } from "../suites/disco-world.ts";
import { headOf } from "./control-bytes.ts";
import { type Datagram, type DiscoNode, ofKind, readRecording } from "./recording.ts";

const entries = readRecording("life-1.103.0");
const [alice, bob] = ofKind(entries, "disco") as [DiscoNode, DiscoNode];
const privateOf = (node: DiscoNode): Uint8Array => fromHex(node.discoPrivate)!;
const shared = boxKey(privateOf(alice), publicKeyOf(privateOf(bob)))!;

const bytesOf = ({ bytes }: Datagram): Uint8Array => new Uint8Array(Buffer.from(bytes, "base64"));
const isDisco = (bytes: Uint8Array): boolean => looksLikeDisco(bytes, 0, bytes.length);
const datagrams = ofKind(entries, "datagram");
const disco = datagrams.filter((one) => isDisco(bytesOf(one)));
/** The sender is named by its key, before the box. */
const isFrom = (node: DiscoNode, bytes: Uint8Array): boolean =>
  toHex(decodeDiscoFrame(bytes)!.senderKey) === toHex(publicKeyOf(privateOf(node)));

function opened(bytes: Uint8Array): { plain: Uint8Array; message: DiscoMessage } {
  const { nonce, box } = decodeDiscoFrame(bytes)!;
  const plain = openBox(shared, nonce, box)!;
  return { plain, message: decodeDiscoMessage(plain)! };
}

const keysInMaps: ReadonlySet<string> = new Set(
  ofKind(entries, "status").flatMap(({ status }) => status.Peers.map(({ PublicKey }) => PublicKey)),
);

/** Disco that went through the relay. */
function relayed(): Uint8Array[] {
  return ofKind(entries, "derp").flatMap(({ id }) => {
    const parts = ofKind(entries, "bytes").filter((entry) => entry.id === id && entry.way === "up");
    const all = concatBytes(...parts.map(({ bytes }) => new Uint8Array(Buffer.from(bytes, "base64"))));
    const found: Uint8Array[] = [];
    new DerpFrameReader(1 << 20).push(headOf(all)!.rest, (type, payload) => {
      const packet = payload.slice(DERP_KEY_BYTES);
      if (type === DERP.sendPacket && isDisco(packet)) found.push(packet);
    });
    return found;
  });
}

describe("disco between stock nodes", () => {
  test("every datagram opens, is understood, and comes out of our encoder byte for byte", () => {
    const all = [...disco.map(bytesOf), ...relayed()];
    const kinds = new Set<string>();
    for (const bytes of all) {
      const { plain, message } = opened(bytes);
      kinds.add(message.kind);
      const again = encodeDiscoMessage(message);
      expect(toHex(again)).toBe(toHex(plain));
      const { senderKey, nonce } = decodeDiscoFrame(bytes)!;
      expect(toHex(encodeDiscoFrame({ senderKey, nonce, box: sealBox(shared, nonce, again) }))).toBe(toHex(bytes));
    }
    expect(all.length).toBeGreaterThan(40);
    expect([...kinds].toSorted()).toEqual(["callMeMaybe", "ping", "pong"]);
  });

  test("who is called through the relay is told where the caller can be reached", () => {
    const calls = relayed().map((bytes) => ({ bytes, message: opened(bytes).message }));
    for (const { bytes, message } of calls) {
      if (message.kind !== "callMeMaybe") continue;
      const own = isFrom(alice, bytes) ? 11 : 12;
      expect(message.endpoints.map(formatAddressPort).some((at) => at.endsWith(`.${own}:41641`))).toBe(true);
    }
  });

  test.each([
    ["bob", bob, alice],
    ["alice", alice, bob],
  ])("our paths in the place of %s answer every ping that got through, as the stock node did", (_name, own, peer) => {
    const world = new World();
    const host = new Host(world, 1, "none", {
      discoPrivateKey: privateOf(own),
      nodePublicKey: parseKey("nodekey", own.nodeKey)!,
    });
    const endpoints = [...new Set(disco.filter((one) => isFrom(peer, bytesOf(one))).map(({ from }) => from))];
    const discoKey = publicKeyOf(privateOf(peer));
    let known = "";
    for (const one of disco) {
      world.run(Math.max(0, one.at - world.now));
      const bytes = bytesOf(one);
      if (!isFrom(peer, bytes)) continue;
      const { message } = opened(bytes);
      const named = message.kind === "ping" && message.nodeKey !== undefined ? toHex(message.nodeKey) : known;
      if (named !== known) {
        // The map comes first: one node took a new key meanwhile.
        expect(keysInMaps).toContain(`nodekey:${named}`);
        const nodeKey = fromHex(named)!;
        host.paths.setPeer({ index: 0, nodeKey, discoKey, endpoints, homeDerp: 1, isWireGuardOnly: false }, world.now);
        known = named;
      }
      host.receive({ kind: "udp", ...parseAddressPort(one.from)! }, bytes);
    }
    const pong = ({ message, to }: { message: DiscoMessage; to: string }) =>
      message.kind === "pong" ? [`${toHex(message.tx)} seen at ${formatAddressPort(message.source)}, to ${to}`] : [];
    const stock = disco
      .filter((one) => isFrom(own, bytesOf(one)))
      .flatMap((one) => pong({ ...opened(bytesOf(one)), to: one.to }));
    const ours = host.sent
      .filter(({ datagram, to }) => to.kind === "udp" && isDisco(datagram))
      .flatMap(({ datagram, to }) => pong({ ...opened(datagram), to: to.kind === "udp" ? formatAddressPort(to) : "" }));
    expect(stock.length).toBeGreaterThan(2);
    for (const line of stock) expect(ours).toContain(line);
    // Pongs to pings that are not ours prove nothing: without one to ours, no way is taken for open.
    expect(host.kind(world.now)).not.toBe("udp");
  });
});

test("STUN between a stock node and a stock relay", () => {
  const stun = datagrams.filter((one) => !isDisco(bytesOf(one)));
  const requests = stun.filter(({ to }) => to.endsWith(":3478"));
  const asked = new Set(requests.map((one) => toHex(decodeStunRequest(bytesOf(one))!)));
  const answers = stun.filter(({ from }) => from.endsWith(":3478"));
  expect([requests.length > 3, answers.length > 1]).toEqual([true, true]);
  for (const one of answers) {
    const answer = decodeStunAnswer(bytesOf(one))!;
    expect(formatAddressPort(answer.mapped)).toBe(one.to);
    expect(asked).toContain(toHex(answer.tx));
  }
});
