import { afterEach, expect, test } from "vitest";
import { ALICE, closeScenes, GATE, onHeads, proxyScene, rawBackend, webConfig } from "../../test/suites/proxy-scene.ts";
import { FakeClock } from "../base/clock.ts";
import type { Callers } from "../identity/caller.ts";

afterEach(closeScenes);

test("ID-9: what a connection's last request was given is not given to one that differs in anything it says", async () => {
  const heads: string[] = [];
  const { port } = await rawBackend((socket) =>
    onHeads(socket, (head) => {
      heads.push(head);
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }),
  );
  const state = { epoch: 1, held: "one", asked: 0 };
  const callers: Callers = {
    of: () => ALICE,
    capabilities: (_caller, _destination, names) => {
      state.asked++;
      return JSON.stringify({ [names.join()]: [state.held] });
    },
    get epoch() {
      return state.epoch;
    },
    revoked: () => new AbortController().signal,
  };
  const to = (cap: string) => ({ Proxy: `http://127.0.0.1:${port}`, AcceptAppCaps: [cap] });
  const clock = new FakeClock();
  const scene = proxyScene(webConfig({ "/": to("a.b/root"), "/other": to("a.b/other") }), { callers, clock });
  const client = scene.connect(80);
  let answers = "";
  client.on("data", (chunk) => {
    answers += String(chunk);
  });
  const ask = async (path: string, host = GATE, fields = ""): Promise<string | undefined> => {
    answers = "";
    client.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`);
    await expect.poll(() => answers).toContain("200 OK");
    const line = (name: string) => new RegExp(`^${name}: (.*)\r$`, "im").exec(heads.at(-1) ?? "")?.[1];
    return `${line("x-forwarded-host")} ${line("tailscale-app-capabilities")}`;
  };
  expect(await ask("/")).toBe(`${GATE} {"a.b/root":["one"]}`);
  expect(await ask("/again")).toBe(`${GATE} {"a.b/root":["one"]}`);
  expect(state.asked, "the second is given what the first was").toBe(1);
  expect(await ask("/other")).toBe(`${GATE} {"a.b/other":["one"]}`);
  expect(await ask("/")).toBe(`${GATE} {"a.b/root":["one"]}`);
  expect(await ask("/", "GW")).toBe('GW {"a.b/root":["one"]}');
  await ask("/", "GW", "Sallyport-Hops: 2\r\n");
  expect(heads.at(-1)).toContain("\r\nSallyport-Hops: 3\r\n");
  await ask("/", "GW");
  expect(heads.at(-1)).toContain("\r\nSallyport-Hops: 1\r\n");
  Object.assign(state, { epoch: 2, held: "two" });
  expect(await ask("/", "GW"), "a new map or policy counts at once").toBe('GW {"a.b/root":["two"]}');
  state.held = "three";
  clock.advance(1000);
  expect(await ask("/", "GW"), "and nothing is kept for long").toBe('GW {"a.b/root":["three"]}');
});
