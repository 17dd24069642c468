import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Inspector } from "../proxy/inspector/inspector.ts";
import type { Recorder } from "../proxy/inspector/recorder.ts";
import type { ReplayTarget } from "../proxy/inspector/replay.ts";

/** Looking at requests: off until somebody asks for it, and nothing is kept then. */
export class Inspection {
  readonly #recorder: Recorder;
  readonly #target: ReplayTarget;
  readonly #clock: Clock;
  readonly #log: Log;
  #inspector: Promise<Inspector> | undefined;
  #port: number | undefined;

  constructor(recorder: Recorder, target: ReplayTarget, clock: Clock, log: Log) {
    this.#recorder = recorder;
    this.#target = target;
    this.#clock = clock;
    this.#log = log;
  }

  /**
   * Switches it on where it is off; an address that opens the pages once.
   * @throws {Fault} INSPECTOR_LISTEN
   */
  async invite(port: number = 0): Promise<string> {
    this.#inspector ??= Inspector.open({ recorder: this.#recorder, target: this.#target, clock: this.#clock, port });
    let inspector: Inspector;
    try {
      inspector = await this.#inspector;
    } catch (thrown) {
      this.#inspector = undefined;
      throw thrown;
    }
    this.#port = inspector.port;
    if (!this.#recorder.isOn) this.#log.warn("inspector.on", { keeps: "the last requests, in memory" });
    this.#recorder.isOn = true;
    return inspector.invite();
  }

  /** Where its pages are, on loopback; undefined: nowhere. */
  get port(): number | undefined {
    return this.#port;
  }

  /** Forgets what was kept. */
  async close(): Promise<void> {
    this.#recorder.isOn = false;
    this.#recorder.clear();
    const inspector = this.#inspector;
    this.#inspector = undefined;
    await inspector?.then((open) => open.close());
    if (this.#inspector === undefined) this.#port = undefined;
  }
}
