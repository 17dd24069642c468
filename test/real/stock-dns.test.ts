import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Server } from "../../src/server/server.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { ServerMesh } from "./server-mesh.ts";
import { type Machine, type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "ip");

/** A name server that answers every question for A with one address. */
const nameServer = (address: string): string => `
  const socket = require("node:dgram").createSocket("udp4");
  socket.on("message", (query, { port, address }) => {
    const end = query.indexOf(0, 12) + 5;
    const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, ${address.split(".").join(", ")}]);
    const head = Buffer.from([query[0], query[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    socket.send(Buffer.concat([head, query.subarray(12, end), record]), port, address);
  });
  socket.bind(53);`;

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `names of the network on stock clients${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new ServerMesh();
    let server: Server;
    let alice: StockNode;
    let corp: Machine;
    let world: Machine;
    const change = (...what: Parameters<Server["coordinator"]["changeDns"]>) => server.coordinator.changeDns(...what);
    const query = async (...words: readonly string[]) => (await alice.cli("dns", "query", ...words)).stdout;
    const answers = (name: string, wanted: string, type = "A") =>
      until(
        `${name} to be ${wanted}`,
        () => query(name, type),
        (text) => text.includes(wanted),
        30_000,
      );

    beforeAll(async () => {
      server = await lab.openServer();
      corp = lab.machine("corp");
      world = lab.machine("world");
      corp.start(process.execPath, ["-e", nameServer("192.0.2.1")]);
      world.start(process.execPath, ["-e", nameServer("192.0.2.2")]);
      // In userspace, where a client never touches the machine's own resolver.
      alice = await lab.stock("alice", "userspace", {});
      await lab.up(alice, await lab.keyFor("alice@example.com"));
      await alice.cli("set", "--accept-dns=true");
    }, 90_000);

    afterAll(() => lab.close());

    // First: clients before 1.100 in userspace do nothing about names before there is a name server for all of them.
    test("search domains, and name servers in place of the device's own", { timeout: 90_000 }, async () => {
      await change({ nameservers: [world.ipv4], override: true, search: ["corp.example"] }, "test");
      await answers("elsewhere.example", "192.0.2.2");
      const status = (await alice.cli("dns", "status")).stdout;
      expect(status).toContain(world.ipv4);
      const searched = status.split("Search Domains:")[1] ?? "";
      for (const domain of ["tail.test", "corp.example"]) expect(searched).toContain(`- ${domain}`);
    });

    test("a split domain is asked of its own server, until it is taken back", { timeout: 90_000 }, async () => {
      await change({ split: { "corp.example": [corp.ipv4], "lab.example": [] } }, "test");
      await answers("host.corp.example", "192.0.2.1");
      await answers("host.lab.example", "RCodeNameError");
      const status = (await alice.cli("dns", "status")).stdout;
      expect(status).toMatch(/corp\.example\.?\s+-> 10\.96\./);
      await change({ split: { "corp.example": null } }, "test");
      await until(
        "the way back",
        () => query("host.corp.example"),
        (text) => !text.includes("192.0.2.1"),
        30_000,
      );
    });

    test("records of both families, in the network's own domain and elsewhere", { timeout: 90_000 }, async () => {
      const values = ["10.7.8.9", "fd00::9"];
      const names = ["db.tail.test", "app.other.example"];
      const addRecords = names.flatMap((name) => values.map((value) => ({ name, value })));
      await change({ addRecords }, "test");
      for (const name of names) {
        await answers(name, "10.7.8.9");
        await answers(name, "fd00::9", "AAAA");
      }
      await change({ removeRecords: [{ name: "db.tail.test" }] }, "test");
      await answers("db.tail.test", "RCodeNameError");
    });

    test("our own node answers the same to the stock command on its socket", { timeout: 90_000 }, async () => {
      const ours = await lab.ours("ours", await lab.keyFor("alice@example.com"));
      const asked = async (name: string, type = "A") => (await ours.stockCli("dns", "query", name, type)).stdout;
      const says = (name: string, wanted: string, type = "A") =>
        until(
          `${name} to be ${wanted}`,
          () => asked(name, type),
          (text) => text.includes(wanted),
          30_000,
        );
      await change({ split: { "corp.example": [corp.ipv4] } }, "test");
      await change({ addRecords: [{ name: "db.tail.test", value: "10.7.8.9" }] }, "test");
      await says("host.corp.example", "192.0.2.1");
      await says("db.tail.test", "10.7.8.9");
      await says("alice.tail.test", "100.64.0.1");
      await says("nobody.tail.test", "RCodeNameError");
      await says("elsewhere.example", "192.0.2.2");
    });
  },
);
