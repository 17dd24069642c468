import { expect, test } from "vitest";
import type { ServeConfig } from "../../wire/serve-config.ts";
import { PublicTargets } from "./public-targets.ts";

const TCP = { 443: { HTTPS: true }, 2222: { TCPForward: "127.0.0.1:22" } };
const rightTo = (targets: PublicTargets, text: string) => targets.find(text, text.indexOf(":"))?.right;

test("what was public is not any more with the next configuration, nor is what was not, for good", () => {
  let config: ServeConfig = { TCP, AllowFunnel: { "web.tail.test:443": true } };
  const targets = new PublicTargets(
    () => config,
    () => "web.tail.test",
  );
  const both = () => ["web.tail.test:443", "shop.tail.test:443"].map((text) => rightTo(targets, text));
  for (let i = 0; i < 2; i++) expect(both()).toEqual(["name", undefined]);
  const [web] = [targets.find("web.tail.test:443", 13)!];
  expect(targets.isStillPublic(web)).toBe(true);
  config = { TCP, AllowFunnel: { "web.tail.test:443": false, "shop.tail.test:443": true } };
  for (let i = 0; i < 2; i++) expect(both()).toEqual([undefined, "name"]);
  expect(targets.isStillPublic(web)).toBe(false);
});

test("a raw port is delivered under the node's name of now", () => {
  const config: ServeConfig = { TCP, AllowFunnel: { "*:2222": true } };
  let ownName = "web.tail.test";
  const targets = new PublicTargets(
    () => config,
    () => ownName,
  );
  expect(rightTo(targets, "web.tail.test:2222")).toBe("lease");
  ownName = "shop.tail.test";
  targets.forget();
  expect(["web.tail.test:2222", "shop.tail.test:2222"].map((text) => rightTo(targets, text))).toEqual([
    undefined,
    "lease",
  ]);
});

test("names below a wildcard are one site, and as many as a relay may ask for are each read aright", () => {
  const config: ServeConfig = { TCP, AllowFunnel: { "*.example.org:443": true } };
  const targets = new PublicTargets(
    () => config,
    () => "web.tail.test",
  );
  for (let i = 0; i < 5000; i++) {
    const text = `n${i}.example.org:443`;
    expect(targets.find(text, text.indexOf(":"))).toMatchObject({
      name: `n${i}.example.org`,
      site: "*.example.org:443",
    });
  }
});
