import { describe, expect, test } from "vitest";
import { parseServerArgs } from "./server-flags.ts";
import { publicZoneOf } from "./server-zone.ts";

/** `_` stands for a blank inside a word. */
const of = (line: string) =>
  publicZoneOf(
    parseServerArgs(
      line
        .split(" ")
        .filter((word) => word !== "")
        .map((word) => word.replaceAll("_", " ")),
    ).values,
  );
const zone = { zone: "mesh.example", nameServer: "ns.mesh.example" };

describe("--dns-zone", () => {
  test.each<[string, object]>([
    ["", {}],
    ["--address 192.0.2.1", {}],
    ["--dns-zone mesh.example --dns-ns ns.mesh.example", { ...zone, address: "127.0.0.1", port: 53 }],
    [
      "--address 192.0.2.1 --dns-zone mesh.example --dns-ns ns.mesh.example",
      { ...zone, address: "192.0.2.1", port: 53 },
    ],
    [
      "--dns-zone mesh.example --dns-ns ns.mesh.example=192.0.2.7,2001:db8::7 --dns-listen 0.0.0.0:5353",
      { ...zone, address: "0.0.0.0", port: 5353, nameServerAddresses: ["192.0.2.7", "2001:db8::7"] },
    ],
    ["--dns-zone mesh.example --dns-ns ns.mesh.example --dns-listen ::1", { ...zone, address: "::1", port: 53 }],
    ["--dns-zone mesh.example --dns-ns ns.mesh.example --dns-listen [::]:53", { ...zone, address: "::", port: 53 }],
    [
      "--dns-zone mesh.example --dns-ns ns.mesh.example --dns-caa ca.example;_validationmethods=dns-01 --dns-caa ;",
      { ...zone, address: "127.0.0.1", port: 53, caa: ["ca.example; validationmethods=dns-01", ";"] },
    ],
    [
      "--dns-zone mesh.example --dns-ns ns.mesh.example --url-address 192.0.2.9,2001:db8::9",
      { ...zone, address: "127.0.0.1", port: 53, ownAddresses: ["192.0.2.9", "2001:db8::9"] },
    ],
  ])("%s", (line, wanted) => {
    expect(of(line)).toEqual("zone" in wanted ? { publicZone: wanted } : {});
  });

  test.each<[string, string]>([
    ["--dns-zone mesh.example", "wanted --dns-ns NAME"],
    ["--dns-zone mesh.example --dns-ns =192.0.2.1", "wanted --dns-ns NAME"],
    ["--dns-ns ns.mesh.example", "wanted --dns-zone ZONE"],
    ["--dns-listen 127.0.0.1", "wanted --dns-zone ZONE"],
    ["--dns-caa ca.example", "wanted --dns-zone ZONE"],
    ["--url-address 192.0.2.9", "wanted --dns-zone ZONE"],
    ["--dns-zone mesh.example --dns-ns ns.mesh.example --url-address here", "wanted IP addresses"],
    ["--dns-zone mesh.example --dns-ns ns.mesh.example --dns-caa 0_issue_ca.example", "wanted a CA's name"],
    ['--dns-zone mesh.example --dns-ns ns.mesh.example --dns-caa "ca.example"', "wanted a CA's name"],
    ["--dns-zone mesh.example --dns-ns ns.mesh.example --dns-listen everywhere", "wanted IP or IP:PORT"],
    ["--dns-zone mesh.example --dns-ns ns.mesh.example --dns-listen 127.0.0.1:99999", "wanted IP or IP:PORT"],
  ])("%s is refused", (line, wanted) => {
    expect(() => of(line)).toThrow(wanted);
  });
});
