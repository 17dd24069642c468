import { createSocket } from "node:dgram";
import { formatAddress, parseAddress } from "../base/address.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { Fault, messageOf } from "../base/fault.ts";
import { decodeStunRequest, encodeStunAnswer } from "../wire/stun.ts";

export interface StunServerOptions {
  readonly address: string;
  /** 0: the system chooses. */
  readonly port: number;
  /** Answers a second to one address; more is a flood with a forged source. */
  readonly answersPerSecond?: number;
  readonly clock?: Clock;
}

export interface StunServer {
  readonly port: number;
  close(): Promise<void>;
}

const ANSWERS_PER_SECOND = 100;
const MOST_SOURCES = 65_536;

/** Tells clients where they come from. Answers only right requests, and never with more bytes than it was sent × 1.5. */
export function openStunServer({
  address,
  port,
  answersPerSecond = ANSWERS_PER_SECOND,
  clock = systemClock,
}: StunServerOptions): Promise<StunServer> {
  const { promise, resolve, reject } = Promise.withResolvers<StunServer>();
  const socket = createSocket({ type: address.includes(":") ? "udp6" : "udp4" });
  const answered = new Map<string, number>(); // of the running second
  let second = 0;
  socket.on("message", (datagram, source) => {
    const tx = decodeStunRequest(datagram);
    if (tx === undefined) return;
    const now = Math.trunc(clock.now() / 1000);
    if (now !== second) {
      second = now;
      answered.clear();
    }
    const count = (answered.get(source.address) ?? 0) + 1;
    if (count > answersPerSecond || answered.size >= MOST_SOURCES) return;
    answered.set(source.address, count);
    const bytes = parseAddress(source.address); // unmaps IPv4-mapped sources
    const answer =
      bytes === undefined ? undefined : encodeStunAnswer(tx, { address: formatAddress(bytes), port: source.port });
    if (answer !== undefined) socket.send(answer, source.port, source.address, () => undefined);
  });
  socket.once("error", (error) => {
    socket.close();
    reject(
      new Fault(
        "STUN_BIND",
        `Cannot listen on UDP "${address}" port ${port}: ${messageOf(error)}, wanted a free port`,
        {
          cause: error,
        },
      ),
    );
  });
  socket.bind(port, address, () => {
    socket.removeAllListeners("error");
    socket.on("error", () => undefined); // a refused answer is the asker's loss
    resolve({
      port: socket.address().port,
      close: () => new Promise((closed) => void socket.close(() => closed())),
    });
  });
  return promise;
}
