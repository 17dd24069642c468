import type { Duplex } from "node:stream";
import { toHex } from "../../base/bytes.ts";
import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { DerpMap, DerpRegion } from "../../wire/tailcfg.ts";
import { DerpClient } from "./derp-client.ts";
import { connectRegion } from "./derp-connection.ts";

export interface DerpClientsOptions {
  readonly nodePrivateKey: Uint8Array;
  readonly random: Random;
  readonly clock: Clock;
  readonly log: Log;
  /** The map as it is now. */
  readonly map: () => DerpMap | undefined;
  /** The views are dead on return. */
  readonly onPacket: (region: number, sourceKey: Uint8Array, payload: Uint8Array) => void;
  readonly onPeerGone?: (region: number, key: Uint8Array) => void;
  readonly onConnected?: (region: number) => void;
  readonly onDisconnected?: (region: number) => void;
  /** Any frame came, if only a keepalive. */
  readonly onAlive?: (region: number) => void;
  /** Empty = healthy again. */
  readonly onHealth?: (region: number, text: string) => void;
  /** Up to the end of the HTTP upgrade. Absent = TCP and TLS. */
  readonly connect?: (region: DerpRegion, signal: AbortSignal) => Promise<Duplex>;
}

const WAITING_PACKETS = 32;
const IDLE_MS = 60_000;
const IDLE_SCAN_MS = 15_000;
const BACKOFF_MS = { first: 250, most: 5000 } as const;
const MOST_REGIONS = 64;
const MOST_ROUTES = 65_536;

interface Connection {
  readonly region: number;
  client: DerpClient | undefined;
  readonly waiting: { readonly key: Uint8Array; readonly payload: Uint8Array }[];
  abort: AbortController | undefined;
  failures: number;
  usedAt: number;
  cancelRetry: () => void;
}

/** Connections to regions: always one to the home region, to others on demand until they are idle. */
export class DerpClients {
  readonly #options: DerpClientsOptions;
  readonly #connections: Map<number, Connection> = new Map();
  /** Where a key was last heard: by that region it can be answered. */
  readonly #routes: Map<string, number> = new Map();
  #home = 0;
  #isClosed = false;
  #cancelScan: () => void = () => {};

  constructor(options: DerpClientsOptions) {
    this.#options = options;
    this.#scanLater();
  }

  /** Regions with a working connection. */
  get connected(): readonly number[] {
    return [...this.#connections.values()].filter(({ client }) => client?.isReady).map(({ region }) => region);
  }

  /** 0 = none. */
  setHome(region: number): void {
    if (region === this.#home || this.#isClosed) return;
    this.#connections.get(this.#home)?.client?.notePreferred(false);
    this.#home = region;
    const connection = region === 0 ? undefined : this.#need(region);
    connection?.client?.notePreferred(true);
  }

  /** Connects when needed. Never waits: what does not fit is lost, as anywhere on the way. */
  send(region: number, destinationKey: Uint8Array, payload: Uint8Array): void {
    if (this.#isClosed) return;
    const heard = this.#routes.get(toHex(destinationKey));
    const isOpen = this.#connections.get(region)?.client?.isReady === true;
    const isHeardOpen = heard !== undefined && this.#connections.get(heard)?.client?.isReady === true;
    const connection = this.#need(!isOpen && isHeardOpen ? heard : region);
    if (connection === undefined) return;
    connection.usedAt = this.#options.clock.now();
    if (connection.client !== undefined) {
      connection.client.send(destinationKey, payload);
      return;
    }
    if (connection.waiting.length >= WAITING_PACKETS) connection.waiting.shift();
    connection.waiting.push({ key: new Uint8Array(destinationKey), payload: new Uint8Array(payload) });
  }

  /** After a change of the network: connections that do not answer within 3 s are made anew, waits are cut short. */
  linkChanged(): void {
    for (const connection of this.#connections.values()) {
      connection.client?.check();
      connection.failures = 0;
      if (connection.client === undefined && connection.abort === undefined) {
        connection.cancelRetry();
        void this.#connect(connection);
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelScan();
    for (const connection of [...this.#connections.values()]) this.#drop(connection);
  }

  #need(region: number): Connection | undefined {
    const known = this.#connections.get(region);
    if (known !== undefined) return known;
    if (this.#connections.size >= MOST_REGIONS || this.#regionOf(region) === undefined) {
      if (region !== this.#home) return undefined;
    }
    const connection: Connection = {
      region,
      client: undefined,
      waiting: [],
      abort: undefined,
      failures: 0,
      usedAt: this.#options.clock.now(),
      cancelRetry: () => {},
    };
    this.#connections.set(region, connection);
    void this.#connect(connection);
    return connection;
  }

  #regionOf(region: number): DerpRegion | undefined {
    return this.#options.map()?.Regions?.[String(region)] ?? undefined;
  }

  async #connect(connection: Connection): Promise<void> {
    const { region } = connection;
    const abort = new AbortController();
    connection.abort = abort;
    try {
      const described = this.#regionOf(region);
      if (described === undefined) throw new Error("not in the DERP map");
      const stream = await (this.#options.connect ?? connectRegion)(described, abort.signal);
      connection.abort = undefined;
      if (abort.signal.aborted) stream.destroy();
      else this.#opened(connection, stream);
    } catch (thrown) {
      connection.abort = undefined;
      if (!abort.signal.aborted) this.#retry(connection, messageOf(thrown));
    }
  }

  #opened(connection: Connection, stream: Duplex): void {
    const { region } = connection;
    const { nodePrivateKey, random, clock, onPacket, onPeerGone, onHealth, onAlive } = this.#options;
    const client: DerpClient = new DerpClient({
      stream,
      nodePrivateKey,
      random,
      clock,
      onReady: () => {
        connection.failures = 0;
        if (region === this.#home) client.notePreferred(true);
        this.#options.onConnected?.(region);
      },
      onPacket: (source, payload) => {
        connection.usedAt = clock.now();
        this.#learn(toHex(source), region);
        onPacket(region, source, payload);
      },
      onAlive: () => onAlive?.(region),
      onPeerGone: (key) => {
        if (this.#routes.get(toHex(key)) === region) this.#routes.delete(toHex(key));
        onPeerGone?.(region, key);
      },
      onHealth: (text) => onHealth?.(region, text),
      onClose: (fault) => {
        connection.client = undefined;
        for (const [key, heard] of this.#routes) if (heard === region) this.#routes.delete(key);
        this.#options.onDisconnected?.(region);
        if (this.#connections.get(region) === connection) this.#retry(connection, fault.message);
      },
    });
    connection.client = client;
    for (const { key, payload } of connection.waiting.splice(0)) client.send(key, payload);
  }

  #learn(key: string, region: number): void {
    if (this.#routes.get(key) === region) return;
    if (this.#routes.size >= MOST_ROUTES) {
      for (const oldest of this.#routes.keys()) {
        this.#routes.delete(oldest);
        break;
      }
    }
    this.#routes.set(key, region);
  }

  /** Home, and what is still wanted, is tried again after a growing, random wait. */
  #retry(connection: Connection, reason: string): void {
    const { clock, log, random } = this.#options;
    const { region } = connection;
    if (this.#isClosed) return;
    const isWanted = region === this.#home || clock.now() - connection.usedAt < IDLE_MS;
    log.info("derp.disconnected", { region, reason, retry: isWanted });
    if (!isWanted) {
      this.#drop(connection);
      return;
    }
    const ceiling = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** connection.failures++);
    const delay = ceiling * (0.5 + random(1)[0]! / 512);
    connection.cancelRetry = clock.at(clock.now() + delay, () => void this.#connect(connection));
  }

  #drop(connection: Connection): void {
    if (this.#connections.get(connection.region) === connection) this.#connections.delete(connection.region);
    connection.cancelRetry();
    connection.abort?.abort();
    connection.client?.close();
    connection.waiting.length = 0;
  }

  #scanLater(): void {
    const { clock } = this.#options;
    this.#cancelScan = clock.at(clock.now() + IDLE_SCAN_MS, () => {
      for (const connection of [...this.#connections.values()]) {
        const isIdle = clock.now() - connection.usedAt >= IDLE_MS;
        if (isIdle && connection.region !== this.#home) this.#drop(connection);
      }
      this.#scanLater();
    });
  }
}
