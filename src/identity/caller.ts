import type { Proof } from "../base/conn.ts";
import type { Fault } from "../base/fault.ts";

/** Who is on the other end of a connection. A union over the kinds of docs/identity.md. */
export type Caller =
  | {
      readonly kind: "user";
      readonly nodeKey: string;
      readonly nodeName: string;
      readonly login: string;
      readonly displayName: string;
      readonly profilePicture: string;
      /** The caller's own mesh address. */
      readonly address: string;
    }
  | {
      readonly kind: "tagged";
      readonly nodeKey: string;
      readonly nodeName: string;
      readonly tags: readonly string[];
      readonly address: string;
    }
  /** An address that is only routed through a peer is nobody's. */
  | { readonly kind: "routed"; readonly via: string; readonly address: string }
  | {
      /** Passed a door. Who the same subject of the same issuer is, that issuer alone says. */
      readonly kind: "guest";
      readonly issuer: string;
      readonly subject: string;
      readonly address: string;
      /** Whom a route takes this guest for, by an address that its issuer has verified; backends are told of a user. */
      readonly user?: GuestUser;
    }
  | { readonly kind: "anonymous"; readonly address: string }
  | { readonly kind: "probe"; readonly address: string };

export interface GuestUser {
  readonly login: string;
  readonly displayName: string;
  readonly profilePicture: string;
}

/** Turns what is proved of a connection into a caller, against the current network map. */
export interface Callers {
  /** A fault means: in doubt, no backend contact. */
  of(proof: Proof, now: number): Caller | Fault;
  /**
   * Capabilities that the caller holds for `destination` (our address it called), only those of `names`, as the JSON
   * object text of the header (not yet header-encoded); `undefined` when it holds none of them.
   * A name of `*`-suffix form follows upstream's accept-app-caps rules.
   */
  capabilities(caller: Caller, destination: string, names: readonly string[]): string | undefined;
  /** Grows with every map or policy; caches compare it. */
  readonly epoch: number;
  /** Aborted when what `proof` proved no longer holds: the connection must be cut. */
  revoked(proof: Proof): AbortSignal;
}
