import { describe, expect, test } from "vitest";
import { asDialled, isThisMachine, isUnspecified, noBackendAt } from "./backend-places.ts";

describe("RT-8 where no backend is", () => {
  test.each([
    ["169.254.169.254", /link-local/],
    ["169.254.0.1", /link-local/],
    ["169.254.255.255", /link-local/],
    ["fe80::1", /link-local/],
    ["[FE80::1]", /link-local/],
    ["fe80::1%eth0", /link-local/],
    ["febf:ffff::1", /link-local/],
    ["::ffff:169.254.169.254", /link-local/],
    ["::ffff:a9fe:a9fe", /link-local/],
    ["[::ffff:a9fe:a9fe]", /link-local/],
    ["::169.254.169.254", /link-local/],
    ["64:ff9b::a9fe:a9fe", /link-local/],
    ["64:ff9b:1::a9fe:a9fe", /link-local/],
    ["2002:a9fe:a9fe::1", /link-local/],
    ["224.0.0.1", /multicast/],
    ["239.255.255.250", /multicast/],
    ["240.0.0.1", /multicast/],
    ["255.255.255.255", /multicast/],
    ["ff02::1", /multicast/],
    ["[ff05::2]", /multicast/],
    ["0.1.2.3", /no machine/],
    ["fd00:ec2::254", /metadata/],
    ["fd20:ce::254", /metadata/],
    ["168.63.129.16", /metadata/],
    ["192.0.0.192", /metadata/],
    ["100.100.100.200", /metadata/],
  ])("%s: %s", (host, reason) => {
    expect(noBackendAt(host)).toMatch(reason);
  });

  test.each(
    "127.0.0.1,127.1.2.3,::1,[::1],10.0.0.5,172.16.0.1,192.168.1.1,100.64.0.7,198.51.100.1,2001:db8::1,fd12::1"
      .split(",")
      .concat("169.253.255.255,169.255.0.0,223.255.255.255,fec0::1,fe7f::1,64:ff9b::a00:1,2002:a00:1::1".split(","))
      .concat("localhost,backend.internal,169.254.169.254.nip.io,0.0.0.0,::,[::]".split(",")),
  )("nothing against %s", (host) => {
    expect(noBackendAt(host)).toBeUndefined();
  });

  test("the unspecified address is one, in each family and spelling", () => {
    expect(["0.0.0.0", "::", "[::]", "0:0:0:0:0:0:0:0", "::ffff:0.0.0.0"].every(isUnspecified)).toBe(true);
    expect(["127.0.0.1", "::1", "0.0.0.1", "localhost", ""].some(isUnspecified)).toBe(false);
  });
});

test.each([
  ..."127.0.0.1,127.9.8.7,::1,[::1],0.0.0.0,::,[::],::ffff:127.0.0.1,::127.0.0.1,64:ff9b::7f00:1".split(","),
  ..."localhost,LocalHost.,a.localhost".split(","),
])("RT-7 %s means this machine", (host) => {
  expect(isThisMachine(host)).toBe(true);
});

test.each(["10.0.0.1", "128.0.0.1", "::2", "fd7f::1", "7f00::1", "localhost.example", "notlocalhost", ""])(
  "%j may mean another",
  (host) => {
    expect(isThisMachine(host)).toBe(false);
  },
);

test.each([
  ["127.1", "127.0.0.1"],
  ["010.0.0.1", "8.0.0.1"],
  ["0x7f.1", "127.0.0.1"],
  ["2130706433", "127.0.0.1"],
  ["１２７．0．0．1", "127.0.0.1"],
  ["10.0.0.5", "10.0.0.5"],
  ...["::1", "fe80::1%eth0", "backend.internal", "256.1.1.1", "1.2.3.4.5", "a@127.1", "127.1/x", "", "[::1"].map(
    (host) => [host, host],
  ),
])("%j is dialled as %s", (host, wanted) => expect(asDialled(host!)).toBe(wanted));
