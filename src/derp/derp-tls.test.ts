import { createHash, X509Certificate } from "node:crypto";
import { createServer } from "node:https";
import { connect } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { relayOf } from "../../test/suites/derp-house.ts";
import { listening } from "../../test/suites/listening.ts";
import { createMetaCertificate } from "../../test/suites/meta-certificate.ts";
import { certificateOf } from "../../test/suites/proxy-scene.ts";
import { toHex } from "../base/bytes.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { seededRandom } from "../base/random.ts";
import { BOX_NONCE_BYTES, boxKey, sealBox } from "../crypto/box.ts";
import { generatePrivateKey, publicKeyOf } from "../crypto/keys.ts";
import { DerpClients } from "../mesh/derp/derp-clients.ts";
import { connectRegion } from "../mesh/derp/derp-connection.ts";
import { DERP, DerpFrameReader, encodeDerpFrame } from "../wire/derp.ts";
import type { DerpNode, DerpRegion } from "../wire/tailcfg.ts";

async function relay() {
  const { cert, key } = await certificateOf("derp.example");
  const random = seededRandom(11);
  const server = relayOf(random);
  const meta = await createMetaCertificate(server.publicKey, Date.now());
  const https = createServer({ key, cert: `${cert}\n${meta}` });
  server.attach(https);
  const port = await listening(https);
  onTestFinished(() => {
    server.close();
    https.closeAllConnections();
    https.close();
  });
  const pin = createHash("sha256").update(new X509Certificate(cert).raw).digest("hex");
  const region = (node: Partial<DerpNode>): DerpRegion => ({
    RegionID: 1,
    RegionCode: "a",
    RegionName: "A",
    Nodes: [{ Name: "1a", RegionID: 1, HostName: "derp.example", IPv4: "127.0.0.1", DERPPort: port, ...node }],
  });
  return { server, pin, port, region, random };
}

test("pinned and test certificates connect; an unknown authority, a wrong pin and a wrong name do not", async () => {
  const { pin, region } = await relay();
  const { signal } = new AbortController();
  const connect = async (node: Partial<DerpNode>): Promise<string> => {
    try {
      (await connectRegion(region(node), signal)).destroy();
      return "connected";
    } catch (thrown) {
      return (thrown as { code: string }).code;
    }
  };
  expect(await connect({ CertName: `sha256-raw:${pin}` })).toBe("connected");
  expect(await connect({ InsecureForTests: true })).toBe("connected");
  expect(await connect({})).toBe("DERP_UNREACHABLE");
  expect(await connect({ CertName: `sha256-raw:${"0".repeat(64)}` })).toBe("DERP_UNREACHABLE");
  expect(await connect({ CertName: `sha256-raw:${pin}`, HostName: "other.example" })).toBe("DERP_UNREACHABLE");
  expect(await connect({ STUNOnly: true })).toBe("DERP_UNREACHABLE");
});

test("two clients talk through a relay over TLS, and come back after the relay lost them", async () => {
  const { server, pin, region, random } = await relay();
  const map = { Regions: { 1: region({ CertName: `sha256-raw:${pin}` }) } };
  const keys = [generatePrivateKey(random), generatePrivateKey(random)] as const;
  const got: number[] = [];
  let connections = 0;
  const clients = keys.map(
    (nodePrivateKey) =>
      new DerpClients({
        nodePrivateKey,
        random,
        clock: systemClock,
        log: silentLog,
        map: () => map,
        onPacket: (_region, _source, payload) => void got.push(payload[0]!),
        onConnected: () => void connections++,
      }),
  );
  onTestFinished(() => {
    for (const client of clients) client.close();
  });
  const until = (done: () => boolean) => expect.poll(done, { timeout: 20_000, interval: 5 }).toBe(true);
  clients[1]!.setHome(1);
  await until(() => server.clients === 1);
  clients[0]!.send(1, publicKeyOf(keys[1]), Uint8Array.of(1));
  await until(() => got.length === 1);
  expect(clients[0]!.connected).toEqual([1]);
  server.disconnectAll();
  await until(() => connections === 4 && server.clients === 2);
  clients[0]!.send(1, publicKeyOf(keys[1]), Uint8Array.of(2));
  await until(() => got.length === 2);
  expect(got).toEqual([1, 2]);
});

test("a stock client learns the relay's key from the TLS handshake and sends all at once; no HTTP answers it", async () => {
  const { server, port, random } = await relay();
  const told = new X509Certificate(await createMetaCertificate(server.publicKey, Date.now()));
  expect([told.subject, told.serialNumber]).toEqual([`CN=derpkey${toHex(server.publicKey)}`, "02"]);

  const privateKey = generatePrivateKey(random);
  const nonce = random(BOX_NONCE_BYTES);
  const info = new TextEncoder().encode(JSON.stringify({ version: 2, CanAckPings: true }));
  const box = sealBox(boxKey(privateKey, server.publicKey)!, nonce, info);
  const head = "GET /derp HTTP/1.1\r\nHost: x\r\nUpgrade: DERP\r\nConnection: Upgrade\r\nDerp-Fast-Start: 1\r\n\r\n";
  const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  socket.write(
    Buffer.concat([Buffer.from(head), encodeDerpFrame(DERP.clientInfo, publicKeyOf(privateKey), nonce, box)]),
  );
  const types: number[] = [];
  const reader = new DerpFrameReader(1 << 20);
  for await (const chunk of socket) {
    reader.push(chunk as Uint8Array, (type) => void types.push(type));
    if (types.length >= 2) break;
  }
  expect(types).toEqual([DERP.serverKey, DERP.serverInfo]);
  expect(server.clients).toBe(1);
});
