import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MapRequest, MapResponse, Node } from "../../src/wire/tailcfg.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { ScriptedControl } from "./scripted-control.ts";
import { StockMesh, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "derper", "ip");

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `pings that a server asks stock clients for${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new StockMesh();
    let control: ScriptedControl;
    const keys: string[] = [];

    beforeAll(async () => {
      lab.openBridge();
      lab.startDerper();
      control = await ScriptedControl.open(lab.address, 8080);
      control.derpMap = lab.derpMap;
      const numberOf = (key: string) => (keys.includes(key) ? keys.indexOf(key) : keys.push(key) - 1) + 1;
      const addressed = (key: string, more: Partial<Node> = {}) => control.peer(numberOf(key), key, more);
      control.first = ({ NodeKey }) => ({ ...control.whole(NodeKey), Node: addressed(NodeKey), Peers: [] });
      for (const name of ["asker", "answerer"]) await lab.up(await lab.stock(name, "userspace"), "any-key");
      const isWhole = ({ Endpoints, Hostinfo }: MapRequest) => Endpoints !== undefined && Hostinfo?.Services?.length;
      const told = (key: string) => control.updates.findLast((one) => one.NodeKey === key && isWhole(one));
      await until(
        "both to say where they are",
        async () => keys.map(told),
        (all) => all.length === 2 && !all.includes(undefined),
        60_000,
      );
      const [asker, answerer] = keys as [string, string];
      for (const [to, of] of [
        [asker, answerer],
        [answerer, asker],
      ] as const) {
        const { Endpoints = [], DiscoKey = "", Hostinfo = {} } = told(of)!;
        const more = { Endpoints, DiscoKey, Hostinfo, HomeDERP: 900, Machine: `mkey:${"3".repeat(64)}` };
        control.sayTo(to, { PeersChanged: [addressed(of, more)] });
      }
    }, 120_000);

    afterAll(async () => {
      lab.close();
      await control?.close();
    });

    test.each([
      ["disco", { Endpoint: expect.stringMatching(/:41641$/) }],
      ["TSMP", {}],
      ["ICMP", {}],
      ["peerapi", {}],
    ])("%s: the answer comes as a POST", async (kind, more) => {
      const path = `/machine/ping/${kind}`;
      const ask = async (): Promise<unknown> => {
        // Each under a URL of its own: one that is asked again is not answered.
        const url = `${path}/${control.others.length}-${performance.now()}`;
        const wanted = { URL: `${lab.url}${url}`, URLIsNoise: true, Types: kind, IP: "100.64.0.2" };
        control.sayTo(keys[0]!, { PingRequest: wanted } as MapResponse);
        return until(
          "an answer",
          async () => control.others.find((one) => one.path === url)?.body,
          (body) => body !== undefined,
          15_000,
        );
      };
      // The first pong may come through the relay.
      const isGood = (body: unknown) =>
        typeof body === "object" &&
        body !== null &&
        !("Err" in body && body.Err !== "") &&
        (kind !== "disco" || "Endpoint" in body);
      const answer = await until("a good one", ask, isGood, 60_000);
      expect(answer).toMatchObject({ Type: kind, IP: "100.64.0.2", NodeIP: "100.64.0.2", ...more });
      expect((answer as { LatencySeconds: number }).LatencySeconds).toBeGreaterThan(0);
    });
  },
);
