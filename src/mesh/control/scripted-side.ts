import { FakeClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { seededRandom } from "../../base/random.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import type { NetworkMap } from "../../wire/network-map.ts";
import type { Node } from "../../wire/tailcfg.ts";
import { ControlClient, type ControlClientOptions, type ControlState } from "./control-client.ts";
import { ScriptedServer } from "./scripted-server.ts";

/** A control client before a scripted server, under a clock that tests move. */
export class ScriptedSide {
  readonly clock: FakeClock = new FakeClock();
  readonly server: ScriptedServer = new ScriptedServer();
  readonly maps: NetworkMap[] = [];
  readonly states: ControlState[] = [];
  readonly urls: string[] = [];
  readonly client: ControlClient;
  nodeKey: { private: Uint8Array; old?: Uint8Array };

  constructor(overrides: Partial<ControlClientOptions> = {}) {
    const random = seededRandom(99);
    this.nodeKey = { private: generatePrivateKey(random) };
    this.client = new ControlClient({
      serverUrl: "http://control.test",
      machineKey: generatePrivateKey(random),
      clock: this.clock,
      random,
      log: silentLog,
      connect: this.server.connect,
      hostinfo: () => ({ Hostname: "gate", BackendLogID: "00" }),
      nodeKey: () => this.nodeKey,
      adoptNodeKey: async (key) => {
        this.nodeKey = { private: key, old: this.nodeKey.private };
      },
      discoKey: publicKeyOf(generatePrivateKey(random)),
      endpoints: () => [],
      onAuthUrl: (url) => this.urls.push(url),
      onMap: (map) => this.maps.push(map),
      onState: (state) => this.states.push(state),
      ...overrides,
    });
  }

  async close(): Promise<void> {
    this.server.cut();
    await this.client.close();
  }

  get kind(): ControlState["kind"] {
    return this.client.state.kind;
  }

  get faultCode(): string | undefined {
    const { state } = this.client;
    return state.kind === "backing-off" ? state.fault.code : undefined;
  }

  get keyText(): string {
    return formatKey("nodekey", publicKeyOf(this.nodeKey.private));
  }

  self(more: Partial<Node> = {}): Node {
    return {
      ID: 1,
      StableID: "n1",
      Name: "gate.tail.test.",
      User: 1,
      Key: this.keyText,
      Addresses: ["100.64.0.1/32"],
      ...more,
    };
  }

  /** A time of the client's clock, as servers write it. */
  at(ms: number): string {
    return new Date(this.clock.wall() + ms).toISOString();
  }

  /** Joined, with a map. */
  async join(more: Partial<Node> = {}): Promise<void> {
    this.client.start();
    await until(() => this.server.polls.length === 1);
    this.server.send({ Node: this.self(more), Peers: [{ ...this.self(), ID: 2, Key: `nodekey:${"b".repeat(64)}` }] });
    await until(() => this.maps.length === 1);
  }

  /** Lets time pass, with all that follows from each alarm. */
  async pass(ms: number): Promise<void> {
    const end = this.clock.now() + ms;
    while (this.clock.next <= end) {
      this.clock.advance(this.clock.next - this.clock.now());
      await settle();
    }
    this.clock.advance(end - this.clock.now());
    await settle();
  }

  /** Lets time pass until something is so; within ten seconds. */
  async passUntil(isSo: () => boolean): Promise<void> {
    for (let i = 0; i < 100 && !isSo(); i++) await this.pass(100);
    if (!isSo()) throw new Error(`Waited in vain for ${isSo}`);
  }

  /** The same as `pass` with a server that says keep-alive each minute. */
  async stay(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 60_000) {
      await this.pass(Math.min(left, 60_000));
      this.server.send({ KeepAlive: true });
      await settle();
    }
  }
}

/** Streams move by turns of the event loop, not by time. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 12; i++) await new Promise((resolve) => setImmediate(resolve));
}

export async function until(isSo: () => boolean): Promise<void> {
  for (let turns = 0; turns < 5000 && !isSo(); turns++) await new Promise((resolve) => setImmediate(resolve));
  if (!isSo()) throw new Error(`Waited in vain for ${isSo}`);
}
