import type { FunnelGatewayArguments } from "./funnel-gateway-process.ts";
import { freePort, LOAD_CORE, OwnProcess, SUBJECT_CORE } from "./processes.ts";
import type { VisitedArguments } from "./visited-process.ts";

const POLICY = `{
  "tagOwners": { "tag:relay": [], "tag:web": [], "tag:member": [] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:relay"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["tag:web"], "attr": ["funnel"] },
  ],
}`;
/** As the gateway has it in its serve configuration. */
const FORWARDED_PORT = 8443;

export interface Entrance {
  /** On loopback: of a relay 443 and 8443, of a member 8443. */
  readonly ports: readonly number[];
  readonly process: OwnProcess;
}

/** Funnel whole, as processes on loopback: a server, a sink, a gateway before it, and whoever lets visitors in. */
export class FunnelMesh {
  readonly sink: number;
  readonly gateway: OwnProcess;
  /** Who signed the gateway's certificate. */
  readonly ca: string;
  readonly #address: string;
  readonly #url: string;
  readonly #server: OwnProcess;
  readonly #all: OwnProcess[];

  private constructor(
    parts: Pick<FunnelMesh, "sink" | "gateway" | "ca">,
    rest: { address: string; url: string; server: OwnProcess; all: OwnProcess[] },
  ) {
    this.sink = parts.sink;
    this.gateway = parts.gateway;
    this.ca = parts.ca;
    this.#address = rest.address;
    this.#url = rest.url;
    this.#server = rest.server;
    this.#all = rest.all;
  }

  static async open(): Promise<FunnelMesh> {
    const sink = await freePort();
    const all = [
      OwnProcess.start(LOAD_CORE, "sink-process.ts", [String(sink)]),
      OwnProcess.start(LOAD_CORE, "mesh-process.ts", ["127.0.0.1", POLICY]),
    ];
    try {
      const [, said] = await Promise.all(all.map((one) => one.next()));
      const server = all[1]!;
      const { url } = said as { url: string };
      const { key } = (await server.ask("key tag:web")) as { key: string };
      const options: FunnelGatewayArguments = { controlUrl: url, authKey: key, hostname: "web", sink };
      const gateway = OwnProcess.start(LOAD_CORE, "funnel-gateway-process.ts", [JSON.stringify(options)]);
      all.push(gateway);
      const { address, ca } = (await gateway.next()) as { address: string; ca: string };
      return new FunnelMesh({ sink, gateway, ca }, { address, url, server, all });
    } catch (error) {
      await Promise.all(all.map((one) => one.end()));
      throw error;
    }
  }

  /** Visitors come in by Funnel. */
  relay(): Promise<Entrance> {
    return this.#enter("relay");
  }

  /** Visitors come in by a member of the mesh, which knows the gateway and asks nobody anything. */
  member(): Promise<Entrance> {
    return this.#enter("member", { address: this.#address, port: FORWARDED_PORT });
  }

  async #enter(hostname: string, forwardTo?: VisitedArguments["forwardTo"]): Promise<Entrance> {
    const { key } = (await this.#server.ask(`key tag:${hostname}`)) as { key: string };
    const options: VisitedArguments = {
      controlUrl: this.#url,
      authKey: key,
      hostname,
      ...(forwardTo === undefined ? {} : { forwardTo }),
    };
    const process = OwnProcess.start(SUBJECT_CORE, "visited-process.ts", [JSON.stringify(options)]);
    this.#all.push(process);
    const { ports } = (await process.next()) as { ports: number[] };
    return { ports, process };
  }

  async end(): Promise<void> {
    await Promise.all(this.#all.map((one) => one.end()));
  }
}
