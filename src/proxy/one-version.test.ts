import http from "node:http";
import type { Duplex } from "node:stream";
import { afterEach, expect, test } from "vitest";
import {
  ALICE,
  closeScenes,
  GATE,
  http2Client,
  onClose,
  proxyScene,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import { systemClock } from "../base/clock.ts";
import { Assertions } from "../identity/assertions.ts";
import type { Callers } from "../identity/caller.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import type { RouteRules } from "./route-rules.ts";

afterEach(closeScenes);

/** `SALLYPORT_RELOADS=100000`: all of the row. */
const REQUESTS = Number(process.env["SALLYPORT_RELOADS"] ?? 3000);
const VERSIONS = 3;
const LANES = 8;

interface Version {
  readonly config: ServeConfig;
  readonly rules: RouteRules;
}

/** Says where it was asked, which listed name came through, and of which capabilities it was told. */
async function telling(): Promise<number> {
  const server = http.createServer(({ url = "", headers }, response) => {
    const listed = Object.keys(headers).find((name) => name.startsWith("x_of_")) ?? "none";
    response.end(JSON.stringify([url, listed, headers["tailscale-app-capabilities"] ?? "none"]));
  });
  onClose(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
}

/** Of each version everything is its own: the backend's path, the mounts, the capabilities and the rules. */
function versionOf(number: number, port: number): Version {
  const to = (place: string) => ({
    Proxy: `http://127.0.0.1:${port}/v${number}/${place}`,
    AcceptAppCaps: [`example.com/v${number}`],
  });
  return {
    config: webConfig({ "/": to("root"), [`/v${number}`]: to("own"), "/gone": { Text: `of ${number}` } }),
    rules: { otherNames: [`x_of_${number}`] },
  };
}

const FIELDS = Object.fromEntries(Array.from({ length: VERSIONS }, (_, i) => [`x_of_${i}`, "1"]));

test(`CF-3 of ${REQUESTS} requests under one reload after the other each is of one version`, {
  timeout: Math.max(60_000, 10 * REQUESTS),
}, async () => {
  const port = await telling();
  const versions = Array.from({ length: VERSIONS }, (_, number) => versionOf(number, port));
  let now = 0;
  let reloads = 0;
  const reload = (): void => {
    now = (now + 1) % VERSIONS;
    reloads++;
  };
  const callers: Callers = {
    of: () => ALICE,
    capabilities: (_caller, _address, names) => {
      queueMicrotask(reload); // while what is said of the caller is being signed
      return JSON.stringify(Object.fromEntries(names.map((name) => [name, [{ all: true }]])));
    },
    epoch: 0, // a reload is no news of the callers
    revoked: () => new AbortController().signal,
  };
  const assertions = await Assertions.create(() => `https://${reloads}.tail.test`, systemClock);
  const scene = proxyScene(webConfig({}), {
    config: () => versions[now]!.config,
    rulesOf: () => versions[now]!.rules,
    callers,
    assertions,
  });
  let isOver = false;
  const storm = (): void => {
    reload();
    if (!isOver) setImmediate(storm);
  };
  storm();

  const agent = new http.Agent({ keepAlive: true, maxSockets: LANES });
  agent.createConnection = () => scene.connect(80) as Duplex;
  onClose(() => agent.destroy());
  const byHttp1 = (path: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const request = http.request({ agent, path, headers: { Host: GATE, ...FIELDS } }, async (response) => {
        resolve(Buffer.concat(await response.toArray()).toString());
      });
      request.on("error", reject).end();
    });
  const session = await http2Client(scene);
  const byHttp2 = async (path: string): Promise<string> => {
    const stream = session.request({ ":path": path, ":authority": GATE, ...FIELDS });
    return Buffer.concat(await stream.toArray()).toString();
  };

  const seen = new Map<string, number>();
  let left = REQUESTS;
  const lane = async (number: number): Promise<void> => {
    const ask = number % 2 === 0 ? byHttp1 : byHttp2;
    while (left-- > 0) {
      const answer = await ask(["/", "/v0/x", "/v1/x", "/v2/x", "/gone"][left % 5]!);
      seen.set(answer, (seen.get(answer) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, number) => lane(number)));
  isOver = true;

  const wanted = versions.flatMap((_, number) => {
    const told = [`x_of_${number}`, `{"example.com/v${number}":[{"all":true}]}`];
    const elsewhere = versions.flatMap((__, other) => (other === number ? [] : [`/v${number}/root/v${other}/x`]));
    const places = [`/v${number}/root/`, `/v${number}/own/x`, ...elsewhere];
    return [...places.map((place) => JSON.stringify([place, ...told])), `of ${number}`];
  });
  expect([...seen.keys()].toSorted()).toEqual(wanted.toSorted());
  expect(reloads).toBeGreaterThan(REQUESTS);
});
