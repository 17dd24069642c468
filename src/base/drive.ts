import type { Clock } from "./clock.ts";

/** A state machine that owns no timer: it says when it wants to be called, and what is to be done then. */
export interface Machine<Action> {
  /** Monotonic ms of the next `poll`; `Infinity` when nothing is pending. */
  readonly deadline: number;
  /** At most one thing to do; call again until `undefined`. */
  poll(now: number): Action | undefined;
}

/**
 * The only place where a machine meets time. Call the result after each fact reported to the machine. A deadline that
 * moved later leaves the alarm where it is: timers of a busy machine are pushed back all the time and nearly never run.
 */
export function drive<Action>(machine: Machine<Action>, clock: Clock, apply: (action: Action) => void): () => void {
  let cancel = (): void => {};
  let alarmAt = Infinity;
  const wake = (): void => {
    const now = clock.now();
    for (let action = machine.poll(now); action !== undefined; action = machine.poll(now)) apply(action);
    const { deadline } = machine;
    if (deadline >= alarmAt && deadline !== Infinity) return;
    cancel();
    alarmAt = deadline;
    cancel = deadline === Infinity ? () => {} : clock.at(deadline, ring);
  };
  const ring = (): void => {
    alarmAt = Infinity;
    wake();
  };
  return wake;
}
