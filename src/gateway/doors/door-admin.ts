import { Fault } from "../../base/fault.ts";
import type { Door } from "../../proxy/doors/door.ts";
import type { Gatekeeper } from "../../proxy/doors/gatekeeper.ts";
import type { GuestPass, PassWish } from "../../proxy/doors/guest-passes.ts";
import type { SessionRecord } from "../../proxy/doors/sessions.ts";

/** What an operator sees of the doors: nothing that opens one. */
export interface DoorsDocument {
  readonly doors: readonly {
    readonly name: string;
    readonly stops: string;
    readonly ways: readonly string[];
    /** Where it stands, as visitors open it. */
    readonly at: readonly string[];
  }[];
  /** They stand before something, and are declared nowhere: whom they stop gets 503. */
  readonly missing: readonly { readonly name: string; readonly at: readonly string[] }[];
  readonly passes: readonly GuestPass[];
  readonly sessions: readonly SessionRecord[];
}

export interface Invitation extends GuestPass {
  /** Shown once; whoever has it is the guest. */
  readonly url: string;
}

export interface ClientCertificate extends GuestPass {
  /** PEM. */
  readonly certificate: string;
  /** PEM, shown once; whoever has it is the guest. */
  readonly key: string;
}

/** The doors as the local admin interface knows them. */
export class DoorAdmin {
  readonly #gatekeeper: Gatekeeper;
  readonly #standing: () => ReadonlyMap<string, readonly string[]>;
  readonly #wall: () => number;

  /** `standing`: addresses of the mounts behind each door, such as `https://gw.example.ts.net/app`. */
  constructor(
    gatekeeper: Gatekeeper,
    standing: () => ReadonlyMap<string, readonly string[]>,
    wall: () => number = Date.now,
  ) {
    this.#gatekeeper = gatekeeper;
    this.#wall = wall;
    this.#standing = standing;
  }

  document(): DoorsDocument {
    const { doors, passes, sessions } = this.#gatekeeper;
    const standing = this.#standing();
    const missing = [...standing].filter(([name]) => !doors.some((door) => door.name === name));
    return {
      doors: doors.map((door) => {
        const { name, stops } = door;
        return { name, stops, ways: waysOf(door), at: standing.get(name) ?? [] };
      }),
      missing: missing.map(([name, at]) => ({ name, at })),
      passes: passes.list(),
      sessions: sessions.list(),
    };
  }

  /** @throws {Fault} DOOR_PASS */
  async invite(wish: PassWish): Promise<Invitation> {
    const door = this.#doorWith("links", wish.door);
    const places = this.#standing().get(door.name) ?? [];
    const place = places.find((address) => address.startsWith("https://"));
    if (place === undefined) {
      const where =
        places.length === 0 ? "nothing now" : `${places[0]} alone, and no link leads to all names of a pattern`;
      throw new Fault("DOOR_PASS", `Cannot make a link for door "${door.name}": it stands before ${where}`);
    }
    const { link, token } = await this.#gatekeeper.passes.create(wish);
    const url = new URL(`/.sallyport/door/${door.name}/link/${token}`, place);
    const { pathname } = new URL(place);
    if (pathname !== "/") url.searchParams.set("to", pathname);
    return { ...link, url: url.href };
  }

  /**
   * It is known by its digest and by nothing else: no chain is followed, and taking back the pass is all that revoking takes.
   * @throws {Fault} DOOR_PASS
   */
  async certify(wish: Omit<PassWish, "isOnce">): Promise<ClientCertificate> {
    this.#doorWith("certificates", wish.door);
    const { createClientCertificate, certificateDigest } = await import("../../certs/self-signed.ts");
    const made = await createClientCertificate(wish.name, this.#wall() + wish.lifeMs, this.#wall());
    const digest = certificateDigest(made.certificate);
    return { ...(await this.#gatekeeper.passes.add({ ...wish, isOnce: false }, "certificate", digest)), ...made };
  }

  #doorWith(way: "links" | "certificates", name: string): Door {
    const door = this.#gatekeeper.doors.find((one) => one.name === name);
    if (door !== undefined && waysOf(door).includes(way)) return door;
    const found = door === undefined ? "there is no such door" : `it has no ${way}`;
    throw new Fault("DOOR_PASS", `Cannot make a pass for door "${name}": ${found}`, {
      hint: `Doors are declared in the services file; "${way}": true lets guests in so.`,
    });
  }

  /** By the ID of a pass or a session; false when there is none. */
  async revoke(id: string): Promise<boolean> {
    const ended = this.#gatekeeper.sessions.revoke((session) => session.id === id);
    return (await this.#gatekeeper.removePass(id)) || ended > 0;
  }
}

function waysOf({ password, pin, hasLinks, hasCertificates, tokens, oidc }: Door): string[] {
  const ways = [
    password && "password",
    pin && "pin",
    hasLinks && "links",
    hasCertificates && "certificates",
    oidc && "oidc",
    tokens.length > 0 && "tokens",
  ];
  return ways.filter((way) => typeof way === "string");
}
