import { messageOf } from "../../base/fault.ts";
import type { LocalApiBackend } from "./backend.ts";
import { json, only, type Route, refuse, tabbed } from "./routes.ts";

/**
 * What stock tools ask about the account and about features that a gateway in userspace does not have: each is answered as by
 * a daemon that has none of it (serve-and-funnel.md 7.4), so that `dns status`, `lock status` and `switch --list` speak.
 */
export function createAccountRoutes(backend: LocalApiBackend): ReadonlyMap<string, Route> {
  const profiles = (): readonly unknown[] => {
    const profile = backend.profile?.();
    return profile === undefined ? [] : [profile];
  };
  return new Map<string, Route>([
    ["dns-config", only("GET", () => tabbed(backend.dnsConfig?.() ?? {}))],
    [
      "dns-query",
      only("GET", async ({ query }) => {
        try {
          const answer = await backend.dnsQuery?.(query.get("name") ?? "", query.get("type") ?? "");
          if (answer === undefined) return refuse(500, "nobody answers");
          return json({ Bytes: Buffer.from(answer).toString("base64"), Resolvers: [] });
        } catch (thrown) {
          return refuse(400, messageOf(thrown));
        }
      }),
    ],
    ["dns-osconfig", only("GET", () => refuse(500, "getting OS base config is not supported"))],
    ["profiles/", only("GET", () => json(profiles()))],
    ["profiles/current", only("GET", () => json(profiles()[0] ?? {}))],
    [
      "tka/status",
      only("GET", () =>
        tabbed({
          Enabled: false,
          Head: null,
          PublicKey: `nlpub:${"0".repeat(64)}`,
          NodeKey: backend.nodeKey?.() ?? "",
          NodeKeySigned: false,
          NodeKeySignature: null,
          TrustedKeys: null,
          VisiblePeers: null,
          FilteredPeers: null,
          StateID: 0,
        }),
      ),
    ],
    ["suggest-exit-node", only("GET", () => json({ ID: "", Name: "" }))],
    [
      "bugreport",
      only("POST", ({ query }) => {
        const mark = backend.markLog?.(query.get("note") ?? "");
        return mark === undefined
          ? refuse(500, "this gateway keeps no log")
          : { status: 200, body: `${mark}\n`, type: "text/plain" };
      }),
    ],
  ]);
}
