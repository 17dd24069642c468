import type { MapRequest, MapResponse, RegisterRequest, RegisterResponse } from "../wire/tailcfg.ts";

/** Where the messages of one map request go. */
export interface MapSink {
  /** False when the receiver is too slow or gone: the message was not taken. */
  send(response: MapResponse): boolean;
  end(): void;
  /** Asks the receiver's machine for a sign of life; false when that cannot be asked. */
  echo?(heard: () => void): boolean;
  readonly closed: AbortSignal;
}

/** What answers the requests inside the control channel. The machine key is proven by Noise. */
export interface ControlHandler {
  register(machineKey: string, request: RegisterRequest, signal: AbortSignal): Promise<RegisterResponse>;
  /** Settles when the stream is over. */
  map(machineKey: string, request: MapRequest, out: MapSink): Promise<void>;
  other(machineKey: string, method: string, path: string, body: unknown): Promise<{ status: number; body?: unknown }>;
}

/** HTTP status of a `Fault` that `register` or `map` threw; any other error is a 500. */
export function statusOfFault(code: string): number {
  return STATUS_OF_CODE[code] ?? 500;
}

const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  COORDINATION_VERSION: 400,
  COORDINATION_REQUEST: 400,
  COORDINATION_KEY_FOREIGN: 401,
  COORDINATION_NODE_UNKNOWN: 404,
  COORDINATION_BUSY: 429,
  COORDINATION_CLOSED: 503,
};
