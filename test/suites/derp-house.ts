import { type Duplex, duplexPair } from "node:stream";
import { toHex } from "../../src/base/bytes.ts";
import { FakeClock, systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { type Random, seededRandom } from "../../src/base/random.ts";
import { generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { DerpServer, type DerpServerOptions } from "../../src/derp/derp-server.ts";
import { DerpClient } from "../../src/mesh/derp/derp-client.ts";

export interface House {
  readonly clock: FakeClock;
  readonly random: Random;
  readonly server: DerpServer;
}

/** A relay that lets everybody in. */
export const relayOf = (random: Random, options: Partial<DerpServerOptions> = {}): DerpServer =>
  new DerpServer({
    privateKey: generatePrivateKey(random),
    random,
    clock: systemClock,
    log: silentLog,
    admit: () => true,
    ...options,
  });

/** A relay under a clock that the test moves. */
export function house(options: Partial<DerpServerOptions> = {}): House {
  const clock = new FakeClock();
  const random = seededRandom(7);
  return { clock, random, server: relayOf(random, { clock, ...options }) };
}

export interface Guest {
  readonly key: Uint8Array;
  readonly client: DerpClient;
  readonly got: { readonly from: string; readonly payload: Uint8Array }[];
  readonly gone: string[];
  readonly health: string[];
  readonly closed: string[];
  readonly end: Duplex;
}

export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((done) => void setImmediate(done));
}

/** A client of ours, connected without sockets. */
export async function join(
  { clock, random, server }: House,
  privateKey: Uint8Array = generatePrivateKey(random),
): Promise<Guest> {
  const [near, far] = duplexPair();
  const guest = { got: [], gone: [], health: [], closed: [] } as Pick<Guest, "got" | "gone" | "health" | "closed">;
  const client = new DerpClient({
    stream: near,
    nodePrivateKey: privateKey,
    random,
    clock,
    onReady: () => {},
    onPacket: (source, payload) => void guest.got.push({ from: toHex(source), payload: payload.slice() }),
    onPeerGone: (key) => void guest.gone.push(toHex(key)),
    onHealth: (text) => void guest.health.push(text),
    onClose: (fault) => void guest.closed.push(fault.message),
  });
  server.accept(far);
  await settle();
  return { ...guest, key: publicKeyOf(privateKey), client, end: near };
}
