import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { MeshNode } from "../mesh/node.ts";
import type { ProxyEvent } from "../proxy/options.ts";
import type { Certificates } from "./certificates/certificates.ts";
import { backendState, VERSION } from "./status-document.ts";

const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** What a gateway tells a monitoring system: counted as it happens, or read off the node when asked. */
export class GatewayMetrics {
  readonly #registry: Registry = new Registry();
  readonly #requests: Counter<"code">;
  readonly #seconds: Histogram;
  readonly #events: Counter<"event">;

  /** `visitors`: strangers who are here by Funnel. */
  constructor(node: MeshNode, certificates: () => Certificates, visitors: () => number) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#requests = new Counter({
      name: "sallyport_http_requests_total",
      help: "Requests answered, by class of status.",
      labelNames: ["code"],
      registers,
    });
    this.#seconds = new Histogram({
      name: "sallyport_http_request_duration_seconds",
      help: "From the end of a request's head to the end of its answer.",
      buckets: REQUEST_SECONDS,
      registers,
    });
    this.#events = new Counter({
      name: "sallyport_proxy_events_total",
      help: "Requests refused by a mount's rules, and identity headers left out for their length.",
      labelNames: ["event"],
      registers,
    });
    new Gauge({
      name: "sallyport_build_info",
      help: "Always 1; the version is a label.",
      labelNames: ["version"],
      registers,
    }).set({ version: VERSION }, 1);
    new Gauge({
      name: "sallyport_node_running",
      help: "1 while this node is a member of its mesh.",
      registers,
      collect() {
        this.set(backendState(node) === "Running" ? 1 : 0);
      },
    });
    new Gauge({
      name: "sallyport_control_connected",
      help: "1 while the coordination server's map stream is open.",
      registers,
      collect() {
        this.set(node.state.kind === "running" ? 1 : 0);
      },
    });
    new Gauge({
      name: "sallyport_node_key_expiry_timestamp_seconds",
      help: "When this node's key runs out; 0: never.",
      registers,
      collect() {
        const at = Date.parse(node.map?.self.KeyExpiry ?? "");
        this.set(at > 0 ? at / 1000 : 0);
      },
    });
    new Gauge({
      name: "sallyport_peers",
      help: "Peers of the network map, by how they are reached now.",
      labelNames: ["path"],
      registers,
      collect() {
        const counts = { direct: 0, relay: 0, none: 0 };
        for (const peer of node.peerStatus())
          counts[peer.path === undefined ? "none" : peer.isDirect ? "direct" : "relay"]++;
        for (const [path, count] of Object.entries(counts)) this.set({ path }, count);
      },
    });
    new Gauge({
      name: "sallyport_funnel_visitors",
      help: "Connections of visitors from the Internet.",
      registers,
      collect() {
        this.set(visitors());
      },
    });
    new Gauge({
      name: "sallyport_tunnel_tcp_connections",
      help: "TCP connections inside the tunnels, half-open ones too.",
      registers,
      collect() {
        this.set(node.counters["netstack"]?.["connections"] ?? 0);
      },
    });
    certificateMetrics(registers, certificates);
    for (const [name, help, bytesOf] of [
      ["received", "from", (peer) => peer.rxBytes],
      ["sent", "to", (peer) => peer.txBytes],
    ] as const satisfies readonly [string, string, (peer: ReturnType<MeshNode["peerStatus"]>[number]) => number][]) {
      // A gauge: the sum falls when a peer leaves the map.
      new Gauge({
        name: `sallyport_tunnel_${name}_bytes`,
        help: `Bytes of the tunnels ${help} the peers of the current map.`,
        registers,
        collect() {
          this.set(node.peerStatus().reduce((sum, peer) => sum + bytesOf(peer), 0));
        },
      });
    }
  }

  /** One request was answered. */
  answered(status: number, seconds: number): void {
    this.#requests.inc({ code: `${Math.floor(status / 100)}xx` });
    this.#seconds.observe(seconds);
  }

  counted(event: ProxyEvent): void {
    this.#events.inc({ event });
  }

  /** Prometheus' text format. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

function certificateMetrics(registers: Registry[], certificates: () => Certificates): void {
  new Gauge({
    name: "sallyport_certificate_expiry_timestamp_seconds",
    help: "When a certificate runs out, by name and by who issued it; 0: there is none yet.",
    labelNames: ["name", "authority"],
    registers,
    collect() {
      this.reset();
      for (const { names, state, notAfter = 0, authority = "" } of certificates().list()) {
        if (state === "none") continue; // nobody has asked for it yet
        for (const name of names) this.set({ name, authority }, notAfter / 1000);
      }
    },
  });
  new Counter({
    name: "sallyport_certificate_orders_total",
    help: "Orders at public CAs, by how they ended: issued, or the code of the failure.",
    labelNames: ["authority", "outcome"],
    registers,
    collect() {
      this.reset();
      for (const { authority, outcome, count } of certificates().counts()?.orders ?? [])
        this.inc({ authority, outcome }, count);
    },
  });
  new Gauge({
    name: "sallyport_certificates_unknown",
    help: "Certificates in transparency logs for names of ours, with keys that are not.",
    registers,
    collect() {
      this.set(certificates().transparency?.alarms.length ?? 0);
    },
  });
  new Gauge({
    name: "sallyport_transparency_checked_timestamp_seconds",
    help: "When a transparency log was last read to its end; 0: never yet.",
    labelNames: ["log"],
    registers,
    collect() {
      this.reset();
      for (const { url, checkedAt } of certificates().transparency?.logs ?? [])
        this.set({ log: url }, checkedAt / 1000);
    },
  });
}

/** Is this gateway doing its work? With what is wrong, in words. */
export function gatewayHealth(node: MeshNode): { readonly isHealthy: boolean; readonly problems: readonly string[] } {
  const state = backendState(node);
  const problems = [...node.health];
  if (state !== "Running" && problems.length === 0) problems.push(`The node is not running: its state is ${state}.`);
  return { isHealthy: state === "Running", problems };
}
