import { createServer, request } from "node:http";
import { expect, test } from "vitest";
import { connSuite } from "../../test/suites/conn.ts";
import type { Proof } from "./conn.ts";
import { connPair } from "./conn-pair.ts";
import { asDuplex } from "./duplex.ts";

const proof: Proof = {
  kind: "mesh",
  nodeKey: "aa".repeat(32),
  source: { address: "100.64.0.1", port: 40_000 },
  destination: { address: "100.64.0.2", port: 80 },
};

connSuite("the pair in memory", async () => connPair(proof));

test("node:http runs over a pair of duplexes", async () => {
  const [client, server] = connPair(proof);
  const http = createServer((_, response) => response.end("hello"));
  http.emit("connection", asDuplex(server));
  const body = await new Promise<string>((resolve, reject) => {
    const outgoing = request({ createConnection: () => asDuplex(client), path: "/" }, async (response) => {
      let text = "";
      for await (const chunk of response) text += String(chunk);
      resolve(text);
    });
    outgoing.on("error", reject).end();
  });
  expect(body).toBe("hello");
});
