import { networkInterfaces } from "node:os";
import type { Clock } from "../base/clock.ts";

const LOOK_EVERY_MS = 3000;
/** Timers stand still while a machine sleeps, the wall clock does not. */
const SLEPT_MS = 30_000;

export interface LinkWatchOptions {
  readonly clock: Clock;
  readonly addresses: () => readonly string[];
  /** The first time at once, then with every change. */
  readonly onAddresses: (addresses: readonly string[]) => void;
  /** The machine slept: what was open is as good as gone. */
  readonly onWoken: () => void;
}

/** Notices that this machine has other addresses than before, or has slept. Returns what ends it. */
export function watchLink({ clock, addresses, onAddresses, onWoken }: LinkWatchOptions): () => void {
  let known: string | undefined;
  let stopped = false;
  let cancel = (): void => {};
  let ahead = clock.wall() - clock.now();
  const look = (): void => {
    const found = addressesNow(addresses);
    const text = found && [...found].sort().join(" ");
    if (found !== undefined && text !== known) onAddresses(found);
    known = text ?? known;
    const difference = clock.wall() - clock.now();
    if (difference - ahead > SLEPT_MS) onWoken();
    ahead = difference;
    if (!stopped) cancel = clock.at(clock.now() + LOOK_EVERY_MS, look);
  };
  look();
  return () => {
    stopped = true;
    cancel();
  };
}

/** Undefined: the system does not say it now. It opens a socket to find out, and there may be no descriptor left. */
function addressesNow(addresses: () => readonly string[]): readonly string[] | undefined {
  try {
    return addresses();
  } catch {
    return undefined;
  }
}

/** This machine's own addresses, without loopback unless that is all there is. */
export function interfaceAddresses(): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const usable = all.filter(({ address }) => !address.startsWith("fe80:"));
  const outside = usable.filter(({ internal }) => !internal);
  return (outside.length > 0 ? outside : usable).map(({ address }) => address);
}
