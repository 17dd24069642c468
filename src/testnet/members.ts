import type { RequestInit, Response } from "undici";
import type { AddressPort } from "../base/address.ts";
import type { ConnDuplex } from "../base/duplex.ts";
import type { Log } from "../base/log.ts";
import type { Store } from "../base/store.ts";
import type { Caller } from "../identity/caller.ts";
import type { MeshNode, PeerStatus } from "../mesh/node.ts";
import type { CapMap } from "../wire/tailcfg.ts";
import type { Host, HostOptions } from "./internet.ts";

export interface TestUser {
  readonly login: string;
  /** @default the login */
  readonly name?: string;
  /** URL. */
  readonly picture?: string;
}

export interface TestnetOptions {
  /** Logins, or who they are in full. Users that nodes name beside them are made when they come. */
  readonly users?: readonly (string | TestUser)[];
  /** HuJSON text, or the same as an object. @default everybody may reach everybody */
  readonly policy?: string | object;
  /** Suffix of the names. @default "tail.test" */
  readonly baseDomain?: string;
  /** Same seed, same keys, losses and addresses. @default 1 */
  readonly seed?: number;
  /** Unix time in ms at which the clock begins. @default now */
  readonly startTime?: number;
  readonly log?: Log;
}

export interface NodeOptions {
  /** Whose node it is. */
  readonly user?: string;
  /** A tagged node instead, which has no user. */
  readonly tags?: readonly string[];
  /** @default from the login or the tag */
  readonly hostname?: string;
  /** Link and address translator, or a host of `internet`. @default on the open internet, 5 ms away */
  readonly host?: Host | HostOptions;
  /** Keys of a former node, to be the same again. */
  readonly store?: Store;
}

/** As `Node` of `createNode`, with time that moves while it waits. */
export interface TestNode {
  /** FQDN without the trailing dot. */
  readonly name: string;
  readonly addresses: readonly string[];
  readonly host: Host;
  readonly mesh: MeshNode;
  listen(port: number, accept: (stream: ConnDuplex) => void): { readonly port: number; close(): void };
  dial(target: AddressPort): Promise<ConnDuplex>;
  fetch(url: string | URL, init?: RequestInit): Promise<Response>;
  whois(stream: ConnDuplex): { readonly caller: Caller; readonly capabilities: CapMap };
  ping(name: string): Promise<{ readonly path: string; readonly latencyMs: number }>;
  status(): { readonly state: string; readonly peers: readonly PeerStatus[] };
  close(): Promise<void>;
}

/** What `createNode` gives. */
export type LibraryNode = Omit<TestNode, "host" | "mesh">;
