import { expect, test } from "vitest";
import { PublicNameSet } from "./public-name-set.ts";

const set = new PublicNameSet([
  { name: "web.mesh.example.org", except: [] },
  { name: "*.shop.example.org", except: ["held.shop.example.org"] },
  { name: "a.deep.example.org", except: [] },
]);

test.each([
  ["web.mesh.example.org", "name"],
  ["*.shop.example.org", "name"],
  ["x.shop.example.org", "below"],
  ["a.deep.example.org", "name"],
  ...["mesh.example.org", "shop.example.org", "deep.example.org", "example.org", "org"].map((name) => [name, "above"]),
  ...["held.shop.example.org", "y.x.shop.example.org", "*.deep.example.org", "*.x.shop.example.org"].map((name) => [
    name,
  ]),
  ...["x.web.mesh.example.org", "example.net", "", "*"].map((name) => [name]),
])("%s: %s", (name, place) => expect(set.at(name!)).toBe(place));
