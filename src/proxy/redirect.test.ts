import { afterEach, expect, test } from "vitest";
import { closeScenes, GATE, proxyScene, read, webConfig } from "../../test/suites/proxy-scene.ts";

afterEach(closeScenes);

interface Answer {
  readonly status: number;
  readonly locations: readonly string[];
  readonly body: string;
}

async function ask(redirect: string, line: string): Promise<Answer> {
  const client = proxyScene(webConfig({ "/": { Redirect: redirect } })).connect(80);
  client.write(`${line}\r\nHost: ${GATE}\r\nConnection: close\r\n\r\n`);
  const [head, body] = (await read(client)).text.split("\r\n\r\n");
  const locations = [...head!.matchAll(/^Location: (.*)\r?$/gim)].map((match) => match[1]!.trim());
  return { status: Number(head!.slice(9, 12)), locations, body: body ?? "" };
}

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: upstream's placeholders are spelled so
test.each([
  ["https://other.test/new", "GET /old HTTP/1.1", 302, "https://other.test/new"],
  ["301:https://${HOST}/new", "GET /old HTTP/1.1", 301, `https://${GATE}/new`],
  ["308:https://${HOST}${REQUEST_URI}", "GET /a/b?c=d&e HTTP/1.1", 308, `https://${GATE}/a/b?c=d&e`],
  ["307:https://${HOST}${REQUEST_URI}", `GET http://${GATE}/a HTTP/1.1`, 307, `https://${GATE}http://${GATE}/a`],
  ["/new", "GET /old/x HTTP/1.1", 302, "/new"],
  ["new", "GET /old/x HTTP/1.1", 302, "/old/new"],
  ["../new/?q", "GET /old/x HTTP/1.1", 302, "/new/?q"],
  ["//other.test/x", "GET / HTTP/1.1", 302, "//other.test/x"],
  ["/é x", "GET / HTTP/1.1", 302, "/%c3%a9%20x"],
])("a redirect to %s", async (redirect, line, status, location) => {
  expect(await ask(redirect, line)).toMatchObject({ status, locations: [location] });
});

test.each([
  ["${REQUEST_URI}", "GET //evil.test/x HTTP/1.1"],
  ["${REQUEST_URI}", "GET ///evil.test/x HTTP/1.1"],
  ["${REQUEST_URI}", "GET /%0d%0aSet-Cookie:%20a=b HTTP/1.1"],
  ["${REQUEST_URI}", "GET /%5c%5cevil.test/ HTTP/1.1"],
  ["/${REQUEST_URI}", "GET /evil.test/ HTTP/1.1"],
  ["https://${HOST}${REQUEST_URI}", "GET //evil.test/ HTTP/1.1"],
  ["${REQUEST_URI}", "GET /\\evil.test/ HTTP/1.1"],
  ["${REQUEST_URI}", "GET \\evil.test/ HTTP/1.1"],
  ["${REQUEST_URI}", "GET \\\\evil.test/ HTTP/1.1"],
  ["${REQUEST_URI}", "GET /.//evil.test/ HTTP/1.1"],
  ["${REQUEST_URI}", "GET /..//evil.test/ HTTP/1.1"],
  ["${REQUEST_URI}", "GET /%2e%2e//evil.test/ HTTP/1.1"],
  ["${REQUEST_URI}", "GET /%09/evil.test/ HTTP/1.1"],
  ["${REQUEST_URI}", `GET //evil.test/?${GATE} HTTP/1.1`],
  ["/x/..${REQUEST_URI}", "GET //evil.test/ HTTP/1.1"],
  ["/x/../${REQUEST_URI}", "GET //evil.test/ HTTP/1.1"],
  ["301:${REQUEST_URI}", "GET /\t/evil.test/ HTTP/1.1"],
  ["https://${HOST}/${REQUEST_URI}", "GET /@evil.test/ HTTP/1.1"],
  ["https://${HOST}${REQUEST_URI}", "GET @evil.test/ HTTP/1.1"],
  ["https://${HOST}${REQUEST_URI}", "GET :80@evil.test/ HTTP/1.1"],
  ["https://${HOST}${REQUEST_URI}", "GET .evil.test/ HTTP/1.1"],
  ["https://${HOST}/", "GET / HTTP/1.1\r\nX-Forwarded-Host: evil.test"],
  ["https://${HOST}/", "GET http://evil.test/ HTTP/1.1"],
  ["https://${HOST}${REQUEST_URI}", "GET /a\rLocation: https://evil.test/ HTTP/1.1"],
  ["https://${HOST}${REQUEST_URI}", "GET /%0d%0aLocation:%20https://evil.test/ HTTP/1.1"],
])("RT-5: %s for %s is one line, and names no host of the caller's choice", async (redirect, line) => {
  const { status, locations } = await ask(redirect, line);
  if (status === 400) return; // not even routed
  expect(locations).toHaveLength(1);
  expect(new URL(locations[0]!, `http://${GATE}/`).hostname).toBe(GATE);
});
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: as above

test("a page for people, its address escaped; none for POST", async () => {
  const escaped = "/a?b=&#60;&#38;&#34;&#39;&#62;";
  expect((await ask("/a?b=<&\"'>", "GET / HTTP/1.1")).body).toBe(`<a href="${escaped}">Found</a>.\n\n`);
  expect(await ask("/a", "POST / HTTP/1.1")).toMatchObject({ status: 302, locations: ["/a"], body: "" });
});
