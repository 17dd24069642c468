import { expect, test } from "vitest";
import { CLAIMS, claimAnswers } from "../wire/claims.ts";
import { claimRefusals } from "./claim-text.ts";

test("whoever was granted the server's own name by a wildcard was told that the policy does not give it", () => {
  const told = [
    { claim: "hs.example.org", state: "ungranted", isServers: true },
    { claim: "ns1.mesh.test", state: "ungranted", isServers: true },
    { claim: "gw.mesh.test", state: "ungranted", isServers: "yes" },
    { claim: "shop.example.org", state: "ungranted" },
  ];
  const answers = claimAnswers({ [CLAIMS]: told })!;
  const refusals = claimRefusals(
    told.map(({ claim }) => claim),
    answers,
    "web.mesh.test",
  );
  expect(refusals).toEqual([
    "hs.example.org is not this node's: it is a name of this network's server, which no node gets",
    "ns1.mesh.test is not this node's: it is a name of this network's server, which no node gets",
    "gw.mesh.test is not this node's: it is a name of the mesh, and public only on the node of that name: run `funnel` there",
    expect.stringContaining("the network's policy does not give it to this node"),
  ]);
});
