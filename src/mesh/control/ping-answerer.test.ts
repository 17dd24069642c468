import { afterEach, describe, expect, test } from "vitest";
import type { ControlClientOptions } from "./control-client.ts";
import { ScriptedSide, settle, until } from "./scripted-side.ts";

const sides: ScriptedSide[] = [];
afterEach(async () => {
  for (const side of sides.splice(0)) await side.close();
});

function setUp(overrides?: Partial<ControlClientOptions>): ScriptedSide {
  const side = new ScriptedSide(overrides);
  sides.push(side);
  return side;
}

describe("what the server asks of a node", () => {
  const payload = (text: string) => Buffer.from(text).toString("base64");
  const echo = payload("POST /echo HTTP/1.1\r\nHost: c2n\r\nContent-Length: 2\r\n\r\nhi");

  test("CC-10 of 50 foreign URLs none is asked, whatever the kind of ping", async () => {
    const side = setUp();
    await side.join();
    const hosts = [
      "169.254.169.254",
      "127.0.0.1",
      "[::1]",
      "10.0.0.1",
      "100.64.0.2",
      "192.168.1.1",
      "localhost",
      "evil.test",
    ];
    const urls = hosts.flatMap((host) => [
      `http://${host}/`,
      `http://${host}:80/latest/meta-data`,
      `https://${host}/x`,
      `http://control.test@${host}/`,
      `http://${host}/#control.test`,
      `//${host}/x`,
    ]);
    urls.push("file:///etc/passwd", "ftp://control.test/");
    expect(urls.length).toBe(50);
    for (const [i, URL] of urls.entries()) {
      const kinds = [{}, { URLIsNoise: true }, { URLIsNoise: true, Types: "c2n", Payload: echo }] as const;
      side.server.send({ PingRequest: { URL, ...kinds[i % 3] } });
      await settle();
    }
    expect([side.server.others, side.server.publicRequests, side.server.dials]).toEqual([[], [], 2]);
  });

  test("a plain ping is a HEAD: in the open, or in the channel if that is wanted", async () => {
    const side = setUp();
    await side.join();
    side.server.send({ PingRequest: { URL: "http://control.test/machine/ping-response?id=7" } });
    await until(() => side.server.publicRequests.length === 1);
    expect(side.server.publicRequests).toEqual(["HEAD /machine/ping-response?id=7"]);
    side.server.send({ PingRequest: { URL: "http://control.test/machine/ping/8", URLIsNoise: true } });
    await until(() => side.server.others.length === 1);
    expect(side.server.others[0]).toMatchObject({ method: "HEAD", path: "/machine/ping/8" });
  });

  test.each(["//169.254.169.254/x", "/\\\\169.254.169.254/x", "//[::1]:80/x"])(
    "CC-10 a path that reads as another host is asked of our server all the same: %s",
    async (path) => {
      const hosts: string[] = [];
      const side = setUp({
        connect: (url) => {
          hosts.push(url.host);
          return side.server.connect();
        },
      });
      await side.join();
      const before = hosts.length;
      side.server.send({ PingRequest: { URL: `http://control.test${path}` } });
      await until(() => hosts.length > before);
      expect(hosts.slice(before)).toEqual(["control.test"]);
    },
  );

  test("the same URL is answered once", async () => {
    const side = setUp();
    await side.join();
    for (let i = 0; i < 3; i++) side.server.send({ PingRequest: { URL: "/machine/ping/1", URLIsNoise: true } });
    await settle();
    expect(side.server.others.length).toBe(1);
  });

  test.each([
    ["the echo", echo, "HTTP/1.1 200 OK", "hi"],
    ["what our handler knows", payload("GET /known HTTP/1.1\r\nHost: c2n\r\n\r\n"), "HTTP/1.1 204 No Content", ""],
    [
      "what it does not know",
      payload("GET /debug/pprof/heap HTTP/1.1\r\n\r\n"),
      "HTTP/1.1 400 Bad Request",
      "unknown c2n path\n",
    ],
    [
      "a handler that fails",
      payload("GET /fails HTTP/1.1\r\n\r\n"),
      "HTTP/1.1 500 Internal Server Error",
      "internal error\n",
    ],
    ["nonsense", payload("nonsense"), "HTTP/1.1 400 Bad Request", "unreadable request\n"],
  ])("CC-6 c2n: %s", async (_, Payload, status, body) => {
    const side = setUp({
      onC2n: async ({ path }) => {
        if (path === "/fails") throw new Error("secret detail");
        return path === "/known"
          ? { status: 204, headers: {}, body: "" }
          : { status: 400, headers: {}, body: "unknown c2n path\n" };
      },
    });
    await side.join();
    side.server.send({ PingRequest: { URL: "/machine/c2n/1", URLIsNoise: true, Types: "c2n", Payload } });
    await until(() => side.server.others.length === 1);
    const answer = side.server.others[0]!;
    expect([answer.method, answer.path]).toEqual(["POST", "/machine/c2n/1"]);
    expect(answer.body.startsWith(`${status}\r\n`)).toBe(true);
    expect(answer.body.endsWith(`\r\n\r\n${body}`)).toBe(true);
  });

  test("pings of a peer are made one kind after the other, and told to the server in the channel", async () => {
    const wanted: unknown[] = [];
    const side = setUp({
      onPing: async ({ ip, type }) => {
        wanted.push([ip, type]);
        return { Type: type, IP: ip, NodeIP: ip, NodeName: "peer", LatencySeconds: 0.002 };
      },
    });
    await side.join();
    side.server.send({ PingRequest: { URL: "/machine/pong/1", Types: "disco,TSMP", IP: "100.64.0.2" } });
    await until(() => side.server.others.length === 2);
    expect(wanted).toEqual([
      ["100.64.0.2", "disco"],
      ["100.64.0.2", "TSMP"],
    ]);
    expect(side.server.others.map(({ path, body }) => [path, JSON.parse(body).Type])).toEqual([
      ["/machine/pong/1", "disco"],
      ["/machine/pong/1", "TSMP"],
    ]);
    side.server.send({ PingRequest: { URL: "/machine/pong/2", Types: "disco", IP: "metadata.internal" } });
    await settle();
    expect(wanted.length).toBe(2);
  });

  test("CC-6 commands in a map message do nothing: exit, sleep, debug", async () => {
    const side = setUp();
    await side.join();
    side.server.send({ Debug: { SleepSeconds: 300, Exit: 1, DisableLogTail: true } });
    await until(() => side.maps.length === 2);
    side.server.send({ Node: side.self({ Name: "other.tail.test." }) });
    await until(() => side.maps.length === 3);
    expect(side.kind).toBe("running");
  });
});
