import { createServer } from "node:http";
import { systemClock } from "../../src/base/clock.ts";
import { Fault } from "../../src/base/fault.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import type { MapSink } from "../../src/coordination/control-handler.ts";
import { ControlEndpoint } from "../../src/coordination/transport/control-endpoint.ts";
import { generatePrivateKey } from "../../src/crypto/keys.ts";
import type {
  DerpMap,
  MapRequest,
  MapResponse,
  Node,
  RegisterRequest,
  RegisterResponse,
} from "../../src/wire/tailcfg.ts";

const DOMAIN = "tail.test";
const KEEP_ALIVE_MS = 20_000;
const ADMITTED: RegisterResponse = {
  User: { ID: 1, DisplayName: "Alice" },
  Login: { ID: 1, LoginName: "alice@example.com", DisplayName: "Alice" },
  NodeKeyExpired: false,
  MachineAuthorized: true,
  AuthURL: "",
  Error: "",
};

interface Poll {
  readonly request: MapRequest;
  readonly out: MapSink;
}

/** A coordination server that says to one stock client what a test tells it. */
export class ScriptedControl {
  static readonly admits = (): RegisterResponse => ADMITTED;

  readonly registers: RegisterRequest[] = [];
  readonly polls: Poll[] = [];
  readonly updates: MapRequest[] = [];
  /** Everything else inside the channel. */
  readonly others: { readonly method: string; readonly path: string; readonly body: unknown }[] = [];
  /** What a new poll gets first. */
  first: (request: MapRequest) => MapResponse = (request) => this.whole(request.NodeKey);
  /** 404: polls and updates are answered so. */
  mapStatus: 200 | 404 = 200;
  /** Polls and updates that were. */
  refused = 0;
  derpMap: DerpMap = { Regions: {} };
  answerRegister: (request: RegisterRequest) => RegisterResponse | "busy" = ScriptedControl.admits;
  answerOther: (path: string) => { readonly status: number; readonly body?: unknown } = () => ({
    status: 200,
    body: {},
  });
  readonly #http = createServer();
  readonly #endpoint: ControlEndpoint;
  readonly #alive: NodeJS.Timeout;

  private constructor() {
    this.#endpoint = new ControlEndpoint({
      privateKey: generatePrivateKey(systemRandom),
      handler: {
        register: async (_machine, request) => {
          this.registers.push(request);
          const answer = this.answerRegister(request);
          if (answer === "busy") throw new Fault("COORDINATION_BUSY", "too many");
          return answer;
        },
        map: (_machine, request, out) => this.#map(request, out),
        other: async (_machine, method, path, body) => {
          this.others.push({ method, path, body });
          return this.answerOther(path);
        },
      },
      log: silentLog,
      clock: systemClock,
      random: systemRandom,
    });
    this.#endpoint.attach(this.#http);
    this.#alive = setInterval(() => void this.say({ KeepAlive: true }), KEEP_ALIVE_MS);
  }

  static async open(address: string, port: number): Promise<ScriptedControl> {
    const control = new ScriptedControl();
    await new Promise<void>((resolve) => control.#http.listen(port, address, () => resolve()));
    return control;
  }

  /** One message on the newest stream; false: there is none. */
  say(message: MapResponse): boolean {
    return this.polls.at(-1)?.out.send(message) ?? false;
  }

  /** One message on the newest stream of a node. */
  sayTo(nodeKey: string, message: MapResponse): boolean {
    return this.polls.findLast(({ request }) => request.NodeKey === nodeKey)?.out.send(message) ?? false;
  }

  /** Ends the newest stream, as a server does that has nothing more to say. */
  hangUp(): void {
    this.polls.at(-1)?.out.end();
  }

  self(key: string, more: Partial<Node> = {}): Node {
    return { ...this.peer(1, key, more), Name: `self.${DOMAIN}.` };
  }

  peer(id: number, key: string, more: Partial<Node> = {}): Node {
    const addresses = [`100.64.0.${id}/32`, `fd7a:115c:a1e0::${id}/128`];
    return {
      ID: id,
      StableID: String(id),
      Name: `n${id}.${DOMAIN}.`,
      User: 1,
      Key: key,
      Machine: `mkey:${"1".repeat(64)}`,
      DiscoKey: `discokey:${String(id).repeat(64).slice(0, 64)}`,
      Addresses: addresses,
      AllowedIPs: addresses,
      Online: true,
      MachineAuthorized: true,
      Cap: 130,
      Hostinfo: {}, // `status` of clients up to 1.90 panics without
      ...more,
    };
  }

  /** A first message with everything in it. */
  whole(nodeKey: string, more: MapResponse = {}): MapResponse {
    return {
      Node: this.self(nodeKey),
      DERPMap: this.derpMap,
      Domain: DOMAIN,
      UserProfiles: [{ ID: 1, LoginName: "alice@example.com", DisplayName: "Alice" }],
      Peers: [this.peer(2, `nodekey:${"2".repeat(64)}`)],
      PacketFilter: [{ SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65535 } }] }],
      DNSConfig: { Domains: [DOMAIN], Proxied: true, Routes: { [DOMAIN]: null } },
      ...more,
    };
  }

  #map(request: MapRequest, out: MapSink): Promise<void> {
    if (this.mapStatus === 404) {
      this.refused++;
      return Promise.reject(new Fault("COORDINATION_NODE_UNKNOWN", "node not found"));
    }
    if (request.Stream !== true) {
      this.updates.push(request);
      return Promise.resolve();
    }
    this.polls.push({ request, out });
    out.send(this.first(request));
    return new Promise((resolve) => out.closed.addEventListener("abort", () => resolve(), { once: true }));
  }

  async close(): Promise<void> {
    clearInterval(this.#alive);
    this.#endpoint.close();
    this.#http.closeAllConnections();
    await new Promise<void>((resolve) => this.#http.close(() => resolve()));
  }
}
