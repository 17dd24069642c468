import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, fetch } from "undici";
import { systemClock } from "../base/clock.ts";
import { LocalCa } from "../certs/local-ca.ts";

const HOST = "127.0.0.1";
const START_MS = 15_000;

/** Let's Encrypt's small CA for tests, where it is installed. */
export interface DemoCa {
  readonly directory: string;
  /** File with what signs the CA's own TLS. */
  readonly caBundle: string;
  /** PEM of the root above what it issues. */
  readonly root: string;
  close(): void;
}

export function findPebble(searchPath: string | undefined): string | undefined {
  return (searchPath ?? "")
    .split(path.delimiter)
    .filter((folder) => folder !== "")
    .map((folder) => path.join(folder, "pebble"))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false; // the next folder may have it
      }
    });
}

/** `dnsServer`: the only DNS that it believes. Nothing where it does not start in time. */
export async function startDemoCa(binary: string, dnsServer: string): Promise<DemoCa | undefined> {
  const folder = mkdtempSync(path.join(tmpdir(), "sallyport-demo-"));
  const own = await LocalCa.create(systemClock);
  const { key, certificate } = await own.issue([HOST]);
  const bundle = own.export().certificate;
  const file = (name: string, text: string): string => {
    writeFileSync(path.join(folder, name), text, { mode: 0o600 });
    return path.join(folder, name);
  };
  const [port, management] = [await freePort(), await freePort()];
  const pebble = {
    listenAddress: `${HOST}:${port}`,
    managementListenAddress: `${HOST}:${management}`,
    certificate: file("tls.pem", certificate),
    privateKey: file("tls-key.pem", key),
    httpPort: 5002,
    tlsPort: 5001,
  };
  const child = spawn(binary, ["-config", file("config.json", JSON.stringify({ pebble })), "-dnsserver", dnsServer], {
    env: { ...process.env, PEBBLE_VA_NOSLEEP: "1", PEBBLE_WFE_NONCEREJECT: "0" },
    stdio: "ignore",
  });
  child.on("error", () => {});
  const close = (): void => {
    child.kill();
    rmSync(folder, { recursive: true, force: true });
  };
  const root = await rootOf(`https://${HOST}:${management}/roots/0`, bundle);
  if (root !== undefined)
    return { directory: `https://${HOST}:${port}/dir`, caBundle: file("ca.pem", bundle), root, close };
  close();
  return undefined;
}

async function rootOf(url: string, ca: string): Promise<string | undefined> {
  const dispatcher = new Agent({ connect: { ca } });
  try {
    for (const end = performance.now() + START_MS; performance.now() < end; await sleep(50)) {
      const answer = await fetch(url, { dispatcher, signal: AbortSignal.timeout(START_MS) }).catch(() => undefined);
      if (answer?.ok === true) return await answer.text();
    }
    return undefined;
  } finally {
    await dispatcher.destroy();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, HOST);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
