import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { FunnelLab, HTTP_PORT, LAB_PEERS, NAME } from "./funnel-lab.ts";
import type { Running } from "./processes.ts";

const { missing } = peersOrSkip(...LAB_PEERS, "dig");
const CROWD = 200;

describe.skipIf(!isRoot || missing !== undefined)(
  `two relays, of which one is killed${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    let lab: FunnelLab;
    let first: Running;

    const gauge = async (name: string): Promise<number> => {
      const { stdout } = await lab.typed("metrics");
      return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(stdout)?.[1]);
    };

    beforeAll(async () => {
      lab = new FunnelLab();
      await lab.open();
      first = await lab.startIngress(50);
      await lab.startIngress(51);
      await lab.typed("funnel", "--bg", "--check", "--public", HTTP_PORT);
    }, 110_000);

    afterAll(() => lab?.close());

    // A second try would find the relay dead.
    test("FN-13 200 visitors are cut, others come by the second address, and the gateway keeps nothing", {
      retry: 0,
    }, async () => {
      const both = async (): Promise<string[]> =>
        (await lab.visit("dig", "+short", NAME)).stdout.trim().split("\n").toSorted();
      await expect.poll(both, { timeout: 60_000, interval: 500 }).toEqual(["10.77.0.50", "10.77.0.51"]);
      const program = [
        `${import.meta.dirname}/funnel-visitor.ts`,
        "crowd",
        lab.ingress(50).address,
        NAME,
        String(CROWD),
      ];
      const trust = { NODE_EXTRA_CA_CERTS: lab.file("root.pem") };
      const crowd = lab.visitor.start(process.execPath, program, trust);
      await new Promise<void>((resolve) => crowd.stdout!.once("data", () => resolve()));
      const visitors = (): Promise<number> => gauge("sallyport_funnel_visitors");
      await expect.poll(visitors, { timeout: 30_000, interval: 200 }).toBe(CROWD);
      const killed = performance.now();
      await first.kill();
      const visit = async (): Promise<number | null> => (await lab.curl("-o", "/dev/null", `https://${NAME}/`)).code;
      await expect.poll(visit, { timeout: 30_000, interval: 100 }).toBe(0);
      await expect.poll(visitors, { timeout: 60_000 - (performance.now() - killed), interval: 500 }).toBe(0);
      // Those of the visitors who came since are in TIME-WAIT.
      expect(await gauge("sallyport_tunnel_tcp_connections")).toBeLessThan(CROWD / 4);
      expect((await lab.curl(`https://${NAME}/open`)).stdout).toBe("0");
    });
  },
);
