import { execFileSync } from "node:child_process";
import { request } from "node:https";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { freePorts, type Running, startSallyport } from "./processes.ts";
import { type ReachablePebble, startReachablePebble } from "./reachable-pebble.ts";
import { until } from "./stock-mesh.ts";

const HOST = "127.0.0.1";
const NAME = "mesh.example.com";
const peers = peersOrSkip("pebble", "setpriv", "openssl");

describe.skipIf(peers.missing !== undefined)(
  `the server's own name${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    let server: Running;
    let pebble: ReachablePebble;
    let port = "";
    let args: string[] = [];

    beforeAll(async () => {
      const [https = "", http = "", dns = "", derp = "", stun = ""] = await freePorts(HOST, 5);
      port = https;
      pebble = await startReachablePebble({ folder: `${scratch}/pebble`, address: HOST, dnsServer: `${HOST}:${dns}` });
      args = ["server", "--state", `${scratch}/state`, "--address", HOST, "--port", http, "--derp-port", derp];
      args.push("--stun-port", stun, "--url", `https://${NAME}`, "--https-listen", `${HOST}:${https}`);
      args.push("--dns-zone", NAME, "--dns-listen", `${HOST}:${dns}`, "--dns-ns", `ns1.${NAME}`);
      args.push("--cert-authority", pebble.directory, "--cert-authority-bundle", pebble.listenerRoot);
      server = await startSallyport(args, "server.started");
    }, 90_000);

    afterAll(async () => {
      await server?.kill();
      await pebble?.stop();
    });

    const get = (ca: string, servername: string): Promise<string> =>
      new Promise((resolve) => {
        const options = { host: HOST, port, path: "/key?v=133", servername, ca, headers: { host: NAME }, agent: false };
        const call = request(options, (answer) => {
          text(answer).then(resolve, (error: Error) => resolve(error.message));
        });
        call.once("error", (error) => resolve(error.message)).end();
      });

    test("HTTPS under its own name, proved by its own zone", { timeout: 120_000 }, async () => {
      const ca = await pebble.issuedRoot();
      const answer = await until(
        "the key",
        () => get(ca, NAME),
        (found) => found.includes("mkey:"),
        90_000,
      );
      expect(JSON.parse(answer)).toHaveProperty("publicKey");
      expect(await get(ca, "other.example.com")).toMatch(/unrecognized name/);
    });

    test("after kill -9 the same certificate is there", { timeout: 60_000 }, async () => {
      const shown = (): string => {
        const stdio = ["ignore", "pipe", "ignore"] as const;
        const from = ["s_client", "-connect", `${HOST}:${port}`, "-servername", NAME];
        return /-----BEGIN[\s\S]*?END CERTIFICATE-----/.exec(
          execFileSync("openssl", from, { stdio: [...stdio] }).toString(),
        )![0];
      };
      const before = shown();
      await server.kill();
      server = await startSallyport(args, "server.started");
      const ca = await pebble.issuedRoot();
      await until(
        "the key",
        () => get(ca, NAME),
        (found) => found.includes("mkey:"),
        30_000,
      );
      expect(shown()).toBe(before);
    });

    test("a name that is none, and a plain URL, are said", async () => {
      for (const url of ["http://mesh.example.com", "https://10.0.0.1"]) {
        const wrong = startSallyport(
          ["server", "--state", `${scratch}/x`, "--url", url, "--https-listen", "443"],
          "never",
        );
        await expect(wrong).rejects.toThrow("wanted --url https://NAME");
      }
    });
  },
);
