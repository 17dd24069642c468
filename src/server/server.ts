import { createServer as createHttpServer, type Server as HttpServer } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import { type AddressInfo, isIP, type Socket } from "node:net";
import { formatAddressPort } from "../base/address.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { Fault, messageOf } from "../base/fault.ts";
import { type Log, silentLog } from "../base/log.ts";
import { type Random, systemRandom } from "../base/random.ts";
import { loadJson, saveJson } from "../base/saved-json.ts";
import type { Store } from "../base/store.ts";
import { certificateDigest, createSelfSigned, type PinnedCertificate } from "../certs/self-signed.ts";
import { allRecords } from "../certs/zone/records.ts";
import { Coordinator } from "../coordination/coordinator.ts";
import { rolesOf } from "../coordination/node-view.ts";
import { compilePolicy, type PolicyContext } from "../coordination/policy/policy.ts";
import type { CoordinationStore } from "../coordination/store/coordination-store.ts";
import { ControlEndpoint } from "../coordination/transport/control-endpoint.ts";
import { generatePrivateKey } from "../crypto/keys.ts";
import { DerpServer } from "../derp/derp-server.ts";
import { openStunServer } from "../derp/stun-server.ts";
import { plainName } from "../wire/host-name.ts";
import type { DerpMap } from "../wire/tailcfg.ts";
import { ownDerpMap } from "./derp-map.ts";
import { LoginPages } from "./login-page.ts";
import { type OidcOptions, OidcProvider } from "./oidc-provider.ts";
import { givenHttps, type OwnHttpsOptions, openOwnHttps } from "./own-https.ts";
import { funnelRecords, type OwnRelayOptions, openOwnRelay, RELAY_FILE } from "./own-relay.ts";
import { openPublicZone, type PublicZone, type PublicZoneOptions } from "./public-zone.ts";
import type { Relay } from "./relay.ts";

/** A disk that is slower than that holds up every change. */
const STORE_ANSWERS_MS = 5000;
const LOOPBACK = "127.0.0.1";
const NOISE_KEY = "noise.key";
const DERP_KEY = "derp.key";
const certificateFile = (address: string): string => `derp-${address}.json`;

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
  /** People sign in there to let their devices in. @default the owner approves by the command line */
  readonly oidc?: OidcOptions;
  /** Answers for the nodes' names in public DNS, by which nodes get certificates. @default no certificates */
  readonly publicZone?: PublicZoneOptions;
  /** Funnel's ports, as nodes are told. @default 443, 8443 and 10000 */
  readonly funnelPorts?: readonly number[];
  /** Public addresses of Funnel's relays, for the public zone. */
  readonly relayAddresses?: readonly string[];
  /** HTTPS under the server's own name, that of `serverUrl`. @default none: somebody in front has it */
  readonly https?: OwnHttpsOptions;
  /** A relay of Funnel in this process. */
  readonly relay?: OwnRelayOptions;
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
  readonly endpoint: ControlEndpoint;
  readonly publicZone: PublicZone | undefined;
  readonly relay: Relay | undefined;
  readonly #options: ServerOptions;
  readonly #closers: (() => Promise<void> | void)[];

  private constructor(
    options: ServerOptions,
    parts: Pick<Server, "url" | "coordinator" | "derp" | "derpMap" | "endpoint" | "publicZone" | "relay">,
    closers: readonly (() => Promise<void> | void)[],
  ) {
    this.#options = options;
    this.url = parts.url;
    this.coordinator = parts.coordinator;
    this.derp = parts.derp;
    this.derpMap = parts.derpMap;
    this.endpoint = parts.endpoint;
    this.publicZone = parts.publicZone;
    this.relay = parts.relay;
    this.#closers = [...closers];
  }

  static async open(options: ServerOptions): Promise<Server> {
    const { clock = systemClock, random = systemRandom, log = silentLog, address = LOOPBACK, state } = options;
    const noiseKey = await savedKey(state, NOISE_KEY, random);
    const derpKey = await savedKey(state, DERP_KEY, random);
    const pinned = await savedCertificate(state, address, clock);

    const derp = new DerpServer({
      privateKey: derpKey,
      random,
      clock,
      log: log.with("derp"),
      admit: (nodeKey) => coordinator.isKnownNodeKey(nodeKey),
    });
    // Without the relay's `derpkey` certificate, which would save a round trip: where one is pinned, clients before 1.84
    // refuse a second ("unexpected multiple certs presented") and have no relay at all.
    const derpHttp = createHttpsServer({ key: pinned.key, cert: pinned.certificate });
    derp.attach(derpHttp);
    const stun = await openStunServer({ address, port: options.stunPort ?? 0, clock });
    const derpPort = await listen(derpHttp, options.derpPort ?? 0, address);
    const http = createHttpServer();
    const port = await listen(http, options.port ?? 0, address);
    const url = options.serverUrl ?? `http://${formatAddressPort({ address, port })}`;
    const hasName = options.https !== undefined || options.relay?.certificate !== undefined;
    const digest = certificateDigest(pinned.certificate);
    const derpMap = ownDerpMap({ address, derpPort, stunPort: stun.port, digest, ...(hasName ? { url } : {}) });
    let publicZone: PublicZone | undefined;
    let relay: Relay | undefined;
    const coordinator: Coordinator = await Coordinator.open({
      store: options.store,
      clock,
      random,
      log: log.with("coordination"),
      serverUrl: url,
      baseDomain: options.baseDomain,
      derpMap: () => derpMap,
      policy: compilePolicy(""),
      ownNames: ownNamesOf(url, options.publicZone),
      ...(options.funnelPorts === undefined ? {} : { funnelPorts: options.funnelPorts }),
      ...(options.relayAddresses === undefined ? {} : { relayAddresses: options.relayAddresses }),
      onKeyRetired: (nodeKey) => derp.disconnect(nodeKey.slice("nodekey:".length)),
      ...(options.publicZone === undefined
        ? {}
        : { setTxt: async (name: string, value: string) => publicZone!.challenges.set(name, value) }),
    });
    // A policy outlives the process: never start open because nothing was said this time.
    const source = options.policy ?? coordinator.policySource();
    if (source !== undefined) await coordinator.setPolicy(compilePolicy(source), source, "start");
    if (options.publicZone !== undefined) {
      const { records = () => undefined } = options.publicZone;
      const { named, byWildcard } = funnelRecords(() => coordinator, options.relayAddresses ?? [], random);
      publicZone = await openPublicZone(
        { ...options.publicZone, records: allRecords(named, records), wildcards: byWildcard },
        {
          baseDomain: options.baseDomain,
          ownName: plainName(new URL(url).hostname),
          isPublic: (name) => coordinator.mayHaveCertificate(name),
          clock,
          log: log.with("zone"),
        },
      );
    }
    const endpoint = new ControlEndpoint({
      privateKey: noiseKey,
      handler: coordinator,
      log: log.with("control"),
      clock,
      random,
    });
    const { oidc } = options;
    const pages = new LoginPages({
      coordinator,
      clock,
      log: log.with("login"),
      serverUrl: url,
      ...(oidc === undefined ? {} : { oidc: new OidcProvider(oidc, `${url.replace(/\/$/, "")}/oidc/callback`) }),
    });
    pages.attach(http); // before the endpoint, which passes on what is not its own
    endpoint.attach(http);
    const attach = (server: HttpServer): void => {
      derp.attach(server);
      pages.attach(server);
      endpoint.attach(server);
    };
    const name = plainName(new URL(url).hostname);
    const behindRelay = options.relay && { ...pinned, cert: pinned.certificate, ...options.relay.certificate };
    const ownHttps = options.https ?? (behindRelay && givenHttps(behindRelay));
    const https = ownHttps && (await openOwnHttps(ownHttps, { name, attach, clock, log: log.with("https") }));
    if (options.relay !== undefined && https !== undefined) {
      const { accept } = https;
      relay = await openOwnRelay(options.relay, {
        ...{ coordinator, serverUrl: url, address, port, state, clock, log, accept },
      });
    }

    return new Server(options, { url, coordinator, derp, derpMap, endpoint, publicZone, relay }, [
      () => relay?.close(),
      () => https?.close(),
      () => endpoint.close(),
      () => publicZone?.close(),
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
    const users = this.coordinator.users();
    return {
      users: users.map(({ login }) => login),
      roles: new Map(users.map((user) => [user.login, rolesOf(user)])),
      nodes: this.coordinator.policyNodes(),
    };
  }

  /**
   * Writes users, nodes, policy, log and the server's own keys to one new file, while everything goes on.
   * @throws {Fault} BACKUP_*
   */
  async backup(target: string, by: string): Promise<void> {
    const { store, state, address = LOOPBACK } = this.#options;
    if (store.backup === undefined) {
      throw new Fault("BACKUP_UNSUPPORTED", `Cannot write backup "${target}": this store has no file, wanted SQLite`);
    }
    const files = new Map<string, Uint8Array>();
    for (const name of [NOISE_KEY, DERP_KEY, certificateFile(address), RELAY_FILE]) {
      const body = await state.get(name);
      if (body !== undefined) files.set(name, body);
    }
    await store.backup(target, files);
    await this.coordinator.record("server.backup", target, by);
  }

  /** What keeps the server from its work, in words; empty: nothing. */
  async problems(): Promise<readonly string[]> {
    const asked = this.coordinator.adminLog({ limit: 1 }).then(
      () => undefined,
      (thrown: unknown) => `The store cannot be read: ${messageOf(thrown)}`,
    );
    const slow = this.#later(STORE_ANSWERS_MS, "The store does not answer.");
    const found = await Promise.race([asked, slow.promise]);
    slow.cancel();
    const { isHealthy, problems } = this.relay?.health ?? { isHealthy: true, problems: [] };
    return [...(found === undefined ? [] : [found]), ...(isHealthy ? [] : problems)];
  }

  #later<T>(ms: number, value: T): { readonly promise: Promise<T>; readonly cancel: () => void } {
    const { clock = systemClock } = this.#options;
    const { promise, resolve } = Promise.withResolvers<T>();
    return { promise, cancel: clock.at(clock.now() + ms, () => resolve(value)) };
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0)) await close();
  }
}

/** What a node that was granted a wildcard must not take. */
function ownNamesOf(url: string, zone: PublicZoneOptions | undefined): readonly string[] {
  const names = [new URL(url).hostname, ...(zone === undefined ? [] : [zone.nameServer])];
  return names.map(plainName).filter((name) => isIP(name) === 0);
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
  const file = certificateFile(name);
  const saved = await loadJson(state, {
    file,
    what: `the certificate of ${name}`,
    remedy: "the server makes another one, which nodes hear of from it",
    read: (json) => {
      const { key, certificate } = Object(json) as Partial<PinnedCertificate>;
      return typeof key === "string" && typeof certificate === "string" ? { key, certificate } : undefined;
    },
  });
  if (saved !== undefined) return saved;
  const made = await createSelfSigned(name, clock.wall());
  await saveJson(state, file, made);
  return made;
}

/** Upgraded connections too, of which Node's servers know nothing any more. */
const connections: WeakMap<HttpServer | HttpsServer, Set<Socket>> = new WeakMap();

function listen(server: HttpServer | HttpsServer, port: number, address: string): Promise<number> {
  const open = new Set<Socket>();
  connections.set(server, open);
  server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
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
    // A client that vanished never ends its side.
    for (const socket of connections.get(server) ?? []) socket.destroySoon();
  });
}
