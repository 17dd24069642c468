import dns from "node:dns";
import { isIP } from "node:net";
import { Fault } from "../../src/base/fault.ts";
import { GatewayAdmin } from "../../src/gateway/admin.ts";
import type { ServeConfig } from "../../src/wire/serve-config.ts";
import { MortalNode } from "./mortal-node.ts";
import { NAME, OffScene, type OffSceneOptions, offPolicy, type SwitchedOff, until, type Visit } from "./off-scene.ts";

/** A state in which what is public must be taken back at once all the same (FN-8). */
export interface OffState {
  /** The configuration before, beside what is to be taken back. */
  readonly more?: Partial<ServeConfig>;
  /** What is opened in another way for it, and what breaks then. */
  readonly open?: () => OffSceneOptions & { readonly break?: () => unknown };
  readonly break?: (scene: OffScene) => unknown;
  /** What would outlast the scene. */
  readonly repair?: (scene: OffScene) => unknown;
  /** Visitors who are not like others. */
  readonly visitors?: (scene: OffScene) => Promise<readonly Visit[]>;
  /** The command cannot do all of it, and says so. */
  readonly says?: RegExp;
  /** It is still written down afterwards. */
  readonly isKept?: true;
  /** The command waits for what never comes; what it is for is done long before. */
  readonly isEndless?: true;
  /** The relay hears nothing of us: visitors stay with it, and reach nobody. */
  readonly isRelayDeaf?: true;
}

const full = (): never => {
  throw new Error("ENOSPC: no space left on device");
};

const ONLY_HTTPS: Partial<ServeConfig> = { TCP: { 443: { HTTPS: true } } };

/** Until the node has heard what the server says of it now. */
async function setPolicy({ mesh, gateway }: OffScene, attributes: string, isHeard: (words: object) => boolean) {
  await mesh.server.setPolicy(offPolicy(attributes), "test");
  await until("the policy is heard of", () => isHeard(gateway.node.map?.self.CapMap ?? {}));
}

const { lookup } = dns;

export const OFF_STATES: Readonly<Record<string, OffState>> = {
  "nothing is broken": {},
  "the disk is full": {
    break: ({ disk }) => {
      disk.before = full;
    },
    ...{ says: /no space left/, isKept: true },
  },
  "the disk is full for the configuration alone": {
    break: ({ disk }) => {
      disk.before = (name) => (name === "serve.json" ? full() : undefined);
    },
    ...{ says: /no space left/, isKept: true },
  },
  "the disk takes 3 s": {
    break: ({ disk }) => {
      disk.before = () => new Promise((resolve) => setTimeout(resolve, 3000));
    },
  },
  "the disk does not answer": {
    break: ({ disk }) => {
      disk.before = () => new Promise(() => undefined);
    },
    ...{ isEndless: true, isKept: true },
  },
  "certificates cannot be looked after": {
    break: ({ gateway }) => {
      gateway.certificates.refresh = () => {
        throw new Error("no certificates");
      };
    },
    says: /no certificates/,
  },
  "doors cannot be settled": {
    break: ({ gateway }) => {
      gateway.commandDoors.settle = () => Promise.reject(new Error("no doors"));
    },
    says: /no doors/,
  },
  "the configuration is refused for another entry": {
    break: ({ gateway }) => {
      gateway.check = () => {
        throw new Fault("GATEWAY_TARGET_REFUSED", "Cannot serve it: another entry is refused");
      };
    },
    ...{ says: /another entry is refused/, isKept: true },
  },
  "another entry has no backend": { more: { TCP: { 9000: { TCPForward: "127.0.0.1:1" } } } },
  "another entry's target is none": { more: { TCP: { 9000: { TCPForward: "nonsense" } } } },
  "another entry's name is none": { more: { ...ONLY_HTTPS, Web: { "..:443": { Handlers: { "/": { Text: "x" } } } } } },
  "another entry has no handlers": { more: { ...ONLY_HTTPS, Web: { [`${NAME}:443`]: { Handlers: null } } } },
  "another public entry is served by nothing": { more: { AllowFunnel: { [`${NAME}:10000`]: true } } },
  "another entry claims a domain that it may not have": { more: { AllowFunnel: { "shop.example.org:8443": true } } },
  "another entry claims a port that it may not have": {
    more: { TCP: { 2222: { TCPForward: "127.0.0.1:1" } }, AllowFunnel: { "*:2222": true } },
  },
  "the backend does not read": {
    break: ({ callers }) => {
      for (const socket of callers) socket.pause();
    },
  },
  "visitors do not read": {
    visitors: async (scene) => {
      const slow = await scene.guest();
      slow.socket.pause();
      slow.socket.write(Buffer.alloc(4_000_000));
      return [slow];
    },
  },
  "the policy demands doors": {
    break: (scene) =>
      setPolicy(
        scene,
        '"funnel", "https", "sallyport.dev/door-required"',
        (words) => "sallyport.dev/door-required" in words,
      ),
  },
  "the policy has taken `funnel` back": {
    break: (scene) => setPolicy(scene, '"https"', (words) => !("funnel" in words)),
  },
  "the node has left the mesh for a while": {
    open: () => ({ relay: { limits: { answerMs: 500 } } }), // so long new visitors wait until the relay knows
    break: ({ gateway }) => gateway.setPreferences({ ...gateway.preferences.now, WantRunning: false }),
  },
  "the node's key has run out": { break: ({ mesh }) => mesh.server.coordinator.expireNode(NAME, "test") },
  "the node was removed from the network": { break: ({ mesh }) => mesh.server.coordinator.deleteNode(NAME, "test") },
  "the node is logged out": { break: ({ gateway }) => new GatewayAdmin(gateway).logout() },
  "the server is away": { break: ({ mesh }) => mesh.server.close() },
  "the server is away, and no name can be resolved": {
    break: async ({ mesh }) => {
      // An address is one without being asked for: other scenes of this process go on.
      const numeric = (host: string, ...more: readonly unknown[]): void => {
        if (isIP(host) !== 0) return void Reflect.apply(lookup, dns, [host, ...more]);
        (more.at(-1) as (error: Error) => void)(new Error("getaddrinfo EAI_AGAIN"));
      };
      dns.lookup = numeric as typeof lookup;
      await mesh.server.close();
    },
    repair: () => {
      dns.lookup = lookup;
    },
  },
  "the relay is away": { break: ({ relay }) => relay.close() },
  "the relay hears nothing": {
    open: () => {
      const mortal = new MortalNode();
      return { relay: { ...mortal, limits: { answerMs: 1500 } }, break: () => mortal.die() };
    },
    isRelayDeaf: true,
  },
  "server and relay are away": {
    break: async ({ mesh, relay }) => {
      await relay.close();
      await mesh.server.close();
    },
  },
};

export interface OffOutcome extends SwitchedOff {
  readonly isKept: boolean;
}

/** Opens a scene, breaks it, and switches off with `visitors` there. */
export async function takesBack(state: OffState, visitors: number): Promise<OffOutcome> {
  const opened = state.open?.();
  const scene = await OffScene.open(opened);
  try {
    await scene.publish(state.more);
    const open: Visit[] = [];
    while (open.length < visitors) open.push(await scene.guest());
    open.push(...((await state.visitors?.(scene)) ?? []));
    await state.break?.(scene);
    await opened?.break?.();
    const ended = await scene.switchOff(state.isRelayDeaf === true ? [] : open, state.isEndless === true);
    const isKept = scene.gateway.storedServeConfig?.AllowFunnel?.[`${NAME}:8443`] === true;
    return { ...ended, isKept };
  } finally {
    await state.repair?.(scene);
    await scene.close();
  }
}
