import { FakeClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { seededRandom } from "../../src/base/random.ts";
import { AuthorityFault } from "../../src/certs/acme/authority-fault.ts";
import type { CertificateKeeper, KeeperOptions, WantedCertificate } from "../../src/certs/keeper.ts";
import { openKeeper } from "../../src/certs/open-keeper.ts";
import type { CertificateStore } from "../../src/certs/store/certificate-store.ts";
import { memoryCertificateStore } from "../../src/certs/store/memory-store.ts";
import { FakeAuthority, Signer } from "./fake-authority.ts";

export const MINUTE_MS = 60_000;
export const HOUR_MS: number = 60 * MINUTE_MS;
export const DAY_MS: number = 24 * HOUR_MS;
export const START: number = Date.UTC(2026, 0, 1);
export const NAME = "gate.example";

/** A clock whose wall time somebody sets. */
class SetClock extends FakeClock {
  offset = 0;
  override wall(): number {
    return super.wall() + this.offset;
  }
}

/** Keepers that share a store and two CAs, in a time that the test moves. */
export interface KeeperScene {
  readonly clock: SetClock;
  readonly store: CertificateStore;
  readonly signer: Signer;
  readonly authority: FakeAuthority;
  readonly second: FakeAuthority;
  open(more?: Partial<KeeperOptions>): Promise<CertificateKeeper>;
  /** Moves time on, alarm by alarm; the work of one is done before the next. */
  pass(ms: number): Promise<void>;
}

let signing: Promise<Signer> | undefined;

export async function keeperScene(seed: number): Promise<KeeperScene> {
  signing ??= createSigner();
  const signer = await signing;
  const clock = new SetClock(START);
  const store = memoryCertificateStore();
  const [authority, second] = [new FakeAuthority("first", clock, signer), new FakeAuthority("second", clock, signer)];
  const keepers: CertificateKeeper[] = [];
  const random = seededRandom(seed);
  const idle = async (): Promise<void> => {
    for (const keeper of keepers) await keeper.idle();
  };
  return {
    clock,
    store,
    signer,
    authority,
    second,
    async open(more = {}) {
      const options = { store, authorities: [authority], solvers: [], clock, random, log: silentLog, ...more };
      const keeper = await openKeeper(options);
      keepers.push(keeper);
      return keeper;
    },
    async pass(ms) {
      const end = clock.now() + ms;
      await idle();
      while (clock.next <= end) {
        clock.advance(clock.next - clock.now());
        await idle();
      }
      clock.advance(end - clock.now());
      await idle();
    },
  };
}

export const down = (retryAfter?: number): AuthorityFault =>
  new AuthorityFault("CERT_ORDER_UNREACHABLE", "Cannot reach the CA: it is down", { retryAfter });

export const refused = (): AuthorityFault =>
  new AuthorityFault("CERT_ORDER_INVALID", "Cannot get it: the order is invalid");

export const ahead = (...names: string[]): WantedCertificate[] => [{ names, when: "ahead" }];

async function createSigner(): Promise<Signer> {
  const [from, to] = [START - 3650 * DAY_MS, START + 3650 * DAY_MS];
  return Signer.create("issuer", from, to, await Signer.create("root", from, to));
}
