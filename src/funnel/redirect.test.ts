import { connect } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { nodeSide, openIngress, publicName } from "../../test/suites/ingress-scene.ts";
import { locationOf } from "./redirect.ts";

const isPublic = (name: string): boolean => name === "box.tail.test";

test.each<readonly [string, string]>([
  ["GET / HTTP/1.1\r\nHost: box.tail.test", "https://box.tail.test/"],
  ["GET /a?b=c#d HTTP/1.1\r\nhost:BOX.tail.test:80 \r\nX: y", "https://box.tail.test/a?b=c#d"],
  ["POST //evil.test/x HTTP/1.0\r\nHost: box.tail.test.", "https://box.tail.test//evil.test/x"],
])("FN-15 a request for a public name is sent on: %j", (head, location) => {
  expect(locationOf(head, isPublic)).toBe(location);
});

test.each([
  "GET / HTTP/1.1",
  "GET / HTTP/1.1\r\nHost: other.tail.test",
  "GET / HTTP/1.1\r\nHost: box.tail.test\r\nHost: evil.test",
  "GET / HTTP/1.1\r\nHost: box.tail.test@evil.test",
  "GET / HTTP/1.1\r\nHost: box.tail.test:8080",
  "GET / HTTP/1.1\r\nHost: 127.0.0.1",
  "GET http://evil.test/ HTTP/1.1\r\nHost: box.tail.test",
  "GET @evil.test/ HTTP/1.1\r\nHost: box.tail.test",
  "GET /\u00e9 HTTP/1.1\r\nHost: box.tail.test",
  "GET /a\nb HTTP/1.1\r\nHost: box.tail.test",
  "GET /a b HTTP/1.1\r\nHost: box.tail.test",
  "PRI * HTTP/2.0",
])("FN-15 anything else is not: %j", (head) => {
  expect(locationOf(head, isPublic)).toBeUndefined();
});

test("FN-15 port 80 answers for exact public names alone, and says nothing to others", async () => {
  const names = [
    publicName("box.tail.test"),
    publicName("*.example.org"),
    publicName("alt.test", { ports: new Set([8443]) }),
  ];
  const { ingress } = await openIngress(names, nodeSide().dial);
  const port = await ingress.listen(0, "127.0.0.1", { isPlain: true });
  const ask = async (host: string): Promise<string> => {
    const socket = connect(port, "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.on("error", () => undefined);
    socket.write(`GET /x HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    let heard = "";
    for await (const chunk of socket) heard += String(chunk);
    return heard;
  };
  expect(await ask("box.tail.test")).toBe(
    "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://box.tail.test/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
  );
  for (const host of ["a.example.org", "alt.test", "nobody.test"]) expect(await ask(host)).toBe("");
});
