import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:http2";
import { Duplex } from "node:stream";
import { afterEach, expect, test } from "vitest";
import { listening } from "../../../test/suites/listening.ts";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { seededRandom } from "../../base/random.ts";
import { RecordDuplex } from "../../base/record-duplex.ts";
import { formatKey, generatePrivateKey, publicKeyOf } from "../../crypto/keys.ts";
import { NoiseInitiator } from "../../crypto/noise.ts";
import { noiseRecords } from "../../mesh/control/noise-channel.ts";
import {
  controlPrologue,
  decodeHandshakeAnswer,
  encodeInitiation,
  HANDSHAKE_HEADER,
  UPGRADE_PROTOCOL,
} from "../../wire/control.ts";
import { ControlEndpoint } from "./control-endpoint.ts";

const VERSION = 113;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A WebSocket as a byte stream: Node's own client (undici), not ours. */
function streamOf(socket: WebSocket): Duplex {
  socket.binaryType = "arraybuffer";
  const stream = new Duplex({
    read() {},
    write(chunk: Uint8Array<ArrayBuffer>, _encoding, done) {
      socket.send(chunk);
      done();
    },
    destroy(error, done) {
      socket.close();
      done(error);
    },
  });
  socket.addEventListener("message", ({ data }) => void stream.push(Buffer.from(data as ArrayBuffer)));
  socket.addEventListener("close", () => void stream.push(null));
  return stream;
}

async function serve() {
  const random = seededRandom(31);
  const serverKey = generatePrivateKey(random);
  const machines: string[] = [];
  const endpoint = new ControlEndpoint({
    privateKey: serverKey,
    handler: {
      register: async (machineKey) => {
        machines.push(machineKey);
        return { MachineAuthorized: true };
      },
      map: async () => {},
      other: async () => ({ status: 404, body: "unknown" }),
    },
    log: silentLog,
    clock: systemClock,
    random,
  });
  const server = createServer();
  endpoint.attach(server);
  const port = await listening(server);
  closers.push(
    () => server.close(),
    () => endpoint.close(),
  );
  return { random, serverKey, machines, port };
}

test("a client that comes by WebSocket, as upstream's do in browsers, registers like any other", async () => {
  const { random, serverKey, machines, port } = await serve();
  const machineKey = generatePrivateKey(random);
  const started = NoiseInitiator.start({
    prologue: controlPrologue(VERSION),
    staticKey: machineKey,
    ephemeralKey: generatePrivateKey(random),
    responderKey: publicKeyOf(serverKey),
  })!;
  const handshake = Buffer.from(encodeInitiation(VERSION, started.initiation)).toString("base64");
  const url = `ws://127.0.0.1:${port}/ts2021?${HANDSHAKE_HEADER}=${encodeURIComponent(handshake)}`;
  const socket = new WebSocket(url, UPGRADE_PROTOCOL);
  const stream = streamOf(socket);
  await once(socket, "open");
  expect(socket.protocol).toBe(UPGRADE_PROTOCOL);
  let held = new Uint8Array(0);
  let answer = decodeHandshakeAnswer(held);
  while (answer === undefined) {
    await once(stream, "readable"); // what comes after the answer waits for whoever reads it
    held = Uint8Array.from([...held, ...((stream.read() as Buffer | null) ?? [])]);
    answer = decodeHandshakeAnswer(held);
  }
  const session = started.initiator.finish(answer.payload)!;
  const records = new RecordDuplex(stream, noiseRecords(session), answer.rest);
  const http2 = connect("https://control.test", { createConnection: () => records });
  closers.push(() => http2.destroy());
  const request = http2.request({ ":method": "POST", ":path": "/machine/register" });
  request.end(JSON.stringify({ Version: VERSION, NodeKey: `nodekey:${"1".repeat(64)}` }));
  let body = "";
  for await (const chunk of request) body += String(chunk);
  expect(JSON.parse(body)).toEqual({ MachineAuthorized: true });
  expect(machines).toEqual([formatKey("mkey", publicKeyOf(machineKey))]);
});

test.each([
  ["without a handshake", ""],
  ["with one that is no base64", `?${HANDSHAKE_HEADER}=%00`],
])("a WebSocket %s is refused", async (_, query) => {
  const { port } = await serve();
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ts2021${query}`, UPGRADE_PROTOCOL);
  await once(socket, "error");
  expect(socket.readyState).toBe(WebSocket.CLOSED);
});
