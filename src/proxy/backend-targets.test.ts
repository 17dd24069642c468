import dns from "node:dns";
import { afterEach, expect, test, vi } from "vitest";
import {
  closeScenes,
  GATE,
  http2Client,
  type ProxyScene,
  proxyScene,
  read,
  webConfig,
} from "../../test/suites/proxy-scene.ts";
import { fieldLines, recordingBackend } from "../../test/suites/recording-backend.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import type { BackendPlace } from "./options.ts";

afterEach(closeScenes);
afterEach(() => vi.restoreAllMocks());

async function ask({ connect }: ProxyScene, fields = ""): Promise<string> {
  const client = connect(80);
  const done = read(client);
  client.write(`GET / HTTP/1.1\r\nHost: ${GATE}\r\nConnection: close\r\n${fields}\r\n`);
  return (await done).text;
}

test.each([
  "http://169.254.169.254/latest",
  "http://[fe80::1]:80",
  "http://[::ffff:169.254.169.254]",
  "http://2852039166",
  "http://0xa9fea9fe",
  "http://0251.0376.0251.0376",
  "http://169.254.43518",
  "http://224.0.0.1:8080",
  "http://255.255.255.255",
  "https://169.254.169.254",
  "https+insecure://[fd00:ec2::254]",
])("RT-8 %s is no backend: 502, and nothing is dialled", async (target) => {
  const dialled: BackendPlace[] = [];
  const dialBackend = (place: BackendPlace) => {
    dialled.push(place);
    return undefined;
  };
  const text = await ask(proxyScene(webConfig({ "/": { Proxy: target } }), { dialBackend }));
  expect(text).toMatch(/^HTTP\/1\.1 502 .*no backend can be/s);
  expect(dialled).toEqual([]);
});

test("RT-8 a TCP forward to where no backend is ends at once", async () => {
  const config: ServeConfig = { TCP: { 22: { TCPForward: "169.254.169.254:80" } } };
  const { text, isCut } = await read(proxyScene(config).connect(22));
  expect([text, isCut]).toEqual(["", true]);
});

/** Names are looked up as always, but for one, which leads where we say. */
function pretend(name: string, addresses: readonly string[]): void {
  const lookup = dns.lookup;
  vi.spyOn(dns, "lookup").mockImplementation(((host: string, options: dns.LookupAllOptions, done: never) => {
    if (host !== name) return lookup(host, options, done);
    const found = addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
    return setImmediate(() => (done as (error: null, found: dns.LookupAddress[]) => void)(null, found));
  }) as never);
}

test("RT-8 a name is asked about where it leads when it is dialled", async () => {
  const { port, requests } = await recordingBackend();
  const scene = proxyScene(webConfig({ "/": { Proxy: `http://backend.test:${port}` } }));
  pretend("backend.test", ["169.254.169.254", "fe80::1"]);
  expect(await ask(scene)).toMatch(/^HTTP\/1\.1 502 .*no backend can be/s);
  expect(requests).toEqual([]);
  // Where one of several addresses is a backend's, that one is asked.
  pretend("backend.test", ["169.254.169.254", "127.0.0.1"]);
  expect(await ask(scene)).toMatch(/^HTTP\/1\.1 200 /);
  expect(requests).toHaveLength(1);
});

test("RT-7 what listens there is ours: no backend by any of its names, and asked at every dial", async () => {
  const { port, requests } = await recordingBackend();
  let ours = 0;
  const isOwnListener = (address: string, asked: number) => address === "127.0.0.1" && asked === ours;
  const text = (target: string) =>
    ask(proxyScene(webConfig({ "/": { Proxy: target } }), { isOwnListener })).then((answer) => answer.slice(9, 12));
  pretend("elsewhere.test", ["127.0.0.1"]);
  const names = ["127.0.0.1", "elsewhere.test", "2130706433", "0x7f.1"].map((host) => `http://${host}:${port}`);
  for (const name of names) expect([name, await text(name)]).toEqual([name, "200"]);
  ours = port;
  for (const name of names) expect([name, await text(name)]).toEqual([name, "502"]);
  expect(requests).toHaveLength(names.length);
  const forward: ServeConfig = { TCP: { 22: { TCPForward: `elsewhere.test:${port}` } } };
  expect(await read(proxyScene(forward, { isOwnListener }).connect(22))).toMatchObject({ text: "", isCut: true });
});

test("RT-8 a backend that leads back to the gateway is found out: 508 after eight rounds", async () => {
  const rounds: string[] = [];
  // In memory: what is dialled is the gateway itself, as a tunnel or a public name of its own would have it.
  const scene: ProxyScene = proxyScene(webConfig({ "/": { Proxy: "http://gateway.test" } }), {
    dialBackend: () => {
      const client = scene.connect(80);
      const write = client.write.bind(client);
      client.write = ((bytes: string, ...rest: never[]) => {
        rounds.push(bytes);
        return write(bytes, ...rest);
      }) as typeof client.write;
      return client;
    },
  });
  expect(await ask(scene)).toMatch(/^HTTP\/1\.1 508 /);
  expect(rounds).toHaveLength(8);
});

test("RT-8 the count of gateways is ours: passed on by one more, one line, and no other spelling counts", async () => {
  const backend = await recordingBackend();
  const scene = proxyScene(webConfig({ "/": { Proxy: `http://127.0.0.1:${backend.port}` } }));
  const sent = async (fields: string): Promise<string[]> => {
    const text = await ask(scene, fields);
    if (!text.startsWith("HTTP/1.1 200 ")) return [text.slice(9, 12)];
    return fieldLines(backend.requests.at(-1)!).flatMap(([name, value]) => (/hops/i.test(name) ? [value] : []));
  };
  expect(await sent("")).toEqual(["1"]);
  expect(await sent("Sallyport-Hops: 3\r\n")).toEqual(["4"]);
  expect(await sent("sallyport-hops: 2\r\nSALLYPORT-HOPS: 0\r\n")).toEqual(["3"]);
  expect(await sent("Sallyport_Hops: 7\r\n")).toEqual(["1"]);
  expect(await sent("Sallyport-Hops: 1\r\nConnection: Sallyport-Hops\r\n")).toEqual(["2"]);
  for (const value of ["8", "9", "999999999", "-1", "many", "", "1, 2", "1000000000000"])
    expect(await sent(`Sallyport-Hops: ${value}\r\n`), value).toEqual(["508"]);
  const session = await http2Client(scene);
  const status = await new Promise((resolve) => {
    const stream = session.request({ ":path": "/", "sallyport-hops": "8" });
    stream.once("response", (head) => resolve(head[":status"]));
    stream.resume();
  });
  expect(status).toBe(508);
});

test("a backend whose name is not found was said to have given no valid answer", async () => {
  vi.spyOn(dns, "lookup").mockImplementation(((host: string, _: dns.LookupAllOptions, done: never) => {
    const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: "ENOTFOUND" });
    return setImmediate(() => (done as (error: Error) => void)(error));
  }) as never);
  const text = await ask(proxyScene(webConfig({ "/": { Proxy: "http://backend.test:3000" } })));
  expect(text).toMatch(/^HTTP\/1\.1 502 .*the backend did not answer: no such name\s*$/s);
});
