import { randomBytes } from "node:crypto";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { text } from "node:stream/consumers";
import tls, { type TLSSocket } from "node:tls";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import { connPair } from "../../src/base/conn-pair.ts";
import { asDuplex, type ConnDuplex } from "../../src/base/duplex.ts";
import { silentLog } from "../../src/base/log.ts";
import { memoryStore, type Store } from "../../src/base/store.ts";
import type { Caller } from "../../src/identity/caller.ts";
import type { Door } from "../../src/proxy/doors/door.ts";
import { Gatekeeper } from "../../src/proxy/doors/gatekeeper.ts";
import { hashSecret, tokenDigest } from "../../src/proxy/doors/secret-hash.ts";
import type { RouteRules } from "../../src/proxy/route-rules.ts";
import { serverContext } from "../../src/proxy/tls/tls-context.ts";
import { certificateOf, GATE, onClose, type ProxyScene, proxyScene, webConfig } from "./proxy-scene.ts";
import { type RecordingBackend, recordingBackend } from "./recording-backend.ts";

export const VISITOR: Caller = { kind: "anonymous", address: "198.51.100.7" };
export const ORIGIN: string = `https://${GATE}`;
export const MACHINE_TOKEN: string = randomBytes(24).toString("base64url");
export const PASSWORD: string = "correct horse";

/** As cheap as a hash can be. */
const CHEAP = { log2: 4, blocks: 8, lanes: 1 };
const hashes = Promise.all([hashSecret(PASSWORD, CHEAP), hashSecret("482913", CHEAP)]);

export async function door(more: Partial<Door> = {}): Promise<Door> {
  const [password, pin] = await hashes;
  return {
    name: "friends",
    version: "1",
    stops: "public",
    password,
    pin,
    hasLinks: true,
    hasCertificates: true,
    tokens: [{ name: "ci", digest: tokenDigest(MACHINE_TOKEN) }],
    tokenHeader: "Sallyport-Door-Token",
    life: { idleMs: 3_600_000, longestMs: 86_400_000 },
    ...more,
  };
}

/** One proxy behind the door "friends", before all mounts but `/open`. */
export interface DoorScene extends ProxyScene {
  readonly backend: RecordingBackend;
  readonly keeper: Gatekeeper;
  /** Through the mesh; `connect` comes from outside. */
  readonly connectMember: ProxyScene["connect"];
  /** Of all mounts but `/open`; another one may be put there. */
  readonly place: { rules: RouteRules };
}

export interface Wish {
  readonly door?: Partial<Door>;
  readonly rules?: RouteRules;
  readonly clock?: Clock;
  readonly store?: Store;
  /** Mounts without it. @default "/open" alone */
  readonly open?: readonly string[];
  /** The backend's. */
  readonly answer?: string;
}

/** Those that all connections share, as on a gateway: sessions can be taken up again. */
const contexts = certificateOf(GATE).then(({ cert, key }) =>
  [false, true].map((asksClients) => serverContext({ chain: cert, key, asksClients })),
);

export async function doorScene(wish: Wish = {}): Promise<DoorScene> {
  const backend = await recordingBackend(wish.answer);
  const clock = wish.clock ?? systemClock;
  const keeper = await Gatekeeper.open({ clock, log: silentLog, store: wish.store ?? memoryStore() });
  keeper.setDoors([await door(wish.door)]);
  const target = { Proxy: `http://127.0.0.1:${backend.port}` };
  const handlers = { "/": target, "/open": target, "/é": target, "/text": { Text: "inside" } };
  const { open = ["/open"] } = wish;
  const place: DoorScene["place"] = { rules: { door: "friends", ...wish.rules } };
  const scene = proxyScene(webConfig(handlers), {
    gatekeeper: keeper,
    secureContext: async (_, asksClients) => (await contexts)[Number(asksClients)]!,
    rulesOf: ({ mount = "" }) => (open.includes(mount) ? undefined : place.rules),
  });
  scene.caller = VISITOR;
  const { connect } = scene;
  const visit = (port: number): ConnDuplex => {
    const proof = { kind: "public", source: { address: VISITOR.address, port: 40_000 } } as const;
    const [near, far] = connPair({ ...proof, destination: { address: "203.0.113.1", port } });
    scene.proxy.accept(far, port);
    const client = asDuplex(near);
    client.on("error", () => void client.destroy());
    onClose(() => client.destroy());
    return client;
  };
  return Object.assign(scene, { backend, keeper, place, connect: visit, connectMember: connect });
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** One request of a visitor, on a connection of its own. */
export interface Ask {
  readonly method?: string;
  readonly headers?: Record<string, string | string[]>;
  readonly form?: Record<string, string> | string;
  readonly over?: TLSSocket;
}

export const HTML: Record<string, string> = { accept: "text/html,application/xhtml+xml,*/*;q=0.8" };

export async function secured({ connect }: ProxyScene): Promise<TLSSocket> {
  const { cert } = await certificateOf(GATE);
  const secure = tls.connect({ socket: connect(443), servername: GATE, ca: cert });
  secure.on("error", () => undefined);
  onClose(() => secure.destroy());
  return secure;
}

export async function ask(scene: ProxyScene, path: string, { method, headers, form, over }: Ask = {}): Promise<Answer> {
  const secure = over ?? (await secured(scene));
  const body = typeof form === "object" ? new URLSearchParams(form).toString() : form;
  const own = form === undefined ? {} : { "content-type": "application/x-www-form-urlencoded", origin: ORIGIN };
  const asked = httpRequest({
    createConnection: () => secure,
    method: method ?? (form === undefined ? "GET" : "POST"),
    path,
    headers: { host: GATE, ...own, ...headers },
  });
  const answer = await new Promise<Answer>((resolve, reject) => {
    asked.once("error", reject);
    asked.once("response", (response) => {
      text(response).then(
        (all) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: all }),
        reject,
      );
    });
    asked.end(body);
  });
  return answer;
}

/** The cookie that names the session, as a browser sends it back. */
export function cookieOf({ headers }: Answer): string {
  const line = headers["set-cookie"]?.find((one) => one.startsWith("__Host-sallyport-friends=")) ?? "";
  return line.slice(0, line.indexOf(";"));
}

/** The cookie of whoever has passed by the password, or by `form`. */
export async function enter(scene: ProxyScene, form: Record<string, string> = {}): Promise<string> {
  const answer = await ask(scene, "/.sallyport/door/friends/enter", {
    form: { way: "password", secret: PASSWORD, ...form },
  });
  if (answer.status !== 303) throw new Error(`Cannot enter: ${answer.status} ${answer.body}`);
  return cookieOf(answer);
}
