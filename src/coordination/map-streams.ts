import type { Clock } from "../base/clock.ts";
import type { Random } from "../base/random.ts";
import type { MapResponse, Node } from "../wire/tailcfg.ts";
import type { MapSink } from "./control-handler.ts";
import type { Ledger } from "./ledger.ts";
import { fullMap, mapDelta, type NetworkView } from "./map-delta.ts";
import type { NetworkViews } from "./network-views.ts";
import { rfc3339 } from "./node-view.ts";
import type { NodeRecord } from "./records.ts";

/** Least time between two rounds of deltas: what happens meanwhile is one message. */
const COALESCE_MS = 250;
const LONGEST_PART_MS = 20;
/** The client's watchdog is 120 s (control-protocol §4.4). */
const KEEP_ALIVE_MS = 50_000;
const KEEP_ALIVE_SPREAD_MS = 8000;

interface Stream {
  readonly nodeId: number;
  readonly sink: MapSink;
  view: NetworkView;
  peers: Map<number, Node>;
  stopKeepAlive: () => void;
  end(): void;
}

/** One round of deltas over the streams that were open at its start. */
interface Round {
  readonly streams: readonly Stream[];
  next: number;
  /** Undefined: who may see whom changed. */
  readonly dirty: ReadonlySet<number> | undefined;
}

export interface StreamsOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly ledger: Ledger;
  readonly views: NetworkViews;
  readonly onOpen: (nodeId: number) => void;
  /** The last stream of a node ended (not when a newer one replaced it). */
  readonly onEnd: (nodeId: number) => void;
  readonly onFailure: (nodeId: number, thrown: unknown) => void;
}

/** The open map streams, one for each node, and the deltas on them. */
export class MapStreams {
  readonly #options: StreamsOptions;
  /** Of all streams since the start. */
  readonly counters: { fullMaps: number; deltas: number; tooSlow: number } = { fullMaps: 0, deltas: 0, tooSlow: 0 };
  readonly #streams: Map<number, Stream> = new Map();
  /** Streams whose client asked for keep-alives. */
  readonly #keepAlive: WeakSet<Stream> = new WeakSet();
  readonly #dirty: Set<number> = new Set();
  #topology = false;
  #scheduled: (() => void) | undefined;
  #lastFlush = -Infinity;
  #closed = false;

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  has(nodeId: number): boolean {
    return this.#streams.has(nodeId);
  }

  get size(): number {
    return this.#streams.size;
  }

  /** Sends the full map and then deltas, until either side ends. The latest stream of a node wins. */
  async run(node: NodeRecord, sink: MapSink, keepAlive: boolean): Promise<void> {
    if (this.#closed || sink.closed.aborted) return;
    const { views, clock, onOpen, onEnd } = this.#options;
    this.#streams.get(node.id)?.end();
    const { promise, resolve } = Promise.withResolvers<void>();
    views.beginRound();
    const view = views.of(node);
    const stream: Stream = {
      nodeId: node.id,
      sink,
      view,
      peers: view.peers,
      stopKeepAlive: () => undefined,
      end: () => {
        stream.stopKeepAlive();
        sink.closed.removeEventListener("abort", stream.end);
        if (this.#streams.get(node.id) === stream) this.#streams.delete(node.id);
        sink.end();
        resolve();
      },
    };
    this.#streams.set(node.id, stream);
    sink.closed.addEventListener("abort", stream.end, { once: true });
    this.counters.fullMaps++;
    if (!sink.send(fullMap(view, rfc3339(clock.wall())))) stream.end();
    else if (keepAlive) this.#armKeepAlive(stream);
    onOpen(node.id);
    await promise;
    if (!this.#streams.has(node.id)) onEnd(node.id);
  }

  /** One map, no stream. */
  once(node: NodeRecord, sink: MapSink): void {
    const { views, clock } = this.#options;
    views.beginRound();
    sink.send(fullMap(views.of(node), rfc3339(clock.wall())));
    sink.end();
  }

  /** Beside the deltas; false when the node has no stream that takes it. */
  send(nodeId: number, message: MapResponse): boolean {
    return this.#streams.get(nodeId)?.sink.send(message) ?? false;
  }

  /** Asks a node's machine for a sign of life; false when it has no stream that can. */
  echo(nodeId: number, heard: () => void): boolean {
    return this.#streams.get(nodeId)?.sink.echo?.(heard) ?? false;
  }

  end(nodeId: number): void {
    this.#streams.get(nodeId)?.end();
  }

  /** Members of these nodes changed, but not who may see whom. */
  touch(...nodeIds: readonly number[]): void {
    for (const id of nodeIds) this.#dirty.add(id);
    this.#schedule();
  }

  /** Who may see whom changed, or what everybody gets. */
  touchAll(): void {
    this.#topology = true;
    this.#options.views.topologyChanged();
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    this.#scheduled?.();
    for (const stream of [...this.#streams.values()]) stream.end();
  }

  #schedule(): void {
    if (this.#scheduled !== undefined || this.#closed) return;
    const { clock } = this.#options;
    const due = this.#lastFlush + COALESCE_MS;
    if (due > clock.now()) {
      this.#scheduled = clock.at(due, () => this.#flush());
      return;
    }
    let cancelled = false;
    this.#scheduled = () => {
      cancelled = true;
    };
    queueMicrotask(() => {
      if (!cancelled) this.#flush();
    });
  }

  #flush(): void {
    const { clock, views } = this.#options;
    this.#lastFlush = clock.now();
    const dirty = new Set(this.#dirty);
    const round: Round = {
      streams: this.#streams.values().toArray(),
      next: 0,
      dirty: this.#topology ? undefined : dirty,
    };
    this.#dirty.clear();
    this.#topology = false;
    views.beginRound();
    this.#continue(round);
  }

  /** A round of a thousand streams takes a while: packets are relayed between its parts. */
  #continue(round: Round): void {
    this.#scheduled = undefined;
    const { clock, ledger, onFailure, views } = this.#options;
    const pause = clock.now() + LONGEST_PART_MS;
    views.beginRound(); // the world may have gone on since the part before
    for (; round.next < round.streams.length; round.next++) {
      if (clock.now() > pause) {
        this.#scheduled = clock.at(clock.now(), () => this.#continue(round));
        return;
      }
      const stream = round.streams[round.next]!;
      if (this.#streams.get(stream.nodeId) !== stream) continue;
      const node = ledger.nodes.get(stream.nodeId);
      if (node === undefined) {
        stream.end();
        continue;
      }
      try {
        this.#update(stream, node, round.dirty);
      } catch (thrown) {
        // Ended, so that the node comes back for a full map rather than miss something.
        stream.end();
        onFailure(stream.nodeId, thrown);
      }
    }
    if (this.#topology || this.#dirty.size > 0) this.#schedule();
  }

  #update(stream: Stream, node: NodeRecord, dirty: ReadonlySet<number> | undefined): void {
    const { views, ledger, clock } = this.#options;
    let before: NetworkView;
    let after: NetworkView;
    if (dirty === undefined) {
      before = { ...stream.view, peers: stream.peers };
      const whole = views.of(node);
      after = whole;
      stream.peers = whole.peers;
    } else {
      const seen = [...dirty].filter((id) => stream.peers.has(id) && ledger.nodes.has(id));
      if (seen.length === 0 && !dirty.has(node.id)) return;
      before = { ...stream.view, peers: new Map(seen.map((id) => [id, stream.peers.get(id)!])) };
      const peers = new Map(seen.map((id) => [id, views.peer(ledger.nodes.get(id)!, node)]));
      after = dirty.has(node.id) ? views.around(node, peers, stream.view.profiles) : { ...stream.view, peers };
      for (const [id, peer] of peers) stream.peers.set(id, peer);
    }
    stream.view = after;
    const message = mapDelta(before, after, rfc3339(clock.wall()));
    if (message === undefined) return;
    this.counters.deltas++;
    if (!stream.sink.send(message)) {
      // A receiver that is too slow loses its stream, and takes a full map when it comes back.
      this.counters.tooSlow++;
      stream.end();
    } else if (this.#keepAlive.has(stream)) this.#armKeepAlive(stream);
  }

  #armKeepAlive(stream: Stream): void {
    const { clock, random } = this.#options;
    stream.stopKeepAlive();
    if (this.#streams.get(stream.nodeId) !== stream) return;
    this.#keepAlive.add(stream);
    const spread = ((random(1)[0] ?? 0) / 256) * KEEP_ALIVE_SPREAD_MS;
    stream.stopKeepAlive = clock.at(clock.now() + KEEP_ALIVE_MS + spread, () => {
      // Nothing else may be in it: the client compares bytes.
      if (stream.sink.send({ KeepAlive: true })) this.#armKeepAlive(stream);
      else stream.end();
    });
  }
}
