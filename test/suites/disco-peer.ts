import { parseAddressPort } from "../../src/base/address.ts";
import { toHex } from "../../src/base/bytes.ts";
import type { Path } from "../../src/base/path-table.ts";
import { seededRandom } from "../../src/base/random.ts";
import { boxKey, openBox, sealBox } from "../../src/crypto/box.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import {
  type DiscoMessage,
  decodeDiscoFrame,
  decodeDiscoMessage,
  encodeDiscoFrame,
  encodeDiscoMessage,
} from "../../src/wire/disco.ts";
import { Host, World } from "./disco-world.ts";

export interface PlayedPeer {
  readonly world: World;
  readonly host: Host;
  readonly nodeKey: Uint8Array;
  readonly discoPrivate: Uint8Array;
  seal(message: DiscoMessage): Uint8Array;
  /** By UDP, from `ip:port`. */
  say(message: DiscoMessage, from: string): void;
  sayByDerp(message: DiscoMessage): void;
  /** What the host told the peer, wherever it sent it. */
  heard(): { readonly to: Path; readonly message: DiscoMessage; readonly at: number }[];
  pings(): { readonly to: Path; readonly tx: Uint8Array; readonly at: number }[];
  setPeer(endpoints: readonly string[]): void;
}

/** A host whose peer is played by the test. */
export function playedPeer(endpoints: readonly string[] = ["192.0.2.9:5000"]): PlayedPeer {
  const world = new World();
  const host = new Host(world, 1, "none");
  const random = seededRandom(99);
  const discoPrivate = generatePrivateKey(random);
  const nodeKey = publicKeyOf(generatePrivateKey(random));
  const discoKey = publicKeyOf(discoPrivate);
  const key = boxKey(discoPrivate, publicKeyOf(host.discoPrivate))!;
  const setPeer = (list: readonly string[]) =>
    host.paths.setPeer(
      { index: 0, nodeKey, discoKey, endpoints: list, homeDerp: 1, isWireGuardOnly: false },
      world.now,
    );
  world.run(4000);
  setPeer(endpoints);
  const seal = (message: DiscoMessage): Uint8Array => {
    const nonce = random(24);
    return encodeDiscoFrame({ senderKey: discoKey, nonce, box: sealBox(key, nonce, encodeDiscoMessage(message)) });
  };
  const say = (message: DiscoMessage, from: string) =>
    host.receive({ kind: "udp", ...parseAddressPort(from)! }, seal(message));
  const sayByDerp = (message: DiscoMessage) =>
    host.receive({ kind: "derp", region: 1, nodeKey: toHex(nodeKey) }, seal(message));
  const heard = () =>
    host.sent.flatMap(({ to, datagram, at }) => {
      const frame = decodeDiscoFrame(datagram);
      const plain = frame === undefined ? undefined : openBox(key, frame.nonce, frame.box);
      const message = plain === undefined ? undefined : decodeDiscoMessage(plain);
      return message === undefined ? [] : [{ to, message, at }];
    });
  const pings = () =>
    heard().flatMap(({ to, message, at }) => (message.kind === "ping" ? [{ to, tx: message.tx, at }] : []));
  return { world, host, nodeKey, discoPrivate, seal, say, sayByDerp, heard, pings, setPeer };
}
