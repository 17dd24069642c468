// How to test a backend against real identity headers: a whole mesh in memory, without a socket, in some 200 ms.
import { createTestnet, type Testnet } from "sallyport/testnet";
import { afterAll, beforeAll, expect, test } from "vitest";
import { answer } from "./backend.ts";

const policy = {
  tagOwners: { "tag:app": [], "tag:ci": [] },
  grants: [
    {
      src: ["alice@example.com"],
      dst: ["tag:app"],
      ip: ["tcp:80"],
      app: { "example.com/cap/app": [{ action: ["*"] }] },
    },
    { src: ["bob@example.com", "tag:ci"], dst: ["tag:app"], ip: ["tcp:80"] },
  ],
};

let net: Testnet;
let url: string;

beforeAll(async () => {
  const users = [{ login: "alice@example.com", name: "Älice Architect" }, "bob@example.com"];
  net = await createTestnet({ users, policy });
  ({ url } = await net.serve(answer, { acceptAppCaps: ["example.com/cap/app"] }));
});
afterAll(() => net.close());

test.each([
  [
    "alice@example.com",
    { kind: "user", login: "alice@example.com", name: "Älice Architect", may: [{ action: ["*"] }] },
  ],
  ["bob@example.com", { kind: "user", login: "bob@example.com", name: "bob@example.com", may: [] }],
])("%s is known, and so is what she or he may do", async (user, wanted) => {
  const node = await net.node({ user });
  const response = await node.fetch(url);
  expect(await response.json()).toEqual(wanted);
});

test("a machine is nobody's, whatever it says", async () => {
  const ci = await net.node({ tags: ["tag:ci"] });
  const response = await ci.fetch(url, { headers: { "Tailscale-User-Login": "alice@example.com" } });
  expect(await response.json()).toEqual({ kind: "tagged", login: "", name: "", may: [] });
});

test("whoever is not let in by the policy does not even connect", async () => {
  const eve = await net.node({ user: "eve@example.com" });
  await expect(eve.fetch(url)).rejects.toThrow();
});
