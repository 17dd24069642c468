import { createServer, type IncomingHttpHeaders } from "node:http";
import { expect, vi } from "vitest";
import { mountRules, nodeServeConfig } from "../../src/config/node-serve-config.ts";
import { parseServices } from "../../src/config/services.ts";
import { DoorAdmin } from "../../src/gateway/doors/door-admin.ts";
import { openDoors } from "../../src/gateway/doors/doors.ts";
import type { Gateway } from "../../src/gateway/gateway.ts";
import type { Server } from "../../src/server/server.ts";
import { brings, FunnelMesh } from "./funnel-mesh.ts";

export const PUBLIC_NAME = "web.mesh.example";
export const PUBLIC_ORIGIN: string = `https://${PUBLIC_NAME}`;
export const PUBLIC_PASSWORD = "correct horse";

/** A relay, a gateway whose file puts the door "friends" before what is public, and a backend that notes what it is told. */
export interface DoorMesh extends AsyncDisposable {
  readonly server: Server;
  readonly gateway: Gateway;
  readonly admin: DoorAdmin;
  /** Of the relay, where strangers come in. */
  readonly port: number;
  /** Fields of the requests that reached the backend. */
  readonly heard: IncomingHttpHeaders[];
}

/** `passes`: more ways through the door, as the file says them; secrets stand in `secrets`. */
export async function openDoorMesh(
  passes: Readonly<Record<string, unknown>> = {},
  secrets: Readonly<Record<string, string>> = {},
): Promise<DoorMesh> {
  await using stack = new AsyncDisposableStack();
  const mesh = await FunnelMesh.open({
    baseDomain: "mesh.example",
    relay: { listeners: [{ address: "127.0.0.1", port: 0, publicPort: 443 }] },
  });
  stack.defer(() => mesh.close());
  const { server } = mesh;
  const heard: IncomingHttpHeaders[] = [];
  const backend = createServer((asked, answer) => {
    heard.push(asked.headers);
    answer.end("inside");
  });
  const target = `http://127.0.0.1:${await mesh.listen(backend)}`;
  const endpoints = { "tcp:443": { target, funnel: true, door: "friends" } };
  const doors = { friends: { password: "env:PASSWORD", links: true, certificates: true, ...passes } };
  const services = parseServices(JSON.stringify({ version: "0.0.1", doors, node: { endpoints } }), "services");
  const gateway = await mesh.gateway({
    doors: await openDoors(services.doors, { PASSWORD: PUBLIC_PASSWORD, ...secrets }),
    rulesOf: (place) => mountRules(services, place),
  });
  gateway.declare(nodeServeConfig(services, gateway.name), {
    rulesOf: (place) => mountRules(services, place),
  });
  const isPublic = (): void => expect(brings(server.relay!, PUBLIC_NAME)).toBe(true);
  await vi.waitFor(isPublic, { timeout: 60_000, interval: 20 });
  const admin = new DoorAdmin(gateway.gatekeeper, () => gateway.standingDoors);
  const opened = stack.move();
  const close = (): Promise<void> => opened.disposeAsync();
  return { server, gateway, admin, port: server.relay!.ports[0]!, heard, [Symbol.asyncDispose]: close };
}
