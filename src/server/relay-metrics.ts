import { Counter, Gauge, type Registry } from "prom-client";
import type { Relay } from "./relay.ts";

/** What an ingress tells a monitoring system, read when it is asked. Counts only: no name, no visitor. */
export function registerRelayMetrics(registry: Registry, relay: Relay): void {
  const registers = [registry];
  const { ingress, node } = relay;
  const gauges: readonly (readonly [name: string, help: string, read: () => number])[] = [
    ["running", "1 while the ingress is a member of its mesh.", () => Number(relay.isMember)],
    ["control_connected", "1 while its map stream is open.", () => Number(node.state.kind === "running")],
    [
      "map_age_seconds",
      "For how long the map stream has been broken; 0 while it is open.",
      () => relay.mapAgeMs / 1000,
    ],
    ["names", "Public names that it knows.", () => relay.names.size],
    ["leases", "Raw ports that are open for who has them.", () => relay.leasedPorts.length],
    ["leases_shut", "Raw ports that are let and cannot be opened on this machine.", () => relay.shutPorts.length],
    ["draining", "1 while it takes no new visitors, before it ends.", () => Number(ingress.isDraining)],
  ];
  for (const [name, help, read] of gauges) {
    new Gauge({
      name: `sallyport_ingress_${name}`,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  }
  new Gauge({
    name: "sallyport_ingress_visitors",
    help: "Visitors who are here; pending: their TLS hello is not whole.",
    labelNames: ["state"],
    registers,
    collect() {
      this.set({ state: "pending" }, ingress.pending);
      this.set({ state: "open" }, ingress.open - ingress.pending);
    },
  });
  counter(registry, ["events", "What became of visitors.", "event"], () => ingress.counts);
  counter(registry, ["bytes", "Of visitors, as they passed.", "direction"], () => ({ ...ingress.traffic }));
}

function counter(
  registry: Registry,
  [name, help, label]: readonly [name: string, help: string, label: string],
  read: () => Readonly<Record<string, number>>,
): void {
  new Counter({
    name: `sallyport_ingress_${name}_total`,
    help,
    labelNames: [label],
    registers: [registry],
    collect() {
      this.reset();
      for (const [value, count] of Object.entries(read())) this.inc({ [label]: value }, count);
    },
  });
}
