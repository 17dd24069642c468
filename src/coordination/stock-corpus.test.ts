import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { gunzipSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { FakeClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import type { MapRequest, MapResponse, RegisterRequest, RegisterResponse } from "../wire/tailcfg.ts";
import type { MapSink } from "./control-handler.ts";
import { Coordinator } from "./coordinator.ts";
import { MemoryCoordinationStore } from "./store/memory-store.ts";

/** What stock clients sent to, and got from, another server. */
const folder = path.resolve(import.meta.dirname, "../../../shared/corpora/stock");
const isHere = existsSync(folder);

interface StockRequest {
  readonly version: string;
  readonly method: string;
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
  readonly status: number;
  readonly response: unknown;
}

function lines<T>(name: string): T[] {
  const text = gunzipSync(readFileSync(path.join(folder, name))).toString("utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as T);
}

class Sink implements MapSink {
  readonly messages: MapResponse[] = [];
  readonly closed: AbortSignal = new AbortController().signal;
  ended = false;
  send(response: MapResponse): boolean {
    this.messages.push(response);
    return true;
  }
  end(): void {
    this.ended = true;
  }
}

const coordinators: Coordinator[] = [];
afterEach(async () => {
  for (const coordinator of coordinators.splice(0)) await coordinator.close();
});

async function start(): Promise<{ coordinator: Coordinator; clock: FakeClock; keys: Record<string, string> }> {
  const clock = new FakeClock();
  const coordinator = await Coordinator.open({
    store: new MemoryCoordinationStore(),
    clock,
    random: seededRandom(3),
    log: silentLog,
    serverUrl: "http://10.99.0.1:8080",
    baseDomain: "tail.test",
    derpMap: () => ({ Regions: {} }),
    policy: {
      filterFor: () => [],
      visibleTo: (_node, all) => new Set(all.map(({ id }) => id)),
      routesFor: (_viewer, router) => router.routes,
      sshFor: () => undefined,
      attributesFor: () => ({ https: null, funnel: null }),
      mayTag: () => true,
      autoApproves: () => true,
      autoApprovesService: () => false,
      mayNodeSet: () => false,
      servicesFor: (_viewer, host) => Object.keys(host.services ?? {}),
      poolsFor: () => [],
    },
  });
  coordinators.push(coordinator);
  const keys: Record<string, string> = {};
  for (const [host, login] of Object.entries({ gw: "bob@example.com", alice: "alice@example.com" })) {
    await coordinator.createUser({ login }, "root");
    keys[host] = (await coordinator.createAuthKey({ user: login, reusable: true }, "root")).key;
  }
  keys["ci"] = (await coordinator.createAuthKey({ tags: ["tag:ci"], reusable: true }, "root")).key;
  return { coordinator, clock, keys };
}

const hostOf = ({ body }: StockRequest): string =>
  String((body["Hostinfo"] as { Hostname?: string } | undefined)?.Hostname);

/** Members of the answers' shape: every path to a leaf, with numbered keys and list places made alike. */
function shape(value: unknown, at: string = ""): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => shape(item, `${at}[]`));
  if (typeof value !== "object" || value === null) return [`${at}:${value === null ? "null" : typeof value}`];
  return Object.entries(value).flatMap(([name, item]) => shape(item, `${at}.${name}`));
}

describe.skipIf(!isHere)("stock clients (skipped without the corpora)", () => {
  test.each(["v1.82.4", "v1.90.9", "v1.98.9", "v1.102.3"])("every request of %s is accepted", async (version) => {
    const { coordinator, clock, keys } = await start();
    const requests = lines<StockRequest>("control.jsonl.gz").filter((request) => request.version === version);
    expect(requests.length).toBeGreaterThan(10);
    const authUrls = new Map<string, string>();
    for (const request of requests) {
      clock.advance(1000);
      const nodeKey = String(request.body["NodeKey"]);
      // The capture does not say which channel a request came on: a lock key is one machine's.
      const machine = (key: unknown) => `mkey:${String(key).slice(-64)}`;
      const known = coordinator.nodes().find((node) => node.nodeKey === nodeKey);
      if (request.path === "/machine/register") {
        const body = request.body as unknown as RegisterRequest;
        const own = keys[hostOf(request)] ?? keys["gw"]!;
        const asked = {
          ...body,
          ...(body.Auth === undefined ? {} : { Auth: { AuthKey: own } }),
          ...(body.Followup ? { Followup: authUrls.get(nodeKey) ?? body.Followup } : {}),
        };
        if (body.Followup) {
          const id = asked.Followup!.split("/").at(-1)!;
          if (coordinator.pendingLogin(id) !== undefined)
            await coordinator.approveRegistration(id, "alice@example.com", "root");
        }
        const answer = await coordinator.register(machine(body.NLKey), asked, new AbortController().signal);
        if (answer.AuthURL) authUrls.set(nodeKey, answer.AuthURL);
        const stock = request.response as RegisterResponse;
        expect(answer.Error, JSON.stringify(body).slice(0, 300)).toBe("");
        if (!body.Followup) {
          expect([answer.NodeKeyExpired, answer.AuthURL !== ""]).toEqual([stock.NodeKeyExpired, stock.AuthURL !== ""]);
          expect(new Set(shape(answer))).toEqual(new Set(shape(stock)));
        }
      } else if (request.path === "/machine/map") {
        const sink = new Sink();
        void coordinator
          .map(known?.machineKey ?? "", request.body as unknown as MapRequest, sink)
          .catch(() => undefined);
        for (let i = 0; i < 30; i++) await Promise.resolve();
        expect(sink.ended || sink.messages.length > 0, `${request.status} ${nodeKey}`).toBe(request.status === 200);
      } else {
        const { status } = await coordinator.other(known?.machineKey ?? "", request.method, request.path, request.body);
        expect(status, request.path).toSatisfy((got: number) => got === request.status || got < 300);
      }
    }
  });

  test("our full maps have the members of stock ones", async () => {
    const { coordinator, keys } = await start();
    const bodies = lines<StockRequest>("control.jsonl.gz").filter(({ version }) => version === "v1.102.3");
    const joins = bodies.filter(
      (request) => request.path === "/machine/register" && request.body["Auth"] !== undefined,
    );
    for (const request of joins.slice(0, 3)) {
      const body = request.body as unknown as RegisterRequest;
      const asked = { ...body, Auth: { AuthKey: keys[hostOf(request)]! } };
      await coordinator.register(`mkey:${body.NLKey!.slice(-64)}`, asked, new AbortController().signal);
    }
    const node = coordinator.nodes()[0]!;
    const sink = new Sink();
    void coordinator.map(node.machineKey, { Version: 142, NodeKey: node.nodeKey, Stream: true }, sink);
    for (let i = 0; i < 30; i++) await Promise.resolve();
    const stock = lines<{ map: MapResponse }>("maps.jsonl.gz").map(({ map }) => map);
    const full = stock.filter(({ Peers }) => Peers != null);
    expect(Object.keys(sink.messages[0]!)).toEqual(Object.keys(full[0]!));
    const peer = (map: MapResponse) => new Set(Object.keys(map.Peers![0]!));
    const stockPeers = new Set(
      stock.flatMap((map) =>
        [...(map.Peers ?? []), ...(map.PeersChanged ?? [])].flatMap((entry) => Object.keys(entry)),
      ),
    );
    expect([...peer(sink.messages[0]!)].filter((name) => !stockPeers.has(name))).toEqual([]);
    const dns = sink.messages[0]!.DNSConfig!;
    expect(dns.Routes).toEqual(full[0]!.DNSConfig!.Routes);
  });
});
