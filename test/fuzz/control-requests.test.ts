import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { FakeClock } from "../../src/base/clock.ts";
import { Fault } from "../../src/base/fault.ts";
import { silentLog } from "../../src/base/log.ts";
import { seededRandom } from "../../src/base/random.ts";
import type { MapSink } from "../../src/coordination/control-handler.ts";
import { Coordinator } from "../../src/coordination/coordinator.ts";
import { compilePolicy } from "../../src/coordination/policy/policy.ts";
import { MemoryCoordinationStore } from "../../src/coordination/store/memory-store.ts";
import { checkMapResponse } from "../../src/wire/map-check.ts";
import type { MapRequest, MapResponse, RegisterRequest } from "../../src/wire/tailcfg.ts";
import { expectUnpolluted, FUZZ_TIMEOUT_MS, holds, NASTY, type Path, pathsIn, withValue } from "./fuzzing.ts";

const hex = (digit: string): string => digit.repeat(64);
const hostinfo = {
  ...{
    Hostname: "laptop",
    OS: "linux",
    IPNVersion: "1.90",
    GoArch: "amd64",
    RoutableIPs: ["10.0.0.0/8"],
    Userspace: true,
  },
  ...{ RequestTags: [], Services: [{ Proto: "peerapi4", Port: 1, Description: "x" }] },
  NetInfo: { PreferredDERP: 1, WorkingUDP: true, DERPLatency: { "1-v4": 0.1 }, MappingVariesByDestIP: false },
  Location: { Country: "x", Latitude: 1.5, Priority: 1 },
};
const register = {
  ...{ Version: 130, NodeKey: `nodekey:${hex("2")}`, OldNodeKey: `nodekey:${hex("0")}`, Hostinfo: hostinfo },
  ...{ Auth: { AuthKey: "" }, Expiry: "2027-01-01T00:00:00Z", Ephemeral: false, Followup: "", Tailnet: "" },
};
const map = {
  ...{ Version: 130, NodeKey: `nodekey:${hex("2")}`, DiscoKey: `discokey:${hex("3")}`, Hostinfo: hostinfo },
  ...{
    Stream: true,
    KeepAlive: true,
    OmitPeers: false,
    Compress: "zstd",
    Endpoints: ["192.0.2.1:1"],
    EndpointTypes: [1],
  },
  ...{ MapSessionHandle: "", MapSessionSeq: 0, DebugFlags: ["x"], TKAHead: "" },
};
const other = {
  NodeKey: `nodekey:${hex("2")}`,
  Feature: "serve",
  Action: "DISCONNECT_NODE",
  Details: "x",
  Name: "n",
  Type: "TXT",
};

/** What one node is told. */
class Ear implements MapSink {
  readonly heard: MapResponse[] = [];
  readonly #end = new AbortController();
  readonly closed: AbortSignal = this.#end.signal;
  send(response: MapResponse): boolean {
    this.heard.push(JSON.parse(JSON.stringify(response)) as MapResponse);
    return true;
  }
  end(): void {}
  hangUp(): void {
    this.#end.abort();
  }
}

test("CS-15 whatever a node says of itself, others hear well-formed maps and the server stands", {
  timeout: FUZZ_TIMEOUT_MS,
}, async () => {
  const clock = new FakeClock();
  const coordinator = await Coordinator.open({
    ...{
      store: new MemoryCoordinationStore(),
      clock,
      random: seededRandom(7),
      log: silentLog,
      baseDomain: "tail.test",
    },
    ...{ serverUrl: "https://control.test", derpMap: () => ({ Regions: {} }), policy: compilePolicy("") },
  });
  onTestFinished(() => coordinator.close());
  await coordinator.createUser({ login: "ada@example.com", displayName: "Ada" }, "root");
  const { key } = await coordinator.createAuthKey({ user: "ada@example.com", reusable: true }, "root");
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 30; i++) await Promise.resolve();
    clock.advance(1000);
    for (let i = 0; i < 30; i++) await Promise.resolve();
  };
  const joining = (digit: string, request: unknown) =>
    coordinator.register(`mkey:${hex(digit)}`, request as RegisterRequest, AbortSignal.abort());
  const whole = { ...register, Auth: { AuthKey: key } };

  const ear = new Ear();
  const NodeKey = `nodekey:${hex("1")}`;
  expect(await joining("a", { ...whole, NodeKey, OldNodeKey: "" })).toMatchObject({
    MachineAuthorized: true,
    Error: "",
  });
  const listening = coordinator.map(`mkey:${hex("a")}`, { Version: 130, NodeKey, Stream: true } as MapRequest, ear);

  const places = { register: pathsIn(whole), map: pathsIn(map), other: pathsIn(other) };
  const kinds = fc.constantFrom<keyof typeof places>("register", "map", "other");
  const place: fc.Arbitrary<[keyof typeof places, Path]> = kinds.chain((kind) =>
    fc.constantFrom(...places[kind].map((path): [typeof kind, Path] => [kind, path])),
  );
  let messages = 0;
  const property = fc.asyncProperty(place, fc.constantFrom(...NASTY), async ([kind, path], value) => {
    const told: MapResponse[] = [];
    const machine = `mkey:${hex("b")}`;
    await joining("b", whole);
    try {
      if (kind === "register") await joining("b", withValue(whole, path, value));
      else if (kind === "other") {
        const body = withValue(other, path, value);
        for (const name of ["feature/query", "audit-log", "set-dns", "update-health", "__proto__", "ssh/action/1"]) {
          await coordinator.other(machine, "POST", `/machine/${name}`, body);
        }
      } else {
        for (const shape of [{ ...map, Stream: false, OmitPeers: true }, map]) {
          const sink = new Ear();
          const answering = coordinator.map(machine, withValue(shape, path, value) as MapRequest, sink);
          answering.catch(() => undefined); // it is looked at below
          await settle();
          sink.hangUp();
          told.push(...sink.heard);
          await answering;
        }
      }
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown;
    }
    await settle();
    for (const message of [...ear.heard.splice(0), ...told]) {
      expect(checkMapResponse(message).rejected).toEqual({});
      messages++;
    }
    expect(coordinator.nodes().length).toBeLessThanOrEqual(4);
    expectUnpolluted();
  });
  await holds(property, 250);
  expect(messages).toBeGreaterThan(50); // or nobody would have listened
  ear.hangUp();
  await listening;
});
