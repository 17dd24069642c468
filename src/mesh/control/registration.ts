import { Fault, messageOf } from "../../base/fault.ts";
import { generatePrivateKey } from "../../crypto/keys.ts";
import type { RegisterRequest, RegisterResponse } from "../../wire/tailcfg.ts";
import type { Connector } from "./connector.ts";
import type { ControlClientOptions } from "./control-state.ts";
import { balancerHint, registerRequest, StatusError, statusFault } from "./requests.ts";

export interface LoginGoal {
  readonly authKey: string | undefined;
  /** A new node key is wanted, whatever the server says of the present one. */
  readonly isRenewal: boolean;
}

export interface LoginEvents {
  /** The server says no, in its own words. */
  readonly onRefused: (reason: string) => void;
  readonly onUrl: (url: string) => void;
  /** The server gave the same URL again: it does not hold the request open, so wait. */
  readonly pause: (signal: AbortSignal) => Promise<void>;
}

/** The register call in all its flows (control-protocol.md 3.3). */
export class Registration {
  readonly #options: ControlClientOptions;
  readonly #connector: Connector;
  /** Of a renewal under way. The present key stays in force until the server has taken this one. */
  #newKey: Uint8Array | undefined;

  constructor(options: ControlClientOptions, connector: Connector) {
    this.#options = options;
    this.#connector = connector;
  }

  /** A new login: what an earlier one had begun is forgotten. */
  begin({ isRenewal }: LoginGoal): void {
    this.#newKey = isRenewal ? generatePrivateKey(this.#options.random) : undefined;
  }

  /** Settles when the server has taken us; a retry goes on with the same keys. */
  async login({ authKey }: LoginGoal, signal: AbortSignal, events: LoginEvents): Promise<void> {
    for (let followup = ""; ; ) {
      const response = await this.#register({ authKey, followup }, signal);
      signal.throwIfAborted();
      if (response.Error) throw refused(response.Error, events);
      if (response.NodeKeyExpired) {
        if (this.#newKey !== undefined) {
          throw new Fault(
            "CONTROL_FRESH_KEY_EXPIRED",
            "Cannot log in: the server calls a key expired that was just made, wanted it accepted",
          );
        }
        this.#newKey = generatePrivateKey(this.#options.random);
        followup = "";
        continue;
      }
      if (!response.AuthURL) break;
      if (response.AuthURL === followup) await events.pause(signal);
      else events.onUrl(webUrl(response.AuthURL));
      followup = response.AuthURL;
    }
    if (this.#newKey !== undefined) await this.#options.adoptNodeKey(this.#newKey);
    this.#newKey = undefined;
  }

  /** Any answer will do: nothing in it changes what the caller does next. */
  async logout(signal: AbortSignal): Promise<void> {
    this.#newKey = undefined;
    await this.#register({ authKey: this.#options.authKey, followup: "", isLogout: true }, signal);
  }

  async #register(
    details: { readonly authKey: string | undefined; readonly followup: string; readonly isLogout?: boolean },
    signal: AbortSignal,
  ): Promise<RegisterResponse> {
    const present = this.#options.nodeKey();
    const key = this.#newKey === undefined ? present : { private: this.#newKey, old: present.private };
    const request: RegisterRequest = registerRequest(this.#options, { ...details, key });
    const path = "/machine/register";
    const channel = await this.#connector.channel(signal);
    const headers = { "ts-lb": balancerHint(request) };
    const body = JSON.stringify(request);
    const answer = await channel.ask({ method: "POST", path, headers, body, signal });
    if (answer.status !== 200) throw new StatusError(statusFault(path, answer.status, answer.body), answer);
    try {
      const value: unknown = JSON.parse(answer.body);
      if (typeof value === "object" && value !== null) return value;
    } catch (error) {
      throw new Fault("CONTROL_BAD_ANSWER", `Cannot read the answer to register: ${messageOf(error)}, wanted JSON`);
    }
    throw new Fault("CONTROL_BAD_ANSWER", "Cannot read the answer to register: found no object, wanted one");
  }
}

function refused(text: string, events: LoginEvents): Fault {
  const reason = String(text)
    .slice(0, 200)
    .replace(/[^ -~]/g, "?");
  events.onRefused(reason);
  return new Fault("CONTROL_REGISTER_REFUSED", `Cannot log in: the server says "${reason}", wanted its consent`, {
    hint: "Check the auth key, or log in interactively.",
  });
}

function webUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && /^https?:$/.test(url.protocol)) return text;
  throw new Fault("CONTROL_BAD_AUTH_URL", "Cannot log in: found a login URL that is not http or https");
}
