import { text } from "node:stream/consumers";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { certificateOf, closeScenes, onClose, proxyScene } from "../../test/suites/proxy-scene.ts";
import type { ServeConfig } from "../wire/serve-config.ts";

afterEach(closeScenes);

const site = (Text: string) => ({ Handlers: { "/": { Text } } });
const CONFIG: ServeConfig = {
  TCP: { 80: { HTTP: true }, 443: { HTTPS: true } },
  Web: {
    "*.apps.example.com:443": site("any"),
    "own.apps.example.com:443": site("own"),
    "*.apps.example.com:80": site("any"),
    "own.apps.example.com:80": site("own"),
  },
};

const table: readonly [name: string, answer: string | undefined][] = [
  ["a.apps.example.com", "any"],
  ["A.Apps.example.com", "any"],
  ["x-1.apps.example.com", "any"],
  ["own.apps.example.com", "own"],
  ["apps.example.com", undefined],
  ["a.b.apps.example.com", undefined],
  ["*.apps.example.com", undefined],
  ["-a.apps.example.com", undefined],
  ["a b.apps.example.com", undefined],
  ["a.apps.example.com.evil.test", undefined],
];

test.each(table)("RT-3 one label stands for the asterisk: %s over TLS", async (servername, answer) => {
  const { connect } = proxyScene(CONFIG, {
    secureContext: async () => tls.createSecureContext(await certificateOf("apps.example.com")),
  });
  const secure = tls.connect({ socket: connect(443), servername, rejectUnauthorized: false });
  onClose(() => secure.destroy());
  secure.end(`GET / HTTP/1.1\r\nHost: ${servername}\r\nConnection: close\r\n\r\n`);
  const found = await text(secure).catch((error: Error) => error.message);
  if (answer === undefined) expect(found).toMatch(/unrecognized name/);
  else expect(found.slice(found.indexOf("\r\n\r\n") + 4)).toBe(answer);
});

test.each(table)("RT-3 one label stands for the asterisk: %s in plain HTTP", async (host, answer) => {
  const { connect } = proxyScene(CONFIG);
  const client = connect(80);
  client.end(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  const found = await text(client);
  if (answer === undefined) expect(found).toMatch(/^HTTP\/1\.1 40[04]/);
  else expect(found.slice(found.indexOf("\r\n\r\n") + 4)).toBe(answer);
});
