import { parsePrefix } from "../src/base/address.ts";
import { fromHex } from "../src/base/bytes.ts";
import { systemClock } from "../src/base/clock.ts";
import { silentLog } from "../src/base/log.ts";
import { systemRandom } from "../src/base/random.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../src/crypto/keys.ts";
import { DataPlane } from "../src/mesh/data-plane.ts";
import type { UdpKind } from "../src/mesh/udp/udp-io.ts";
import type { NetworkMap } from "../src/wire/network-map.ts";
import type { Node } from "../src/wire/tailcfg.ts";
import { IperfServer } from "./iperf-server.ts";

/** All that moves packets in our node, with peers from the command line in place of a coordination server. */
export interface TunnelArguments {
  /** Hex. */
  readonly privateKey: string;
  readonly peerKey: string;
  readonly endpoint: string;
  readonly address: string;
  readonly peerAddress: string;
  /** Peers that only are there. */
  readonly idlePeers: number;
  readonly udp?: UdpKind;
  readonly ports: readonly number[];
}

const options = JSON.parse(process.argv[2]!) as TunnelArguments;
const plane = await DataPlane.open({
  nodeKey: fromHex(options.privateKey)!,
  discoKey: generatePrivateKey(systemRandom),
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
  port: 0,
  ...(options.udp === undefined ? {} : { udp: options.udp }),
  derpMap: () => ({ Regions: {} }),
  serverWall: () => Date.now(),
  timestampFloor: 0,
  onTimestamp: () => {},
  onEndpoints: () => {},
  onNetInfo: () => {},
});

function node(id: number, key: Uint8Array, address: string, endpoint: string): Node {
  return {
    ID: id,
    StableID: `n${id}`,
    Name: `n${id}.bench.test.`,
    User: 1,
    Key: formatKey("nodekey", key),
    Addresses: [`${address}/32`],
    Endpoints: [endpoint],
    IsWireGuardOnly: true,
  };
}

const peers = new Map([[2, node(2, fromHex(options.peerKey)!, options.peerAddress, options.endpoint)]]);
for (let i = 0; i < options.idlePeers; i++) {
  const key = publicKeyOf(generatePrivateKey(systemRandom));
  peers.set(3 + i, node(3 + i, key, `10.95.${i >> 8}.${i & 255}`, "10.96.0.1:9"));
}
const map: NetworkMap = {
  self: node(1, plane.nodeKey, options.address, "10.96.0.2:9"),
  peers,
  users: new Map(),
  derpMap: { Regions: {} },
  dns: {},
  packetFilter: [{ SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65_535 } }] }],
  domain: "bench.test",
  health: [],
};
plane.setMap(map, { own: [parsePrefix(options.address)!], served: [], rules: [], isDerpMapNew: false });
const server = new IperfServer();
for (const port of options.ports) plane.netstack.listenTcp(port, (conn) => server.accept(conn));
console.log(JSON.stringify({ port: plane.port, ...plane.means }));
process.on("SIGTERM", () => process.exit());
process.stdin.on("end", () => process.exit());
process.stdin.on("data", () => console.log(JSON.stringify({ ...plane.datapath.counters, ...plane.wireguard.drops })));
