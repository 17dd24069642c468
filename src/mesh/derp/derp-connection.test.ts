import net from "node:net";
import { expect, onTestFinished, test, vi } from "vitest";
import { connectRegion } from "./derp-connection.ts";

test("where a firewall swallows what is sent to a region's first relay, the second is asked after a second and a half, not five", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const asked: unknown[] = [];
  const connect = vi.spyOn(net, "connect").mockImplementation((options: unknown) => {
    asked.push((options as net.TcpNetConnectOpts).port);
    return new net.Socket(); // nobody ever answers
  });
  onTestFinished(() => connect.mockRestore());
  const Nodes = [3340, 443].map((DERPPort) => ({
    ...{ Name: `900-${DERPPort}`, RegionID: 900, HostName: "203.0.113.5", IPv4: "203.0.113.5", DERPPort },
  }));
  const region = { RegionID: 900, RegionCode: "own", RegionName: "Sallyport", Nodes };
  const failed = connectRegion(region, new AbortController().signal).catch((thrown: Error) => thrown.message);
  await vi.advanceTimersByTimeAsync(1499);
  expect(asked).toEqual([3340]);
  await vi.advanceTimersByTimeAsync(1);
  expect(asked).toEqual([3340, 443]);
  await vi.advanceTimersByTimeAsync(5000); // the last one has its time
  expect(await failed).toContain("no answer within 5 s");
});
