import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import type { Clock } from "../base/clock.ts";
import { Fault } from "../base/fault.ts";
import type { Log } from "../base/log.ts";
import { AnswerRate } from "../certs/zone/answer-rate.ts";
import type { Zone } from "../certs/zone/zone.ts";
import { answerQueries } from "../mesh/dns/stream-queries.ts";

const MOST_CONNECTIONS = 256;
const MOST_PER_ADDRESS = 16;
/** RFC 7766 section 6.2.3 wants a few seconds. */
const IDLE_MS = 10_000;

/** Queries since the start, by what became of them. */
export interface ZoneCounters {
  udp: number;
  tcp: number;
  /** Past the share of their network: sent to TCP, or left without an answer. */
  limited: number;
  dropped: number;
}

export interface ZoneListenersOptions {
  readonly zone: Zone;
  readonly address: string;
  /** 0 = any. */
  readonly port: number;
  readonly clock: Clock;
  readonly log: Log;
}

export interface ZoneListeners {
  readonly port: number;
  readonly counters: Readonly<ZoneCounters>;
  close(): Promise<void>;
}

/**
 * Puts the zone on UDP and TCP of one port.
 * @throws {Fault} ZONE_LISTEN
 */
export async function openZoneListeners(options: ZoneListenersOptions): Promise<ZoneListeners> {
  const { address, port } = options;
  const udp = createSocket({ type: address.includes(":") ? "udp6" : "udp4" });
  const tcp = createServer();
  try {
    const taken = await listenOnBoth(udp, tcp, address, port);
    const counters: ZoneCounters = { udp: 0, tcp: 0, limited: 0, dropped: 0 };
    serveUdp(udp, options, counters);
    const closeConnections = serveTcp(tcp, options, counters);
    return {
      port: taken,
      counters,
      async close() {
        udp.close();
        closeConnections();
        await new Promise<void>((resolve) => tcp.close(() => resolve()));
      },
    };
  } catch (error) {
    udp.close();
    tcp.close();
    const reason = error instanceof Error ? error.message : String(error);
    const mayNot = (error as NodeJS.ErrnoException).code === "EACCES";
    throw new Fault("ZONE_LISTEN", `Cannot answer for the zone on "${address}" port ${port}: ${reason}`, {
      cause: error,
      hint: mayNot
        ? "Ports below 1024 want root or the capability CAP_NET_BIND_SERVICE."
        : "Another resolver may hold the port: give the public address itself, such as --dns-listen 203.0.113.5:53.",
    });
  }
}

const MOST_TRIES = 20;

/** Where any port will do, UDP's choice may be taken on TCP. */
async function listenOnBoth(udp: UdpSocket, tcp: Server, address: string, port: number): Promise<number> {
  for (let tries = 0; ; tries++) {
    await new Promise<void>((resolve, reject) => {
      tcp.once("error", reject);
      tcp.listen({ host: address, port }, () => resolve(tcp.off("error", reject) && undefined));
    });
    const taken = (tcp.address() as { port: number }).port;
    try {
      await new Promise<void>((resolve, reject) => {
        udp.once("error", reject);
        udp.bind({ address, port: taken }, () => resolve(udp.off("error", reject) && undefined));
      });
      return taken;
    } catch (error) {
      if (port !== 0 || tries >= MOST_TRIES) throw error;
      await new Promise<void>((resolve) => tcp.close(() => resolve()));
    }
  }
}

const COUNTED = { answer: "udp", "to-tcp": "limited", drop: "dropped" } as const;

function serveUdp(udp: UdpSocket, { zone, clock, log }: ZoneListenersOptions, counters: ZoneCounters): void {
  const rate = new AnswerRate();
  udp.on("message", (message, { address, port }) => {
    const verdict = rate.take(address, clock.now());
    counters[COUNTED[verdict]]++;
    if (verdict === "drop") return;
    const answer = verdict === "answer" ? zone.answer(message, "udp") : zone.toTcp(message);
    // Port 0 cannot be sent to: it is forged.
    if (answer !== undefined && port !== 0) udp.send(answer, port, address, () => {});
  });
  udp.on("error", (error) => log.warn("zone.udp_failed", { error: error.message }));
}

function serveTcp(tcp: Server, { zone, log }: ZoneListenersOptions, counters: ZoneCounters): () => void {
  const open = new Set<Socket>();
  const perAddress = new Map<string, number>();
  tcp.on("connection", (socket) => {
    const address = socket.remoteAddress ?? "";
    const count = perAddress.get(address) ?? 0;
    if (open.size >= MOST_CONNECTIONS || count >= MOST_PER_ADDRESS) {
      socket.destroy();
      return;
    }
    open.add(socket);
    perAddress.set(address, count + 1);
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on("close", () => {
      open.delete(socket);
      const left = (perAddress.get(address) ?? 1) - 1;
      if (left === 0) perAddress.delete(address);
      else perAddress.set(address, left);
    });
    answerQueries(socket, async (query) => {
      counters.tcp++;
      return zone.answer(query, "tcp");
    });
  });
  tcp.on("error", (error) => log.warn("zone.tcp_failed", { error: error.message }));
  return () => {
    for (const socket of open) socket.destroy();
  };
}
