import { expect, test } from "vitest";
import type { ServeConfig } from "../wire/serve-config.ts";
import { nodeServeConfig } from "./node-serve-config.ts";
import { renamedNode } from "./renamed-node.ts";
import { parseServices } from "./services.ts";

const FILE = parseServices(
  JSON.stringify({
    version: "0.0.1",
    node: {
      endpoints: {
        "tcp:443": {
          target: "http://localhost:3000",
          mounts: { "/old": "redirect:https://old.tail.test/new" },
          hosts: { "app.example.com": "text:app", "*.example.org": "text:any" },
          redirectHttp: true,
          funnel: true,
        },
        "tcp:8443": { listen: "tls-terminated-tcp", target: "tcp://localhost:22", funnel: true },
        "tcp:9443": { listen: "tls-terminated-tcp", target: "tcp://localhost:22", hosts: ["db.example.com"] },
        "tcp:2222": { listen: "tcp", target: "tcp://localhost:22", lease: 2222 },
      },
    },
    services: { "svc:db": { endpoints: { "tcp:443": "http://localhost:4000" } } },
  }),
  "services.hujson",
);

test.each([
  ["", "old.tail.test"],
  ["old.tail.test", "new.tail.test"],
  ["old.tail.test", "old.other.test"],
])('what a file declares of "%s" is what it declares of "%s" after the rename', (from, to) => {
  expect(renamedNode(nodeServeConfig(FILE, from), from, to)).toEqual(nodeServeConfig(FILE, to));
});

test("public by the new name is what was public by the old one, whatever was said of the new name before", () => {
  const text = (Text: string) => ({ Handlers: { "/": { Text } } });
  const config: ServeConfig = {
    TCP: { 443: { HTTPS: true }, 8443: { HTTPS: true }, 9443: { HTTPS: true } },
    Web: {
      "old.tail.test:443": text("public"),
      "Old.tail.test:8443": text("for the mesh"),
      "new.tail.test:8443": text("of another time"),
      "new.tail.test:9443": text("of another time"),
    },
    AllowFunnel: { "new.tail.test:8443": true, "NEW.tail.test:9443": true, "old.tail.test:443": true },
    Foreground: { "1": { AllowFunnel: { "old.tail.test:10000": true, "other.tail.test:10000": true } } },
  };
  expect(renamedNode(config, "old.tail.test", "new.tail.test")).toEqual({
    TCP: config.TCP,
    Web: {
      "new.tail.test:443": text("public"),
      "new.tail.test:8443": text("for the mesh"),
      "new.tail.test:9443": text("of another time"),
    },
    AllowFunnel: { "new.tail.test:443": true },
    Foreground: { "1": { AllowFunnel: { "new.tail.test:10000": true, "other.tail.test:10000": true } } },
  });
});
