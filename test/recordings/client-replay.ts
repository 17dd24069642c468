import { type Duplex, duplexPair } from "node:stream";
import { fromHex } from "../../src/base/bytes.ts";
import { FakeClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { seededRandom } from "../../src/base/random.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { respondNoise } from "../../src/crypto/noise.ts";
import { ControlClient, type ControlState } from "../../src/mesh/control/control-client.ts";
import { noiseRecords } from "../../src/mesh/control/noise-channel.ts";
import {
  controlPrologue,
  decodeInitiation,
  encodeEarlyPayload,
  encodeResponse,
  HANDSHAKE_HEADER,
} from "../../src/wire/control.ts";
import { MapFrameReader } from "../../src/wire/control-map.ts";
import type { NetworkMap } from "../../src/wire/network-map.ts";
import {
  bodyOf,
  END_STREAM,
  encodeFrame,
  FRAME,
  type Frame,
  FrameCutter,
  headOf,
  openChannel,
  type RecordedChannel,
} from "./control-bytes.ts";
import { type ControlOpened, type Entry, ofKind } from "./recording.ts";

type Kind = "register" | "logout" | "poll" | "update" | "other";

const UPGRADED =
  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\r\n";
const ACK = 1;
const STATUS_200 = Uint8Array.of(0x88); // HPACK's static table
const MOST_TURNS = 5000;

interface AskedStream {
  readonly kind: Kind;
  readonly stream: number;
}

/** Which request is on which stream, by the bodies. */
function kindsOf(frames: readonly Frame[]): AskedStream[] {
  const ends = frames.filter(({ type, flags }) => type === FRAME.data && (flags & END_STREAM) !== 0);
  return ends.map(({ stream }) => ({ stream, kind: kindOf(bodyOf(frames, stream)) }));
}

function kindOf(body: Uint8Array): Kind {
  const request = JSON.parse(Buffer.from(body).toString("utf8")) as Readonly<Record<string, unknown>>;
  if ("NLKey" in request) return String(request["Expiry"]).startsWith("1970-") ? "logout" : "register";
  if (!("Version" in request)) return "other";
  return request["Stream"] === true ? "poll" : "update";
}

/** A recorded stock server's side of one connection, played to our client. */
export class ClientReplay {
  readonly clock: FakeClock;
  readonly states: ControlState[] = [];
  readonly urls: string[] = [];
  map: NetworkMap | undefined;
  readonly client: ControlClient;
  /** Of the node that was recorded. */
  readonly nodeKey: string;
  readonly #channel: RecordedChannel;
  readonly #asked: readonly AskedStream[];
  readonly #own: Uint8Array = generatePrivateKey(seededRandom(5));
  readonly #mapped: Map<number, number> = new Map();
  readonly #taken: Set<number> = new Set();
  readonly #dropped: Set<number> = new Set();
  #up: Frame[] = [];
  #write: ((plain: Uint8Array) => void) | undefined;
  #next = 0;
  #updates = 0;

  constructor(entries: readonly Entry[], opened: ControlOpened) {
    this.#channel = openChannel(entries, opened);
    const up = this.#channel.frames.filter(({ way }) => way === "up");
    this.#asked = kindsOf(up);
    const poll = this.#asked.find(({ kind }) => kind === "poll")!;
    const request = JSON.parse(Buffer.from(bodyOf(up, poll.stream)).toString("utf8")) as { NodeKey: string };
    this.nodeKey = request.NodeKey;
    const keys = ofKind(entries, "derp").map(({ node }) => fromHex(node)!);
    const own = keys.find((key) => formatKey("nodekey", publicKeyOf(key)) === this.nodeKey)!;
    const down = this.#channel.frames.filter(({ way }) => way === "down");
    const [first] = new MapFrameReader().push(bodyOf(down, poll.stream));
    this.clock = new FakeClock(Date.parse(first!.ControlTime ?? "2026-01-01T00:00:00Z"));
    this.client = new ControlClient({
      serverUrl: "http://control.test",
      machineKey: fromHex(opened.initiator.privateKey)!,
      clock: this.clock,
      random: seededRandom(6),
      log: silentLog,
      connect: async () => this.#connect(),
      hostinfo: () => ({ Hostname: "replayed", BackendLogID: "00" }),
      authKey: "hskey-auth-of-the-recording",
      nodeKey: () => ({ private: own }),
      adoptNodeKey: async () => {},
      discoKey: publicKeyOf(generatePrivateKey(seededRandom(8))),
      endpoints: () => [],
      onAuthUrl: (url) => this.urls.push(url),
      onMap: (map) => {
        this.map = map;
      },
      onState: (state) => this.states.push(state),
    });
  }

  /** Whether the recorded client logged out at the end. */
  get isLoggedOut(): boolean {
    return this.#asked.some(({ kind }) => kind === "logout");
  }

  #connect(): Duplex {
    const [theirs, ours] = duplexPair();
    let held: Uint8Array = new Uint8Array(0);
    let cutter: FrameCutter | undefined;
    ours.on("error", () => {});
    ours.on("data", (chunk: Buffer) => {
      let rest = new Uint8Array(chunk);
      if (cutter === undefined) {
        held = new Uint8Array(Buffer.concat([held, chunk]));
        const found = headOf(held);
        if (found === undefined) return;
        if (found.head.startsWith("GET /key")) {
          const body = JSON.stringify({ publicKey: formatKey("mkey", publicKeyOf(this.#own)) });
          ours.end(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
          return;
        }
        cutter = this.#answer(ours, found.head);
        rest = new Uint8Array(found.rest);
      }
      for (const frame of cutter.push(rest)) this.#up.push(frame);
    });
    return theirs;
  }

  #answer(ours: Duplex, head: string): FrameCutter {
    const text = new RegExp(`^${HANDSHAKE_HEADER}: (\\S+)`, "im").exec(head)![1]!;
    const frame = decodeInitiation(Buffer.from(text, "base64"))!;
    const { response, session } = respondNoise({
      prologue: controlPrologue(frame.version),
      staticKey: this.#own,
      ephemeralKey: generatePrivateKey(seededRandom(9)),
      initiation: frame.payload,
    })!;
    const codec = noiseRecords(session);
    ours.write(UPGRADED);
    ours.write(encodeResponse(response));
    this.#write = (plain) => {
      for (let at = 0; at < plain.length; at += codec.largestPlaintext) {
        ours.write(codec.seal(plain.subarray(at, at + codec.largestPlaintext)));
      }
    };
    this.#up = [];
    this.#write(encodeEarlyPayload(JSON.parse(Buffer.from(this.#channel.early!).toString("utf8"))));
    return new FrameCutter("up", (ciphertext) => session.open.next(ciphertext));
  }

  /** Gives our client all that the stock server had said up to this place of the recording. */
  async playTo(entry: number): Promise<void> {
    const { frames } = this.#channel;
    for (; this.#next < frames.length && frames[this.#next]!.entry <= entry; this.#next++) {
      const frame = frames[this.#next]!;
      if (frame.way === "down") await this.#play(frame);
    }
    await this.#settle();
  }

  async #play(frame: Frame): Promise<void> {
    if (frame.stream === 0) {
      if (frame.type === FRAME.settings && (frame.flags & ACK) !== 0) {
        await this.#until("settings", () => this.#up.some(({ type }) => type === FRAME.settings));
      } else await this.#until("a connection", () => this.#write !== undefined);
      if (frame.type !== FRAME.ping) this.#write!(encodeFrame(frame));
      return;
    }
    if (!this.#mapped.has(frame.stream)) await this.#map(frame.stream);
    const stream = this.#mapped.get(frame.stream);
    if (stream === undefined) return;
    // Behind a dropped one the header tables would be out of step.
    const isBare = frame.type === FRAME.headers && this.#dropped.size > 0;
    this.#write!(encodeFrame({ ...frame, stream, ...(isBare ? { payload: STATUS_200 } : {}) }));
  }

  async #map(recorded: number): Promise<void> {
    if (this.#dropped.has(recorded)) return;
    const kind = this.#asked.find(({ stream }) => stream === recorded)?.kind ?? "other";
    if (kind === "other") return void this.#dropped.add(recorded);
    const find = () => kindsOf(this.#up).find((asked) => asked.kind === kind && !this.#taken.has(asked.stream));
    if (kind === "logout") void this.client.logout();
    else if (kind === "update" && this.#updates++ > 0) this.client.update();
    await this.#until(`a ${kind} of ours`, () => find() !== undefined);
    const { stream } = find()!;
    this.#taken.add(stream);
    this.#mapped.set(recorded, stream);
  }

  async #until(what: string, isSo: () => boolean): Promise<void> {
    for (let turns = 0; turns < MOST_TURNS && !isSo(); turns++) {
      await turn();
      if (turns % 20 === 19) this.clock.advance(50); // what we do later, we do by the clock
    }
    if (!isSo()) throw new Error(`Waited in vain for ${what}`);
  }

  async #settle(): Promise<void> {
    for (let i = 0; i < 60; i++) await turn();
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
