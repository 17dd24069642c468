import net from "node:net";
import { concatBytes, fromHex, toHex } from "../../src/base/bytes.ts";
import { systemRandom } from "../../src/base/random.ts";
import { formatKey, generatePrivateKey, parseKey, publicKeyOf } from "../../src/crypto/keys.ts";
import { NoiseInitiator, respondNoise } from "../../src/crypto/noise.ts";
import { noiseRecords } from "../../src/mesh/control/noise-channel.ts";
import {
  CONTROL_HEADER_BYTES,
  controlPrologue,
  decodeHandshakeAnswer,
  decodeInitiation,
  encodeInitiation,
  encodeResponse,
  HANDSHAKE_HEADER,
} from "../../src/wire/control.ts";
import { DERP, DerpFrameReader } from "../../src/wire/derp.ts";
import type { Entry } from "./recording.ts";

export interface TapOptions {
  readonly address: string;
  /** Where the client is told to go, and where the server listens. */
  readonly port: number;
  readonly behind: number;
  readonly note: (entry: Entry) => void;
  readonly now: () => number;
  readonly nextId: () => number;
}

const END = "\r\n\r\n";

/** Reads an HTTP head off a socket; what follows stays with the caller. */
function readHead(socket: net.Socket): Promise<{ head: string; rest: Uint8Array }> {
  return new Promise((resolve, reject) => {
    let held = Buffer.alloc(0);
    const read = (chunk: Buffer): void => {
      held = Buffer.concat([held, chunk]);
      const end = held.indexOf(END);
      if (end < 0) return;
      socket.off("data", read);
      socket.pause();
      resolve({ head: held.subarray(0, end + 4).toString("latin1"), rest: new Uint8Array(held.subarray(end + 4)) });
    };
    socket.on("data", read);
    socket.once("close", () => reject(new Error("closed")));
  });
}

function listen(options: TapOptions, serve: (client: net.Socket) => Promise<void>): net.Server {
  const server = net.createServer((client) => {
    client.on("error", () => client.destroy());
    serve(client).catch(() => client.destroy());
  });
  server.listen(options.port, options.address);
  return server;
}

/** Between a client and a coordination server. `privateKeyOf` finds the private half of a machine key. */
export function tapControl(options: TapOptions, privateKeyOf: (publicKey: string) => string | undefined): net.Server {
  const { address, behind, note, now, nextId } = options;
  const own = generatePrivateKey(systemRandom);
  let serverKey: Uint8Array | undefined;
  const dial = (): net.Socket => {
    const socket = net.connect(behind, address);
    socket.on("error", () => socket.destroy());
    return socket;
  };

  return listen(options, async (client) => {
    const { head, rest } = await readHead(client);
    const server = dial();
    client.on("close", () => server.destroy());
    server.on("close", () => client.end());
    if (head.startsWith("GET /key")) {
      server.write(head.replace(/\r\nConnection: [^\r]*/i, "").replace(END, `\r\nConnection: close${END}`));
      let answer = "";
      server.on("data", (chunk) => {
        answer += String(chunk);
      });
      server.on("end", () => {
        const found = /mkey:[0-9a-f]{64}/.exec(answer.slice(answer.indexOf('"publicKey"')))![0];
        serverKey = parseKey("mkey", found);
        client.end(answer.replace(found, formatKey("mkey", publicKeyOf(own))));
      });
      return;
    }
    const handshake = new RegExp(`^${HANDSHAKE_HEADER}: (\\S+)`, "im").exec(head)?.[1];
    if (handshake === undefined) {
      server.write(head);
      server.write(rest);
      client.pipe(server, { end: false });
      server.pipe(client);
      return;
    }
    const frame = decodeInitiation(Buffer.from(handshake, "base64"))!;
    const responder = { privateKey: toHex(own), ephemeral: toHex(generatePrivateKey(systemRandom)) };
    const prologue = controlPrologue(frame.version);
    const answered = respondNoise({
      prologue,
      staticKey: own,
      ephemeralKey: fromHex(responder.ephemeral)!,
      initiation: frame.payload,
    })!;
    const machineKey = privateKeyOf(formatKey("mkey", answered.session.peerKey));
    if (machineKey === undefined || serverKey === undefined) throw new Error("a stranger's machine key");
    const initiator = {
      privateKey: machineKey,
      ephemeral: toHex(generatePrivateKey(systemRandom)),
      serverKey: toHex(serverKey),
    };
    const started = NoiseInitiator.start({
      prologue,
      staticKey: fromHex(machineKey)!,
      ephemeralKey: fromHex(initiator.ephemeral)!,
      responderKey: serverKey,
    })!;
    const id = nextId();
    note({ kind: "control", at: now(), id, responder, initiator });
    const bytes = (way: "up" | "down", chunk: Uint8Array) =>
      note({ kind: "bytes", at: now(), id, way, bytes: Buffer.from(chunk).toString("base64") });
    bytes("up", concatBytes(Buffer.from(head, "latin1"), rest));
    const ours = Buffer.from(encodeInitiation(frame.version, started.initiation)).toString("base64");
    server.write(head.replace(handshake, ours));
    const upgraded = await readHead(server);
    let held = upgraded.rest;
    server.resume();
    let answer = decodeHandshakeAnswer(held);
    while (answer === undefined) {
      held = concatBytes(held, await new Promise<Uint8Array>((resolve) => server.once("data", resolve)));
      answer = decodeHandshakeAnswer(held);
    }
    bytes("down", concatBytes(Buffer.from(upgraded.head, "latin1"), held));
    const behindSession = started.initiator.finish(answer.payload)!;
    const toClient = noiseRecords(answered.session);
    const toServer = noiseRecords(behindSession);
    client.write(upgraded.head);
    client.write(encodeResponse(answered.response));
    const up = reseal(toClient, toServer, (record) => server.write(record));
    const down = reseal(toServer, toClient, (record) => client.write(record));
    down(answer.rest);
    up(rest);
    client.on("data", (chunk: Buffer) => {
      bytes("up", chunk);
      up(chunk);
    });
    server.on("data", (chunk: Buffer) => {
      bytes("down", chunk);
      down(chunk);
    });
    client.on("end", () => note({ kind: "end", at: now(), id, way: "up" }));
    server.on("end", () => note({ kind: "end", at: now(), id, way: "down" }));
    client.resume();
    server.resume();
  });
}

type Codec = ReturnType<typeof noiseRecords>;

/** Whole records of one session become records of another. */
function reseal(from: Codec, to: Codec, write: (record: Uint8Array) => void): (chunk: Uint8Array) => void {
  let held: Uint8Array = new Uint8Array(0);
  return (chunk) => {
    held = concatBytes(held, chunk);
    while (held.length >= CONTROL_HEADER_BYTES) {
      const end = CONTROL_HEADER_BYTES + from.bodyLength(held.subarray(0, CONTROL_HEADER_BYTES));
      if (held.length < end) return;
      write(to.seal(from.open(held.slice(CONTROL_HEADER_BYTES, end))));
      held = held.slice(end);
    }
  };
}

/** Between a client and a relay without TLS: nothing has to be opened. */
export function tapDerp(
  options: TapOptions,
  serverPrivateKey: () => string,
  privateKeyOf: (publicKey: string) => string | undefined,
): net.Server {
  const { address, behind, note, now, nextId } = options;
  return listen(options, async (client) => {
    const server = net.connect(behind, address);
    server.on("error", () => server.destroy());
    const id = nextId();
    const early: Entry[] = [];
    let isKnown = false;
    const add = (entry: Entry): void => void (isKnown ? note(entry) : early.push(entry));
    const bytes = (way: "up" | "down", chunk: Uint8Array) =>
      add({ kind: "bytes", at: now(), id, way, bytes: Buffer.from(chunk).toString("base64") });
    let head = Buffer.alloc(0);
    const reader = new DerpFrameReader(1 << 20);
    /** ClientInfo begins with the node's public key. */
    const look = (chunk: Uint8Array): void => {
      if (isKnown) return;
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf(END);
      if (end < 0) return;
      const body = head.subarray(end + 4);
      head = head.subarray(0, end + 4);
      reader.push(body, (type, payload) => {
        if (type !== DERP.clientInfo || isKnown) return;
        const node = privateKeyOf(toHex(payload.subarray(0, 32)));
        if (node === undefined) return;
        isKnown = true;
        note({ kind: "derp", at: now(), id, node, server: serverPrivateKey() });
        for (const entry of early) note(entry);
      });
    };
    client.on("data", (chunk: Buffer) => {
      bytes("up", chunk);
      look(chunk);
      server.write(chunk);
    });
    server.on("data", (chunk: Buffer) => {
      bytes("down", chunk);
      client.write(chunk);
    });
    client.on("close", () => {
      add({ kind: "end", at: now(), id, way: "up" });
      server.destroy();
    });
    server.on("close", () => {
      add({ kind: "end", at: now(), id, way: "down" });
      client.destroy();
    });
  });
}
