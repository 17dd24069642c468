import { Counter, collectDefaultMetrics, Gauge, Registry } from "prom-client";
import type { NodeView } from "../coordination/coordinator.ts";
import { registerRelayMetrics } from "./relay-metrics.ts";
import type { Server } from "./server.ts";

const NODE_STATES = ["online", "offline", "expired", "wireguard"] as const;

/** What a server tells a monitoring system, read when it is asked. Counts only: nobody's name or key. */
export class ServerMetrics {
  readonly #registry: Registry = new Registry();

  constructor(server: Pick<Server, "coordinator" | "endpoint" | "derp" | "publicZone" | "relay">) {
    const { coordinator, endpoint, derp, publicZone, relay } = server;
    collectDefaultMetrics({ register: this.#registry });
    this.#nodes(coordinator);
    this.#gauge("sallyport_users", "Users.", () => coordinator.users().length);
    this.#gauge("sallyport_logins_waiting", "Logins that wait for approval.", () => coordinator.pendingLogins().length);
    this.#gauge("sallyport_control_channels", "Machines whose control channel is open.", () => endpoint.channels);
    this.#gauge("sallyport_derp_clients", "Node keys that are connected to the relay.", () => derp.clients);
    this.#counters("sallyport_registrations_total", "Answers to register requests, by result.", "result", () => ({
      admitted: coordinator.counters.admitted,
      refused: coordinator.counters.refused,
    }));
    this.#counters("sallyport_map_messages_total", "Messages on map streams, by kind.", "kind", () => ({
      full: coordinator.counters.fullMaps,
      delta: coordinator.counters.deltas,
    }));
    this.#counters("sallyport_map_streams_cut_total", "Map streams that were cut, by reason.", "reason", () => ({
      slow: coordinator.counters.tooSlow,
    }));
    if (publicZone !== undefined) {
      const help = "Queries of the public zone, by what became of them.";
      this.#counters("sallyport_zone_queries_total", help, "result", () => ({ ...publicZone.counters }));
    }
    if (relay !== undefined) registerRelayMetrics(this.#registry, relay);
    this.#counters(
      "sallyport_map_bytes_total",
      "Bytes of maps sent, as they go into the channel.",
      "direction",
      () => ({
        sent: endpoint.traffic.bytes,
      }),
    );
  }

  /** Prometheus' text format. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #nodes(coordinator: Server["coordinator"]): void {
    new Gauge({
      name: "sallyport_nodes",
      help: "Nodes, by state.",
      labelNames: ["state"],
      registers: [this.#registry],
      collect() {
        const counts = Object.fromEntries(NODE_STATES.map((state) => [state, 0])) as Record<string, number>;
        for (const node of coordinator.nodes()) counts[stateOf(node)]!++;
        for (const [state, count] of Object.entries(counts)) this.set({ state }, count);
      },
    });
  }

  #gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read());
      },
    });
  }

  #counters(name: string, help: string, label: string, read: () => Readonly<Record<string, number>>): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const [value, count] of Object.entries(read())) this.inc({ [label]: value }, count);
      },
    });
  }
}

function stateOf(node: NodeView): (typeof NODE_STATES)[number] {
  if (node.expired) return "expired";
  if (node.gateways !== undefined) return "wireguard";
  return node.online ? "online" : "offline";
}
