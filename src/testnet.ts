/** A whole mesh in memory (`sallyport/testnet`): to test a backend against the identity headers of a real gateway. */

import { Gateway } from "./gateway/gateway.ts";
import { nodeOf } from "./library.ts";
import type { TestnetOptions } from "./testnet/members.ts";
import { Testnet } from "./testnet/testnet.ts";

export type { App, Backend, ServeOptions } from "./testnet/app.ts";
export type { Host, HostOptions, Link } from "./testnet/internet.ts";
export type { NodeOptions, TestNode, TestnetOptions, TestUser } from "./testnet/members.ts";
export type { Nat, NatKind } from "./testnet/nat.ts";
export type { Testnet } from "./testnet/testnet.ts";

/** Opens a mesh without a socket: its server, its internet and its clock. Close it at the end of the test. */
export function createTestnet(options: TestnetOptions = {}): Promise<Testnet> {
  return Testnet.open(options, { openGateway: (gateway) => Gateway.open(gateway), nodeOf });
}
