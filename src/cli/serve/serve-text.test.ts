import { expect, test } from "vitest";
import type { ServeChange } from "./serve-args.ts";
import { statusText, successMessage } from "./serve-text.ts";

const STATUS = { Self: { DNSName: "web.tail.test." }, CurrentTailnet: { MagicDNSSuffix: "tail.test" } } as Parameters<
  typeof statusText
>[1];

test("one word was said to lead to a name of one's own by plain HTTP, as it does to the node", () => {
  const Handlers = { "/": { Text: "hello" } };
  const sites = ["web.tail.test:80", "demo.example.org:80", "*.shop.example.org:80"];
  const Web = Object.fromEntries(sites.map((site) => [site, { Handlers }]));
  const text = statusText({ TCP: { 80: { HTTP: true } }, Web }, STATUS);
  expect(text.match(/^http:\S+/gm)).toEqual([
    "http://*.shop.example.org",
    "http://demo.example.org",
    "http://web",
    "http://web.tail.test",
  ]);
});

test("the words that turn a wildcard off were for a shell to look for files", () => {
  const change = { domain: "*.shop.example.org", port: 443, kind: "https", isFunnel: true, isBackground: true };
  expect(successMessage({}, change as ServeChange, STATUS)).toContain(
    "run: sallyport funnel --https=443 --domain='*.shop.example.org' off\n",
  );
});

test("what another program had made public under a port alone was shown as https://443:NaN", () => {
  const text = statusText({ AllowFunnel: { "443": true, "web.tail.test:8443": true } }, STATUS);
  expect(text).toContain(
    "# Funnel on:\n#     - 443 (nobody comes: no name and port)\n#     - https://web.tail.test:8443\n",
  );
});

test("a TCP port that is public under a domain was shown as the tailnet's alone", () => {
  const TCP = { 10000: { TCPForward: "127.0.0.1:22" } };
  const shown = (open: Record<string, boolean>) => statusText({ TCP, AllowFunnel: open }, STATUS);
  const [own, shop] = ["web.tail.test:10000", "shop.example.org:10000"];
  expect(shown({ [shop]: true, [own]: false })).toContain(
    "|-- tcp://web.tail.test:10000 (Funnel on as shop.example.org)\n",
  );
  expect(shown({ [shop]: true, [own]: true })).toContain("(Funnel on as web.tail.test, shop.example.org)\n");
  expect(shown({ [own]: true })).toContain("|-- tcp://web.tail.test:10000 (Funnel on)\n");
});
