import { createServer } from "node:http";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { Coordinator } from "../coordination/coordinator.ts";
import { compilePolicy } from "../coordination/policy/policy.ts";
import type { CoordinationStore } from "../coordination/store/coordination-store.ts";
import { MemoryCoordinationStore } from "../coordination/store/memory-store.ts";
import { ControlEndpoint } from "../coordination/transport/control-endpoint.ts";
import { generatePrivateKey } from "../crypto/keys.ts";
import { DerpServer } from "../derp/derp-server.ts";
import { decodeStunRequest, encodeStunAnswer } from "../wire/stun.ts";
import type { DerpMap } from "../wire/tailcfg.ts";
import type { Internet } from "./internet.ts";

export const SERVER_ADDRESS = "198.51.100.1";
export const CONTROL_URL: string = `http://${SERVER_ADDRESS}`;
const CONTROL = { address: SERVER_ADDRESS, port: 80 };
const STUN = { address: SERVER_ADDRESS, port: 3478 };
export const DERP: { readonly address: string; readonly port: number } = { address: SERVER_ADDRESS, port: 443 };
const REGION = 900;

const DERP_MAP: DerpMap = {
  Regions: {
    [REGION]: {
      RegionID: REGION,
      RegionCode: "own",
      RegionName: "Testnet",
      Nodes: [
        { Name: `${REGION}a`, RegionID: REGION, HostName: SERVER_ADDRESS, IPv4: SERVER_ADDRESS, STUNPort: STUN.port },
      ],
    },
  },
};

export interface MeshServerOptions {
  readonly internet: Internet;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly baseDomain: string;
}

interface Running {
  readonly coordinator: Coordinator;
  readonly stop: () => Promise<void>;
}

/** The real coordination server, DERP and STUN on the test internet. What it knows outlives a stop. */
export class MeshServer {
  readonly #options: MeshServerOptions;
  readonly #store: CoordinationStore;
  readonly #noiseKey: Uint8Array;
  readonly #derpKey: Uint8Array;
  #running: Running | undefined;

  constructor(options: MeshServerOptions) {
    this.#options = options;
    this.#store = kept(new MemoryCoordinationStore());
    this.#noiseKey = generatePrivateKey(options.random);
    this.#derpKey = generatePrivateKey(options.random);
  }

  /** `undefined` while it is stopped. */
  get coordinator(): Coordinator | undefined {
    return this.#running?.coordinator;
  }

  async start(): Promise<Coordinator> {
    if (this.#running !== undefined) return this.#running.coordinator;
    const { internet, clock, random, log, baseDomain } = this.#options;
    const derp = new DerpServer({
      privateKey: this.#derpKey,
      random,
      clock,
      log: log.with("derp"),
      admit: (nodeKey) => coordinator.isKnownNodeKey(nodeKey),
    });
    const coordinator: Coordinator = await Coordinator.open({
      store: this.#store,
      clock,
      random,
      log: log.with("coordination"),
      serverUrl: CONTROL_URL,
      baseDomain,
      derpMap: () => DERP_MAP,
      policy: compilePolicy(""),
      onKeyRetired: (nodeKey) => derp.disconnect(nodeKey.slice("nodekey:".length)),
    });
    const source = coordinator.policySource();
    if (source !== undefined) await coordinator.setPolicy(compilePolicy(source), source, "start");
    const privateKey = this.#noiseKey;
    const endpoint = new ControlEndpoint({ privateKey, handler: coordinator, log: log.with("control"), clock, random });
    const http = createServer();
    endpoint.attach(http);
    const unlisten = [
      internet.listen(CONTROL, (stream) => void http.emit("connection", stream)),
      internet.listen(DERP, (stream) => derp.accept(stream)),
      internet.answerUdp(STUN, (datagram, from, reply) => {
        const request = decodeStunRequest(datagram);
        const answer = request && encodeStunAnswer(request, from);
        if (answer !== undefined) reply(answer);
      }),
    ];
    const stop = async (): Promise<void> => {
      for (const each of unlisten) each();
      endpoint.close();
      derp.close();
      await coordinator.close();
    };
    this.#running = { coordinator, stop };
    return coordinator;
  }

  /** As when its process ends: no stream survives, what is stored does. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.stop();
  }
}

/** A store that the end of one server does not close: the next one goes on with it. */
function kept(store: CoordinationStore): CoordinationStore {
  return {
    load: () => store.load(),
    commit: (changes) => store.commit(changes),
    log: (query) => store.log(query),
    close: async () => {},
  };
}
