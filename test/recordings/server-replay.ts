import { createServer } from "node:http";
import { type Duplex, duplexPair } from "node:stream";
import { fromHex } from "../../src/base/bytes.ts";
import { FakeClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { type Random, seededRandom } from "../../src/base/random.ts";
import type { ControlHandler } from "../../src/coordination/control-handler.ts";
import { Coordinator } from "../../src/coordination/coordinator.ts";
import { compilePolicy } from "../../src/coordination/policy/policy.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { ControlEndpoint } from "../../src/coordination/transport/control-endpoint.ts";
import type { NoiseSession } from "../../src/crypto/noise.ts";
import { decodeHandshakeAnswer } from "../../src/wire/control.ts";
import { MapFrameReader } from "../../src/wire/control-map.ts";
import { applyMapResponse } from "../../src/wire/map-apply.ts";
import type { NetworkMap } from "../../src/wire/network-map.ts";
import type { MapRequest, RegisterRequest, RegisterResponse } from "../../src/wire/tailcfg.ts";
import {
  bodyOf,
  END_STREAM,
  FRAME,
  type Frame,
  FrameCutter,
  headOf,
  openChannel,
  type RecordedChannel,
  type RecordedFrame,
  respondTo,
} from "./control-bytes.ts";
import { type ControlOpened, type Entry, ofKind } from "./recording.ts";

const POLICY = JSON.stringify({
  tagOwners: { "tag:ci": ["bob@example.com"] },
  acls: [{ action: "accept", src: ["*"], dst: ["*:*"] }],
});
const DERP_MAP = {
  Regions: { 900: { RegionID: 900, RegionCode: "lab", RegionName: "Lab", Nodes: [] } },
};
/** Turns of the event loop that an answer may take; streams and zstd move by turns, not by time. */
const MOST_TURNS = 20_000;

/** One recorded client's connection to our server. */
export class ReplayedConnection {
  readonly opened: ControlOpened;
  readonly stream: Duplex;
  /** Frames that our server sent. */
  readonly frames: Frame[] = [];
  cutter: FrameCutter | undefined;
  #head: Uint8Array | undefined = new Uint8Array(0);
  readonly #twin: NoiseSession;

  constructor(opened: ControlOpened, head: string, stream: Duplex) {
    this.opened = opened;
    this.stream = stream;
    this.#twin = respondTo(opened, head).session;
    stream.on("data", (chunk: Buffer) => this.#take(new Uint8Array(chunk)));
    stream.on("error", () => {});
  }

  /** Streams that have an answer. */
  readonly answered: Set<number> = new Set();

  #take(chunk: Uint8Array): void {
    let rest = chunk;
    if (this.#head !== undefined) {
      this.#head = new Uint8Array(Buffer.concat([this.#head, chunk]));
      const found = headOf(this.#head);
      const answer = found === undefined ? undefined : decodeHandshakeAnswer(found.rest);
      if (answer === undefined) return;
      this.#head = undefined;
      rest = answer.rest;
      // A stream cipher is its own inverse: sealing what was sealed under the same counter opens it.
      this.cutter = new FrameCutter("down", (sealed) => this.#twin.seal.next(sealed.slice(0, -16))?.slice(0, -16));
    }
    for (const frame of this.cutter!.push(rest)) {
      this.frames.push(frame);
      if (frame.type === FRAME.headers) this.answered.add(frame.stream);
    }
  }
}

export interface Asked {
  readonly kind: "register" | "map" | "other";
  readonly path: string;
  readonly request: unknown;
  answer: unknown;
}

/**
 * The bytes of recorded clients, given to our server in their order and at their times. What a person did at a step is
 * done by `act`.
 */
export class ServerReplay {
  readonly clock: FakeClock = new FakeClock();
  readonly asked: Asked[] = [];
  readonly connections: Map<number, ReplayedConnection> = new Map();
  readonly coordinator: Coordinator;
  readonly #entries: readonly Entry[];
  readonly #http = createServer();
  readonly #endpoint: ControlEndpoint;
  readonly #channels: Map<number, RecordedChannel> = new Map();
  readonly #ephemeral: Uint8Array[] = [];
  readonly #keys: Record<string, string> = {};
  readonly #logins: Map<string, string> = new Map();
  #began = 0;

  private constructor(entries: readonly Entry[], coordinator: Coordinator, clock: FakeClock) {
    this.#entries = entries;
    this.coordinator = coordinator;
    this.clock = clock;
    for (const opened of ofKind(entries, "control")) this.#channels.set(opened.id, openChannel(entries, opened));
    const seeded = seededRandom(11);
    const random: Random = (length) => (length === 32 ? this.#ephemeral.shift() : undefined) ?? seeded(length);
    const { privateKey } = ofKind(entries, "control")[0]!.responder;
    this.#endpoint = new ControlEndpoint({
      privateKey: fromHex(privateKey)!,
      handler: this.#handler(),
      log: silentLog,
      clock,
      random,
    });
    this.#endpoint.attach(this.#http);
  }

  static async open(entries: readonly Entry[]): Promise<ServerReplay> {
    const clock = new FakeClock();
    const coordinator = await Coordinator.open({
      store: new MemoryCoordinationStore(),
      clock,
      random: seededRandom(12),
      log: silentLog,
      serverUrl: "http://control.test",
      baseDomain: "tail.test",
      derpMap: () => DERP_MAP,
      policy: compilePolicy(POLICY),
    });
    await coordinator.createUser({ login: "alice@example.com", displayName: "Alice Example" }, "test");
    await coordinator.createUser({ login: "bob@example.com", displayName: "Bob Example" }, "test");
    return new ServerReplay(entries, coordinator, clock);
  }

  /** Plays everything; `act` is called at each step, `check` at each status that was seen. */
  async run(
    act: (what: string) => Promise<unknown> | undefined,
    check: (entry: Extract<Entry, { kind: "status" }>) => Promise<void>,
  ): Promise<void> {
    this.#keys["alice"] = (
      await this.coordinator.createAuthKey({ user: "alice@example.com", reusable: true }, "test")
    ).key;
    for (const [index, entry] of this.#entries.entries()) {
      if ("at" in entry) await this.#passTo(entry.at);
      if (entry.kind === "control") this.#began = entry.id;
      else if (entry.kind === "bytes" && this.#channels.has(entry.id)) await this.#deliver(entry, index);
      else if (entry.kind === "end" && entry.way === "up") this.connections.get(entry.id)?.stream.destroy();
      else if (entry.kind === "step") await act(entry.what);
      else if (entry.kind === "status") await check(entry);
    }
  }

  async #deliver(entry: Extract<Entry, { kind: "bytes" }>, index: number): Promise<void> {
    if (entry.way === "down") return;
    const chunk = Buffer.from(entry.bytes, "base64");
    let connection = this.connections.get(entry.id);
    if (connection === undefined) {
      const opened = ofKind(this.#entries, "control").find(({ id }) => id === this.#began)!;
      const [ours, theirs] = duplexPair();
      connection = new ReplayedConnection(opened, headOf(new Uint8Array(chunk))!.head, ours);
      this.connections.set(entry.id, connection);
      this.#ephemeral.push(fromHex(opened.responder.ephemeral)!);
      this.#http.emit("connection", theirs);
    }
    // A client asks on because it had these answers.
    const had = this.#channels.get(entry.id)!.frames.filter((frame) => frame.entry < index && isAnswer(frame));
    const { answered, stream } = connection;
    await until(`the answers on ${entry.id}`, () => had.every((frame) => answered.has(frame.stream)));
    stream.write(chunk);
    await settle();
  }

  async #passTo(at: number): Promise<void> {
    while (this.clock.next <= at) {
      this.clock.advance(this.clock.next - this.clock.now());
      await settle();
    }
    this.clock.advance(Math.max(0, at - this.clock.now()));
  }

  /** What the newest map stream of a node says by now. */
  mapOf(nodeKey: string): NetworkMap | undefined {
    for (const connection of [...this.connections.values()].reverse()) {
      const polls = this.#polls(connection.opened.id).filter((poll) => poll.request.NodeKey === nodeKey);
      const poll = polls.findLast(({ stream }) => connection.answered.has(stream));
      if (poll === undefined) continue;
      let map: NetworkMap | undefined;
      for (const message of new MapFrameReader().push(bodyOf(connection.frames, poll.stream))) {
        if (message.KeepAlive !== true) {
          map = applyMapResponse(map, message, new Date(this.clock.wall()).toISOString());
        }
      }
      return map;
    }
    return undefined;
  }

  #polls(id: number): { stream: number; request: MapRequest }[] {
    const up = this.#channels.get(id)!.frames.filter(({ way }) => way === "up");
    const streams = up.filter(({ type, flags }) => type === FRAME.data && (flags & END_STREAM) !== 0);
    return streams.flatMap(({ stream }) => {
      const request = JSON.parse(Buffer.from(bodyOf(up, stream)).toString("utf8")) as MapRequest;
      return request.Stream === true ? [{ stream, request }] : [];
    });
  }

  /** Documents pass through here: another server's auth keys and login URLs become those of ours. */
  #handler(): ControlHandler {
    const { coordinator } = this;
    return {
      register: async (machineKey, request, signal) => {
        const asked: Asked = { kind: "register", path: "/machine/register", request, answer: undefined };
        this.asked.push(asked);
        const answer = await coordinator.register(machineKey, this.#own(request), signal);
        asked.answer = answer;
        if (answer.AuthURL) this.#logins.set(request.NodeKey, answer.AuthURL);
        return answer;
      },
      map: async (machineKey, request, out) => {
        this.asked.push({ kind: "map", path: "/machine/map", request, answer: undefined });
        await coordinator.map(machineKey, request, out);
      },
      other: async (machineKey, method, path, body) => {
        const answer = await coordinator.other(machineKey, method, path, body);
        this.asked.push({ kind: "other", path, request: body, answer });
        return answer;
      },
    };
  }

  #own(request: RegisterRequest): RegisterRequest {
    const url = this.#logins.get(request.NodeKey);
    if (request.Followup && url !== undefined) {
      // Somebody opens it as soon as it is shown.
      void this.coordinator.approveRegistration(url.split("/").at(-1)!, "bob@example.com", "test");
      return { ...request, Followup: url };
    }
    return request.Auth == null ? request : { ...request, Auth: { AuthKey: this.#keys["alice"]! } };
  }

  registrations(): { readonly request: RegisterRequest; readonly answer: RegisterResponse }[] {
    return this.asked.flatMap(({ kind, request, answer }) =>
      kind === "register" ? [{ request: request as RegisterRequest, answer: answer as RegisterResponse }] : [],
    );
  }

  async close(): Promise<void> {
    for (const { stream } of this.connections.values()) stream.destroy();
    this.#endpoint.close();
    await this.coordinator.close();
  }
}

const isAnswer = ({ way, type }: RecordedFrame): boolean => way === "down" && type === FRAME.headers;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function settle(): Promise<void> {
  for (let i = 0; i < 12; i++) await turn();
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (let turns = 0; turns < MOST_TURNS && !isSo(); turns++) await turn();
  if (!isSo()) throw new Error(`Waited in vain for ${what}`);
}
