import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { type Clock, systemClock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import { type Log, silentLog } from "../base/log.ts";
import { type Random, systemRandom } from "../base/random.ts";
import type { Store } from "../base/store.ts";
import { certificateDigest, createSelfSigned, type PinnedCertificate } from "../certs/self-signed.ts";
import { Coordinator } from "../coordination/coordinator.ts";
import { compilePolicy, type PolicyContext } from "../coordination/policy/policy.ts";
import type { CoordinationStore } from "../coordination/store/coordination-store.ts";
import { ControlEndpoint } from "../coordination/transport/control-endpoint.ts";
import { generatePrivateKey } from "../crypto/keys.ts";
import { DerpServer } from "../derp/derp-server.ts";
import { openStunServer } from "../derp/stun-server.ts";
import type { DerpMap } from "../wire/tailcfg.ts";
import { serveLoginPages } from "./login-page.ts";

/** Regions 900 to 999 are for private use (tailcfg/derpmap.go). */
const DERP_REGION = 900;

export interface ServerOptions {
  /** Users, nodes, keys and policy. */
  readonly store: CoordinationStore;
  /** The server's own keys and certificate. */
  readonly state: Store;
  /** Where to listen. @default 127.0.0.1 */
  readonly address?: string;
  /** Coordination, plain HTTP (Noise inside); 0 = any. @default 0 */
  readonly port?: number;
  /** DERP, HTTPS; 0 = any. @default 0 */
  readonly derpPort?: number;
  /** 0 = any. @default 0 */
  readonly stunPort?: number;
  /** What clients are told. @default http://address:port */
  readonly serverUrl?: string;
  /** Suffix of the nodes' names. */
  readonly baseDomain: string;
  /** HuJSON. @default the one in the store; with none there, everybody may reach everybody */
  readonly policy?: string;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly random?: Random;
}

/** The server role: coordination, DERP and STUN in one process. */
export class Server {
  readonly url: string;
  readonly coordinator: Coordinator;
  readonly derp: DerpServer;
  readonly derpMap: DerpMap;
  readonly #closers: readonly (() => Promise<void> | void)[];

  private constructor(
    parts: { url: string; coordinator: Coordinator; derp: DerpServer; derpMap: DerpMap },
    closers: readonly (() => Promise<void> | void)[],
  ) {
    this.url = parts.url;
    this.coordinator = parts.coordinator;
    this.derp = parts.derp;
    this.derpMap = parts.derpMap;
    this.#closers = closers;
  }

  static async open(options: ServerOptions): Promise<Server> {
    const { clock = systemClock, random = systemRandom, log = silentLog, address = "127.0.0.1", state } = options;
    const noiseKey = await savedKey(state, "noise.key", random);
    const derpKey = await savedKey(state, "derp.key", random);
    const pinned = await savedCertificate(state, address, clock);

    const derp = new DerpServer({
      privateKey: derpKey,
      random,
      clock,
      log: log.with("derp"),
      admit: (nodeKey) => coordinator.isKnownNodeKey(nodeKey),
    });
    const derpHttp = createHttpsServer({ key: pinned.key, cert: pinned.certificate });
    derp.attach(derpHttp);
    const stun = await openStunServer({ address, port: options.stunPort ?? 0 });
    const derpPort = await listen(derpHttp, options.derpPort ?? 0, address);
    const derpMap: DerpMap = {
      Regions: {
        [DERP_REGION]: {
          RegionID: DERP_REGION,
          RegionCode: "own",
          RegionName: "Sallyport",
          Nodes: [
            {
              Name: `${DERP_REGION}a`,
              RegionID: DERP_REGION,
              HostName: address,
              CertName: `sha256-raw:${certificateDigest(pinned.certificate)}`,
              ...(address.includes(":") ? { IPv6: address } : { IPv4: address }),
              DERPPort: derpPort,
              STUNPort: stun.port,
            },
          ],
        },
      },
    };

    const http = createHttpServer();
    const port = await listen(http, options.port ?? 0, address);
    const url = options.serverUrl ?? `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
    const coordinator: Coordinator = await Coordinator.open({
      store: options.store,
      clock,
      random,
      log: log.with("coordination"),
      serverUrl: url,
      baseDomain: options.baseDomain,
      derpMap: () => derpMap,
      policy: compilePolicy(""),
      onKeyRetired: (nodeKey) => derp.disconnect(nodeKey.slice("nodekey:".length)),
    });
    // A policy outlives the process: never start open because nothing was said this time.
    const source = options.policy ?? coordinator.policySource();
    if (source !== undefined) await coordinator.setPolicy(compilePolicy(source), source, "start");
    const endpoint = new ControlEndpoint({
      privateKey: noiseKey,
      handler: coordinator,
      log: log.with("control"),
      clock,
      random,
    });
    endpoint.attach(http);
    serveLoginPages(http);

    return new Server({ url, coordinator, derp, derpMap }, [
      () => endpoint.close(),
      () => coordinator.close(),
      () => derp.close(),
      () => stun.close(),
      () => closeHttp(derpHttp),
      () => closeHttp(http),
    ]);
  }

  /**
   * Puts a new policy in force. A bad one changes nothing.
   * @throws {Fault} POLICY_*, with line and column
   */
  async setPolicy(source: string, by: string): Promise<void> {
    await this.coordinator.setPolicy(compilePolicy(source, this.policyContext()), source, by);
  }

  /** What a policy is checked against: the users and nodes of now. */
  policyContext(): PolicyContext {
    return { users: this.coordinator.users().map(({ login }) => login), nodes: this.coordinator.policyNodes() };
  }

  async close(): Promise<void> {
    for (const close of this.#closers) await close();
  }
}

async function savedKey(state: Store, name: string, random: Random): Promise<Uint8Array> {
  const saved = await state.get(name);
  if (saved?.length === 32) return saved;
  if (saved !== undefined) {
    throw new Fault("STATE_DAMAGED", `Cannot read key "${name}": found ${saved.length} bytes, wanted 32`, {
      hint: "Restore the state folder from a backup; without this key every client must join anew.",
    });
  }
  const key = generatePrivateKey(random);
  await state.set(name, key);
  return key;
}

async function savedCertificate(state: Store, name: string, clock: Clock): Promise<PinnedCertificate> {
  const file = `derp-${name}.json`;
  const saved = await state.get(file);
  if (saved !== undefined) return JSON.parse(Buffer.from(saved).toString("utf8")) as PinnedCertificate;
  const made = await createSelfSigned(name, clock.wall());
  await state.set(file, Buffer.from(JSON.stringify(made)));
  return made;
}

function listen(server: HttpServer | HttpsServer, port: number, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: Error) =>
      reject(new Fault("SERVER_LISTEN", `Cannot listen on "${address}:${port}": ${error.message}`, { cause: error })),
    );
    server.listen(port, address, () => resolve((server.address() as AddressInfo).port));
  });
}

function closeHttp(server: HttpServer | HttpsServer): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
