import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { openPublicZone, type PublicZone } from "../../src/server/public-zone.ts";
import { findPeer, peersOrSkip } from "../peers.ts";

const peers = peersOrSkip("dig");
const run = promisify(execFile);

describe.skipIf(peers.missing !== undefined)(
  `the public zone, as dig sees it${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    let zone: PublicZone;
    beforeAll(async () => {
      zone = await openPublicZone(
        { zone: "mesh.example", nameServer: "ns1.mesh.example", address: "127.0.0.1", port: 0 },
        {
          baseDomain: "tail.mesh.example",
          ownName: "mesh.example",
          isPublic: (name) => name === "web.tail.mesh.example",
          clock: systemClock,
          log: silentLog,
        },
      );
      for (let i = 0; i < 8; i++) zone.challenges.set("_acme-challenge.web.tail.mesh.example", `${i}`.padEnd(43, "v"));
    });
    afterAll(() => zone?.close());

    test.each<[string, readonly string[], RegExp]>([
      ["NS", ["mesh.example", "NS"], /status: NOERROR.*IN\s+NS\s+ns1\.mesh\.example\./s],
      [
        "the SOA",
        ["mesh.example", "SOA"],
        /IN\s+SOA\s+ns1\.mesh\.example\. hostmaster\.mesh\.example\. \d+ 3600 600 86400 0/,
      ],
      ["the server's own address", ["mesh.example", "A"], /IN\s+A\s+127\.0\.0\.1/],
      ["its name server's address", ["ns1.mesh.example", "A"], /IN\s+A\s+127\.0\.0\.1/],
      ["challenges", ["_acme-challenge.web.tail.mesh.example", "TXT"], /flags: qr aa;.* ANSWER: 8/],
      ["challenges without EDNS", ["+noedns", "_acme-challenge.web.tail.mesh.example", "TXT"], /ANSWER: 8/],
      ["over TCP", ["+tcp", "_acme-challenge.web.tail.mesh.example", "TXT"], /ANSWER: 8.*\(TCP\)/s],
      ["an existing name without CAA", ["web.tail.mesh.example", "CAA"], /status: NOERROR.*ANSWER: 0, AUTHORITY: 1/s],
      ["an empty place between", ["tail.mesh.example", "A"], /status: NOERROR.*ANSWER: 0, AUTHORITY: 1/s],
      ["an unknown name", ["mallory.tail.mesh.example", "A"], /status: NXDOMAIN/],
      ["a foreign name", ["example.com", "A"], /status: REFUSED/],
      ["ANY", ["web.tail.mesh.example", "ANY"], /HINFO\s+"RFC8482" ""/],
      ["AXFR", ["mesh.example", "AXFR"], /Transfer failed/],
      ["another class", ["version.bind", "CH", "TXT"], /status: REFUSED/],
      ["another version of EDNS", ["+edns=1", "+noednsneg", "mesh.example", "NS"], /status: BADVERS/],
      ["a cookie", ["+cookie", "mesh.example", "NS"], /status: NOERROR/],
    ])("DN-9 %s", { timeout: 60_000 }, async (_name, args, wanted) => {
      const { stdout } = await run(findPeer("dig")!, [
        "@127.0.0.1",
        "-p",
        String(zone.port),
        "+norec",
        "+tries=10",
        ...args,
      ]);
      expect(stdout).toMatch(wanted);
      expect(stdout).not.toMatch(/WARNING|Warning|malformed/);
    });
  },
);
