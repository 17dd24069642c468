import { expect, onTestFinished, test } from "vitest";
import { memoryStore } from "../base/store.ts";
import { createTestnet, type TestNode } from "../testnet.ts";

const SAYS_NOTHING_MS = 60_000;

test.each(["called", "was called"] as const)(
  "IP-17 an idle connection to a node that was killed and is back ends within seconds, where the one left %s",
  { timeout: 30_000 },
  async (side) => {
    const net = await createTestnet();
    onTestFinished(() => net.close());
    const store = memoryStore();
    const killed = await net.node({ user: "bob@example.com", store });
    const left = await net.node({ user: "alice@example.com" });
    const [caller, called] = side === "called" ? [left, killed] : [killed, left];
    const faults: string[] = [];
    const watch = (node: TestNode, stream: { on(event: "error", heard: (error: Error) => void): unknown }): void => {
      stream.on("error", (error) => {
        if (node === left) faults.push(error.message);
      });
    };
    called.listen(7, (stream) => {
      watch(called, stream);
      stream.resume();
    });
    const stream = await caller.dial({ address: called.name, port: 7 });
    watch(caller, stream);
    stream.resume().write("here");
    await net.advance(SAYS_NOTHING_MS);

    killed.host.link.isCut = true;
    killed.host.breakStreams();
    await killed.close();
    await net.advance(1000);
    killed.host.link.isCut = false;
    expect(faults).toEqual([]);
    await net.node({ user: "bob@example.com", store, host: killed.host });
    await net.advance(5000);
    expect(faults).toEqual([expect.stringContaining("reset by the other side")]);
  },
);
