import type { Side } from "./link.ts";
import { outputOf } from "./processes.ts";

const PATIENCE_SECONDS = 8;

export interface IperfRun {
  readonly address: string;
  readonly port: number;
  readonly seconds: number;
  /** Towards the client. */
  readonly isDownload: boolean;
  readonly streams: number;
}

/** Gbit/s of one run of iperf3's client, as the receiving end counted it. */
export async function iperf(side: Side, core: number, run: IperfRun): Promise<number> {
  const { address, port, seconds, isDownload, streams } = run;
  const args = ["-c", address, "-p", String(port), "-t", String(seconds), "-P", String(streams), "-J"];
  if (isDownload) args.push("-R");
  const child = side.start(core, "iperf3", args);
  const patience = setTimeout(() => child.kill("SIGKILL"), (seconds + PATIENCE_SECONDS) * 1000);
  const text = await outputOf(child);
  clearTimeout(patience);
  const answer = JSON.parse(text === "" ? '{"error":"it hangs"}' : text) as {
    error?: string;
    end?: { sum_received?: { bits_per_second: number } };
  };
  const bits = answer.end?.sum_received?.bits_per_second;
  if (bits === undefined) throw new Error(`iperf3 -c ${address} -p ${port}: ${answer.error ?? "no result"}`);
  return bits / 1e9;
}
