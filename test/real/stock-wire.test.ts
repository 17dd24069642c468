import { request as httpRequest } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FilterRule, MapResponse } from "../../src/wire/tailcfg.ts";
import { isRoot, peersOrSkip } from "../peers.ts";
import { ScriptedControl } from "./scripted-control.ts";
import { StockMesh, type StockNode, until } from "./stock-mesh.ts";

const peers = peersOrSkip("tailscaled", "tailscale", "derper", "ip");
const NEVER = "0001-01-01T00:00:00Z";
const LONG_AGO = "2020-01-01T00:00:00Z";
const FUTURE = "2099-01-01T00:00:00Z";
const PEER = `nodekey:${"2".repeat(64)}`;

interface Status {
  readonly BackendState: string;
  readonly Health: readonly string[] | null;
  readonly Self: { readonly Online: boolean };
  readonly Peer: Readonly<Record<string, { readonly Expired?: boolean; readonly DNSName: string }>> | null;
}

interface NetMap {
  readonly SSHPolicy?: { readonly rules?: readonly unknown[] | null } | null;
  readonly PacketFilterRules?: readonly FilterRule[] | null;
}

/** Capability version of 1.84. */
const DISPLAY_MESSAGES_SINCE = 117;

const rule = (source: string): FilterRule => ({
  SrcIPs: [source],
  DstPorts: [{ IP: "*", Ports: { First: 1, Last: 1 } }],
});

/** What a stock client does with messages that servers are not often heard to send. */
describe.skipIf(!isRoot || peers.missing !== undefined)(
  `a stock client under a server that says what it is told${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const lab = new StockMesh();
    let control: ScriptedControl;
    let node: StockNode;

    const status = async () => JSON.parse((await node.cli("status", "--json")).stdout) as Status;
    const isState = (wanted: string) => until(wanted, status, ({ BackendState }) => BackendState === wanted, 60_000);
    const health = async () => (await status()).Health ?? [];
    const netMap = async () => JSON.parse((await node.cli("debug", "netmap")).stdout) as NetMap;
    const sources = async () => ((await netMap()).PacketFilterRules ?? []).map(({ SrcIPs }) => SrcIPs?.[0]);
    const isExpired = async () => Object.values((await status()).Peer ?? {})[0]?.Expired === true;
    const local = (method: string, path: string, body?: string): Promise<{ status: number; body: string }> =>
      new Promise((resolve, reject) => {
        const socketPath = `${lab.scratch}/wire/s.sock`;
        const headers = { Host: "local-tailscaled.sock" };
        const asked = httpRequest({ socketPath, method, path: `/localapi/v0/${path}`, headers }, (answer) => {
          let text = "";
          answer.on("data", (chunk) => {
            text += String(chunk);
          });
          answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body: text }));
        });
        asked.on("error", reject);
        asked.end(body);
      });
    /** Hangs up; the next stream begins with the usual first message, changed. */
    const begin = async (more: MapResponse): Promise<void> => {
      control.first = ({ NodeKey }) => ({ ...control.whole(NodeKey), ...more });
      const before = control.polls.length;
      control.hangUp();
      await until(
        "the next poll",
        async () => control.polls.length,
        (count) => count > before,
        60_000,
      );
    };
    const version = () => control.registers[0]!.Version;
    const key = () => control.polls.at(-1)!.request.NodeKey;
    const answerTo = async (path: string): Promise<unknown> =>
      (await until(
        "an answer",
        async () => control.others.find((one) => one.path === path),
        (one) => one !== undefined,
        30_000,
      ))!.body;

    beforeAll(async () => {
      lab.openBridge();
      lab.startDerper();
      control = await ScriptedControl.open(lab.address, 8080);
      control.derpMap = lab.derpMap;
      node = await lab.stock("wire", "userspace");
      await lab.up(node, "any-key");
      await isState("Running");
    }, 120_000);

    afterAll(async () => {
      lab.close();
      await control?.close();
    });

    test("a whole first message: nothing is wrong", async () => {
      const wrong = (await health()).filter((line) => !line.includes("unstable version"));
      expect(wrong).toEqual([]);
    });

    test.each<[string, MapResponse, boolean]>([
      ["a whole node whose time is over", { PeersChanged: [{ KeyExpiry: LONG_AGO }] as never }, true],
      ["a patch with a zero KeyExpiry", { PeersChangedPatch: [{ NodeID: 2, KeyExpiry: NEVER }] }, false],
      ["a patch with a past KeyExpiry", { PeersChangedPatch: [{ NodeID: 2, KeyExpiry: LONG_AGO }] }, true],
      ["a patch with a future one", { PeersChangedPatch: [{ NodeID: 2, KeyExpiry: FUTURE }] }, false],
      ["a whole node that is called expired", { PeersChanged: [{ Expired: true }] as never }, true],
      ["a patch does not undo that", { PeersChangedPatch: [{ NodeID: 2, KeyExpiry: FUTURE }] }, true],
      ["a whole node does", { PeersChanged: [{}] as never }, false],
    ])("is the peer expired? %s", async (_what, message, wanted) => {
      const changed = message.PeersChanged?.map((more) => control.peer(2, PEER, more));
      control.say(changed === undefined ? message : { PeersChanged: changed });
      await until("the change", isExpired, (found) => found === wanted);
    });

    const sshRule = { principals: [{ any: true }], sshUsers: { "*": "=" }, action: { accept: true } };
    test.each<[string, object, number]>([
      ["rules", { SSHPolicy: { rules: [sshRule] } }, 1],
      ["a message without a policy leaves them", { Health: [] }, 1],
      ["null leaves them", { SSHPolicy: null }, 1],
      ["an empty list removes them", { SSHPolicy: { rules: [] } }, 0],
      ["rules again", { SSHPolicy: { rules: [sshRule] } }, 1],
      ["an empty policy removes them", { SSHPolicy: {} }, 0],
    ])("SSH rules: %s", async (_what, message, wanted) => {
      control.say(message as MapResponse);
      // What leaves all as it was is known to have come by what came after it.
      control.say({ Domain: `d${wanted}.${_what.length}.test` });
      const domain = async () => JSON.parse((await node.cli("debug", "netmap")).stdout) as NetMap & { Domain: string };
      const map = await until("it to come", domain, ({ Domain }) => Domain === `d${wanted}.${_what.length}.test`);
      expect(map.SSHPolicy?.rules?.length ?? 0).toBe(wanted);
    });

    test("SSH rules: a new stream that says nothing of them has none", async () => {
      control.say({ SSHPolicy: { rules: [sshRule] } } as MapResponse);
      await until("rules", netMap, ({ SSHPolicy }) => SSHPolicy?.rules?.length === 1);
      await begin({});
      await until("none", netMap, ({ SSHPolicy }) => (SSHPolicy?.rules?.length ?? 0) === 0);
    });

    test.each<[string, object, readonly string[]]>([
      ["`PacketFilter` is the one named base", { PacketFilter: [rule("100.64.0.9")] }, ["100.64.0.9"]],
      [
        "further names join it, in their order",
        { PacketFilters: { b: [rule("100.64.0.7")], a: [rule("100.64.0.8")] } },
        ["100.64.0.8", "100.64.0.7", "100.64.0.9"],
      ],
      ["null removes one", { PacketFilters: { b: null } }, ["100.64.0.8", "100.64.0.9"]],
      [
        "`*` removes all, before what stands beside it",
        { PacketFilters: { "*": null, z: [rule("100.64.0.6")] } },
        ["100.64.0.6"],
      ],
      ["`PacketFilter` leaves others alone", { PacketFilter: [rule("100.64.0.5")] }, ["100.64.0.5", "100.64.0.6"]],
      ["an empty one admits nobody by itself", { PacketFilter: [] }, ["100.64.0.6"]],
    ])("filters: %s", async (_what, message, wanted) => {
      control.say(message as MapResponse);
      await until("the rules", sources, (found) => String(found) === String(wanted));
    });

    test("display messages come and go by name, for clients that know them; the older kind is a list", async () => {
      const DisplayMessages = { "test-msg": { Title: "A title", Text: "And a text.", Severity: "high" } };
      control.say({ DisplayMessages } as MapResponse);
      if (version() >= DISPLAY_MESSAGES_SINCE) {
        await until("the message", health, (lines) => lines.includes("A title: And a text."));
      }
      control.say({ DisplayMessages: { "test-msg": null } } as MapResponse);
      await until("it to go", health, (lines) => !lines.some((line) => line.includes("And a text.")));
      control.say({ Health: ["older words"] });
      await until("the words", health, (lines) => lines.some((line) => line.includes("older words")));
      control.say({ Health: [] });
      await until("them to go", health, (lines) => !lines.some((line) => line.includes("older words")));
    });

    test.each<[string, MapResponse, number]>([
      ["without DNS", { DNSConfig: null } as never, 1],
      ["without filters", { PacketFilter: undefined } as never, 1],
      ["with an empty list of peers", { Peers: [] }, 0],
      ["without peers", { Peers: undefined } as never, 0],
      [
        "with several named filters",
        { PacketFilter: undefined, PacketFilters: { one: [rule("*")], two: [rule("*")] } } as never,
        1,
      ],
      [
        "with display messages",
        { DisplayMessages: { m: { Title: "From the first", Text: "one.", Severity: "low" } } } as never,
        1,
      ],
      ["without a relay map", { DERPMap: undefined } as never, 1],
      ["without domain and profiles", { Domain: undefined, UserProfiles: undefined } as never, 1],
    ])("a first message %s: the client is up", async (_what, more, count) => {
      await begin(more);
      const isIn = ({ BackendState, Peer }: Status) =>
        BackendState === "Running" && Object.keys(Peer ?? {}).length === count;
      await until("it to be up", status, isIn, 30_000);
    });

    test("no filter in the first message: nobody is let in until there is one", async () => {
      await begin({ PacketFilter: undefined } as never);
      await until("no rules", sources, (found) => found.length === 0);
      control.say({ PacketFilter: [rule("100.64.0.2")] });
      await until("rules", sources, (found) => found.length === 1);
    });

    test("c2n: the request is answered as a whole HTTP message, not twice for one URL", async () => {
      control.others.length = 0;
      const ask = (to: string, text: string) =>
        control.say({
          PingRequest: {
            URL: `${lab.url}/machine/${to}`,
            URLIsNoise: true,
            Types: "c2n",
            Payload: Buffer.from(text).toString("base64"),
          },
        } as MapResponse);
      ask("c2n/1", "POST /echo HTTP/1.1\r\nHost: unused\r\nContent-Length: 5\r\n\r\nhello");
      expect(await answerTo("/machine/c2n/1")).toMatch(/^HTTP\/1\.1 200 OK\r\n.*\r\n\r\nhello$/s);
      ask("c2n/2", "GET /nowhere HTTP/1.1\r\nHost: unused\r\n\r\n");
      expect(await answerTo("/machine/c2n/2")).toMatch(/^HTTP\/1\.1 400 /);
      ask("c2n/2", "GET /nowhere HTTP/1.1\r\nHost: unused\r\n\r\n");
      ask("c2n/3", "POST /echo HTTP/1.1\r\nHost: unused\r\nContent-Length: 4\r\n\r\nlast");
      await answerTo("/machine/c2n/3");
      expect(control.others.filter(({ path }) => path === "/machine/c2n/2")).toHaveLength(1);
    });

    test("a ping without a type is answered by HEAD", async () => {
      control.say({ PingRequest: { URL: `${lab.url}/machine/alive`, URLIsNoise: true } } as MapResponse);
      await answerTo("/machine/alive");
      expect(control.others.find(({ path }) => path === "/machine/alive")?.method).toBe("HEAD");
    });

    test("id-token and set-device-attr, granted and refused", async () => {
      control.answerOther = (path) => ({ status: 200, body: path.endsWith("id-token") ? { id_token: "a.b.c" } : {} });
      expect(await local("GET", "id-token?aud=there")).toEqual({ status: 200, body: expect.stringContaining("a.b.c") });
      expect(await answerTo("/machine/id-token")).toMatchObject({ NodeKey: key(), Audience: "there" });
      const attrs = '{"custom:x":"y","custom:gone":null}';
      expect((await local("PATCH", "alpha-set-device-attrs", attrs)).status).toBe(200);
      expect(await answerTo("/machine/set-device-attr")).toMatchObject({
        NodeKey: key(),
        Update: { "custom:x": "y", "custom:gone": null },
      });
      control.answerOther = () => ({ status: 501, body: "not implemented\n" });
      expect((await local("GET", "id-token?aud=there")).status).toBe(501);
      expect((await local("PATCH", "alpha-set-device-attrs", attrs)).body).toMatch(/501.*not implemented/);
    });

    test("the server ends the stream and does not know the node: it asks on, registers nothing, and is offline", async () => {
      await begin({});
      await isState("Running");
      const registers = control.registers.length;
      control.mapStatus = 404;
      control.hangUp();
      await until(
        "the refusals",
        async () => control.refused,
        (count) => count >= 3,
        60_000,
      );
      const seen = await until("it to be offline", status, ({ Self }) => !Self.Online, 30_000);
      expect([seen.BackendState, control.registers.length - registers]).toEqual(["Running", 0]);
      control.mapStatus = 200;
      await until("it to be back", status, ({ Self }) => Self.Online, 90_000);
    });

    test("said to be expired: it needs a login, asks on for its map, and is up again when that says so", async () => {
      await begin({});
      await isState("Running");
      const registers = control.registers.length;
      const expired = { Node: control.self(key(), { KeyExpiry: LONG_AGO }) };
      control.say(expired);
      await isState("NeedsLogin");
      await begin(expired);
      await isState("NeedsLogin");
      await begin({});
      await isState("Running");
      expect(control.registers.length).toBe(registers);
    });

    test("429 on register: `up` fails, the client asks again by itself, and is up", async () => {
      control.answerRegister = () => "busy";
      const flags = ["--login-server", lab.url, "--auth-key", "any-key", "--hostname=wire", "--accept-dns=false"];
      const refused = await node.cli("up", "--timeout=12s", "--force-reauth", ...flags);
      // Clients of 1.82 say that they are up before they have asked; those of 1.90 say nothing.
      const word = /rate limited; will retry after|timeout waiting/;
      if (version() >= DISPLAY_MESSAGES_SINCE) expect(refused.stderr).toMatch(word);
      control.answerRegister = ScriptedControl.admits;
      const before = control.registers.length;
      await until(
        "the next try",
        async () => control.registers.length,
        (count) => count > before,
        60_000,
      );
      await isState("Running");
    });
  },
);
