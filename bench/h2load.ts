import { LOAD_CORE, outputOf, startPinned } from "./processes.ts";

interface SecureLoad {
  readonly port: number;
  readonly host: string;
  readonly connections: number;
  readonly seconds: number;
  readonly isHttp2: boolean;
}

const STREAMS = 4;
const WARM_UP_SECONDS = 1;

/** Requests a second over TLS to `/1k`, HTTP/1.1 or HTTP/2 with several streams a connection. */
export async function secureLoad({ port, host, connections, seconds, isHttp2 }: SecureLoad): Promise<number> {
  const args = [
    "-t1",
    `-c${connections}`,
    `-m${isHttp2 ? STREAMS : 1}`,
    `-D${seconds}`,
    `--warm-up-time=${WARM_UP_SECONDS}`,
    `--connect-to=127.0.0.1:${port}`,
    ...(isHttp2 ? [] : ["--h1"]),
    `https://${host}/1k`,
  ];
  const text = await outputOf(startPinned(LOAD_CORE, "h2load", args));
  const [, rate] = /finished in [^,]+, ([\d.]+) req\/s/.exec(text) ?? [];
  const [, good] = /status codes: (\d+) 2xx/.exec(text) ?? [];
  const [, bad] = /(\d+) failed/.exec(text) ?? [];
  if (rate === undefined || Number(good) === 0 || Number(bad) > 0) throw new Error(`h2load ${args.join(" ")}\n${text}`);
  return Number(rate);
}
