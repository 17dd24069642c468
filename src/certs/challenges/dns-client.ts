import { createSocket } from "node:dgram";
import { getServers } from "node:dns";
import { connect } from "node:net";
import { parseAddressPort } from "../../base/address.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { type Random, systemRandom } from "../../base/random.ts";
import { CLASS, type DnsMessage, decodeMessage, encodeMessage, FLAG, RECORD } from "../../wire/dns.ts";
import type { DnsLookup } from "./dns-lookup.ts";

const DNS_PORT = 53;
const UDP_TIMEOUT_MS = 2000;
const TCP_TIMEOUT_MS = 5000;
const TRIES = 3;
const LARGEST_UDP = 1232;

export interface DnsClientOptions {
  /** Recursive resolvers, `ip` or `ip:port`. @default those of this machine */
  readonly servers?: readonly string[];
  readonly clock?: Clock;
  readonly random?: Random;
}

/** Asks over UDP, and over TCP what does not fit. */
export function dnsClient(options: DnsClientOptions = {}): DnsLookup {
  const { clock = systemClock, random = systemRandom } = options;
  return {
    async ask(name, type, { server, signal }) {
      const servers = server === undefined ? (options.servers ?? getServers()) : [server];
      let reason = "there is no resolver";
      for (let i = 0; i < Math.max(TRIES, servers.length) && servers.length > 0; i++) {
        const at = servers[i % servers.length]!;
        try {
          const id = new DataView(random(2).buffer).getUint16(0);
          const query = encodeQuery(id, name, type, server === undefined);
          const accept = (bytes: Uint8Array): DnsMessage | undefined => answerTo(bytes, id, name, type);
          const exchange = { server: at, query, clock, signal, accept };
          const answer = await overUdp(exchange);
          return (answer.flags & FLAG.TRUNCATED) === 0 ? answer : await overTcp(exchange);
        } catch (error) {
          signal.throwIfAborted();
          reason = `${at}: ${messageOf(error)}`;
        }
      }
      throw new Fault("CERT_DNS_SILENT", `Cannot look up "${name}": found no answer (${reason}), wanted one`);
    },
  };
}

function encodeQuery(id: number, name: string, type: number, isRecursive: boolean): Uint8Array {
  const opt = { name: "", type: RECORD.OPT, class: LARGEST_UDP, ttl: 0, data: new Uint8Array(0) };
  return encodeMessage({
    ...{ id, flags: isRecursive ? FLAG.RECURSION : 0, questions: [{ name, type, class: CLASS.IN }] },
    ...{ answers: [], authority: [], additional: [opt] },
  });
}

function answerTo(bytes: Uint8Array, id: number, name: string, type: number): DnsMessage | undefined {
  const message = decodeMessage(bytes);
  const question = message?.questions[0];
  const isOurs =
    message?.id === id &&
    (message.flags & FLAG.RESPONSE) !== 0 &&
    question?.name === name.toLowerCase() &&
    question.type === type;
  return isOurs ? message : undefined;
}

/** One message to one server, and the first answer that `accept` takes. */
export interface Exchange<T> {
  /** `ip` or `ip:port`. */
  readonly server: string;
  readonly query: Uint8Array;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** `undefined`: not the answer to the query; something else may still come. */
  readonly accept: (bytes: Uint8Array) => T | undefined;
}

export function overUdp<T>({ server, query, clock, signal, accept }: Exchange<T>): Promise<T> {
  const { address, port } = endpointOf(server);
  const socket = createSocket({ type: address.includes(":") ? "udp6" : "udp4" });
  return bounded(
    clock,
    UDP_TIMEOUT_MS,
    signal,
    () => socket.close(),
    (resolve, reject) => {
      socket.on("error", reject);
      socket.on("message", (bytes) => {
        const answer = accept(bytes);
        if (answer !== undefined) resolve(answer);
      });
      // Connected: answers of others do not come through.
      socket.connect(port, address, () => socket.send(query, (error) => error !== null && reject(error)));
    },
  );
}

export function overTcp<T>({ server, query, clock, signal, accept }: Exchange<T>): Promise<T> {
  const { address, port } = endpointOf(server);
  const socket = connect({ host: address, port });
  return bounded(
    clock,
    TCP_TIMEOUT_MS,
    signal,
    () => socket.destroy(),
    (resolve, reject) => {
      let got = Buffer.alloc(0);
      socket.on("error", reject);
      socket.on("close", () => reject(new Error("the connection was closed")));
      socket.on("data", (chunk: Uint8Array) => {
        got = Buffer.concat([got, chunk]);
        if (got.length < 2 || got.length < 2 + got.readUInt16BE(0)) return;
        const answer = accept(got.subarray(2, 2 + got.readUInt16BE(0)));
        if (answer === undefined) reject(new Error("the answer is none to the query"));
        else resolve(answer);
      });
      socket.write(Buffer.concat([Uint8Array.of(query.length >> 8, query.length & 255), query]));
    },
  );
}

/** Runs `begin` until it settles, the time is over or `signal` says stop; `end` runs in any case. */
function bounded<T>(
  clock: Clock,
  ms: number,
  signal: AbortSignal,
  end: () => void,
  begin: (resolve: (value: T) => void, reject: (reason: unknown) => void) => void,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const stop = (): void => reject(signal.reason);
  const cancel = clock.at(clock.now() + ms, () => reject(new Error(`no answer in ${ms / 1000} s`)));
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  else begin(resolve, reject);
  return promise.finally(() => {
    cancel();
    signal.removeEventListener("abort", stop);
    end();
  });
}

function endpointOf(server: string): { readonly address: string; readonly port: number } {
  return parseAddressPort(server) ?? { address: server, port: DNS_PORT };
}
