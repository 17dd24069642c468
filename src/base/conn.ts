import type { AddressPort } from "./address.ts";
import type { Fault } from "./fault.ts";

/** What is known of the other end of a connection. Set at accept, never from bytes that the other end sent. */
export type Proof =
  | {
      /** Packets came through the tunnel of this WireGuard peer. */
      readonly kind: "mesh";
      /** The peer's node public key, 32 bytes in hex. */
      readonly nodeKey: string;
      /** Inner source; one of the peer's allowed IPs, but not necessarily its own address. */
      readonly source: AddressPort;
      readonly destination: AddressPort;
    }
  | {
      /** A Funnel visitor, by way of an ingress relay that is itself a mesh peer. */
      readonly kind: "ingress";
      readonly nodeKey: string;
      readonly visitor: AddressPort;
      readonly destination: AddressPort;
    }
  | { readonly kind: "public"; readonly source: AddressPort; readonly destination: AddressPort };

export interface ConnSink {
  /** `view` is at most 64 KiB and dead on return. */
  data(view: Uint8Array): void;
  end(): void;
  drain(): void;
  abort(fault: Fault): void;
}

/** A byte stream in both directions, with back-pressure inwards by credit only. */
export interface Conn {
  readonly proof: Proof;
  attach(sink: ConnSink): void;
  /** Allows `bytes` more to be delivered. Without credit no window update is sent. */
  credit(bytes: number): void;
  /** Bytes that were written and that the other end has not acknowledged, where that is known. */
  readonly unsent?: number;
  /** Copies `view` once into the send ring; false = wait for `drain`. */
  write(view: Uint8Array): boolean;
  /** Ends our direction once everything written is sent. */
  end(): void;
  /** Cuts it. A few words written just before, such as a TLS alert, go first; more is dropped. */
  abort(fault: Fault): void;
}

export interface Listener {
  readonly port: number;
  close(): void;
}

export interface DialOptions {
  readonly signal?: AbortSignal;
}

/** Opens a connection to `address:port`; names are resolved by who implements it. */
export type Dialer = (target: AddressPort, options?: DialOptions) => Promise<Conn>;
