import { expect, test } from "vitest";
import type { NetworkMap } from "../wire/network-map.ts";
import type { CapMap } from "../wire/tailcfg.ts";
import { type SiteRules, VISITOR_RULES } from "../wire/visitor-rules.ts";
import { OwnDescription } from "./own-description.ts";

const RULES: readonly SiteRules[] = [{ sites: ["web.tail.test:443"], deny: ["203.0.113.9/32"] }];
const mapWith = (CapMap: CapMap): NetworkMap => ({ self: { CapMap } }) as NetworkMap;

function scene() {
  const news = { count: 0 };
  const own = new OwnDescription({ hostname: "gate", ingress: undefined }, ["tag:web"], "ab", () => void news.count++);
  return { own, news };
}

test("what is told again as it was is no news; endpoints and what is known of the network are", () => {
  const { own, news } = scene();
  own.tell({ hostname: "gate" });
  expect(news.count).toBe(0);
  own.tell({ hostname: "other", ingress: "on" });
  own.endpoints = [{ endpoint: "192.0.2.1:41641", type: 1 }];
  own.addNetInfo({ PreferredDERP: 3 });
  own.addNetInfo({ MappingVariesByDestIP: false });
  expect(news.count).toBe(4);
  expect(own.hostinfo([])).toMatchObject({
    Hostname: "other",
    IngressEnabled: true,
    RequestTags: ["tag:web"],
    NetInfo: { PreferredDERP: 3, MappingVariesByDestIP: false },
  });
});

test("whom the owner keeps out is told once the server takes such rules, and no more when it is gone", () => {
  const { own, news } = scene();
  own.tell({ visitorRules: RULES });
  own.setServer(mapWith({}));
  expect(own.funnelWish().visitorRules).toEqual([]);
  expect(news.count).toBe(1);
  own.setServer(mapWith({ [VISITOR_RULES]: [] }));
  expect(own.funnelWish().visitorRules).toEqual(RULES);
  expect(news.count).toBe(2);
  own.setServer(mapWith({ [VISITOR_RULES]: [] }));
  expect(news.count).toBe(2);
  own.setServer(undefined);
  expect(own.funnelWish().visitorRules).toEqual([]);
});
