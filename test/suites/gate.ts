import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import type { GatePorts, GateQuestion, GateUsage } from "./gate-process.ts";
import { onClose } from "./proxy-scene.ts";

/** A gate in a process of its own, on kernel sockets. */
export class Gate {
  readonly #process: ChildProcess;
  readonly #ports: GatePorts;

  private constructor(child: ChildProcess, ports: GatePorts) {
    this.#process = child;
    this.#ports = ports;
  }

  /** `args` as `gate-process.ts` has them. */
  static async start(...args: string[]): Promise<Gate> {
    const file = path.resolve(import.meta.dirname, "gate-process.ts");
    // A small nursery: what grows then is what is kept.
    const child = fork(file, args, {
      execArgv: ["--expose-gc", "--max-semi-space-size=1", "--disable-warning=ExperimentalWarning"],
    });
    onClose(() => child.kill("SIGKILL"));
    const [ports] = (await once(child, "message")) as [GatePorts];
    return new Gate(child, ports);
  }

  get isAlive(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  connect(isSecure = false): net.Socket {
    const socket = net.connect({
      port: isSecure ? this.#ports.securePort : this.#ports.port,
      host: "127.0.0.1",
      allowHalfOpen: !isSecure,
    });
    socket.on("error", () => void socket.destroy());
    onClose(() => socket.destroy());
    return socket;
  }

  async usage(question: GateQuestion = "usage"): Promise<GateUsage> {
    this.#process.send(question);
    const [usage] = (await once(this.#process, "message")) as [GateUsage];
    return usage;
  }

  /** Once no caller is connected. */
  async empty(): Promise<GateUsage> {
    let usage = await this.usage();
    while (usage.open > 0) usage = await this.usage();
    return await this.usage("held");
  }
}
