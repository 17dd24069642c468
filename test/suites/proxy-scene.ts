import { listening } from "./listening.ts";
import "reflect-metadata";
import { webcrypto } from "node:crypto";
import http2, { type ClientHttp2Session } from "node:http2";
import net from "node:net";
import { Duplex } from "node:stream";
import tls from "node:tls";
import * as x509 from "@peculiar/x509";
import { systemClock } from "../../src/base/clock.ts";
import type { Proof } from "../../src/base/conn.ts";
import { connPair } from "../../src/base/conn-pair.ts";
import { asDuplex, type ConnDuplex } from "../../src/base/duplex.ts";
import type { Fault } from "../../src/base/fault.ts";
import { silentLog } from "../../src/base/log.ts";
import type { Caller, Callers } from "../../src/identity/caller.ts";
import type { ProxyOptions } from "../../src/proxy/options.ts";
import { ReverseProxy } from "../../src/proxy/proxy.ts";
import type { HttpHandler, ServeConfig } from "../../src/wire/serve-config.ts";

export const GATE = "gw.tail.test";

export const ALICE: Extract<Caller, { kind: "user" }> = {
  kind: "user",
  nodeKey: "aa",
  nodeName: "alice.tail.test",
  login: "alice@example.com",
  displayName: "Alice",
  profilePicture: "",
  address: "100.64.0.2",
};

/** One proxy in memory, and connections to it from a peer of the mesh. */
export interface ProxyScene {
  readonly proxy: ReverseProxy;
  readonly revoke: AbortController;
  caller: Caller | Fault;
  /** `nodeKey`: of another peer than the usual one. */
  connect(port: number, nodeKey?: string): ConnDuplex;
  /** From the Internet, by way of a relay. */
  visit(port: number): ConnDuplex;
}

const cleanups: (() => unknown)[] = [];

/** For `afterEach`: closes whatever this file opened. */
export async function closeScenes(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export function onClose(cleanup: () => unknown): void {
  cleanups.push(cleanup);
}

/** Ports 80 and 443 with these handlers. */
export function webConfig(Handlers: Readonly<Record<string, HttpHandler>>): ServeConfig {
  return {
    TCP: { 80: { HTTP: true }, 443: { HTTPS: true } },
    Web: { [`${GATE}:80`]: { Handlers }, [`${GATE}:443`]: { Handlers } },
  };
}

export function proxyScene(config: ServeConfig, options: Partial<ProxyOptions> = {}): ProxyScene {
  const revoke = new AbortController();
  const made = { caller: ALICE as Caller | Fault };
  const callers: Callers = {
    of: () => made.caller,
    capabilities: () => undefined,
    epoch: 0,
    revoked: () => revoke.signal,
  };
  const proxy = new ReverseProxy({
    config: () => config,
    selfName: () => GATE,
    callers,
    secureContext: async () => tls.createSecureContext(await certificateOf(GATE)),
    log: silentLog,
    clock: systemClock,
    ...options,
  });
  onClose(() => proxy.close());
  const accepted = (proof: Proof): ConnDuplex => {
    const [near, far] = connPair(proof);
    proxy.accept(far, proof.destination.port);
    const client = asDuplex(near);
    client.on("error", () => void client.destroy());
    onClose(() => client.destroy());
    return client;
  };
  const from = (port: number, address: string) => ({
    source: { address, port: 40_000 },
    destination: { address: "100.64.0.1", port },
  });
  const connect = (port: number, nodeKey = "aa"): ConnDuplex =>
    accepted({ kind: "mesh", nodeKey, ...from(port, "100.64.0.2") });
  const visit = (port: number): ConnDuplex => {
    const { source: visitor, destination } = from(port, "198.51.100.7");
    return accepted({ kind: "ingress", nodeKey: "ee", visitor, destination });
  };
  return Object.assign(made, { proxy, revoke, connect, visit });
}

/** A backend that is only a socket: the test says every byte. `connections` counts them. */
export interface RawBackend {
  readonly port: number;
  readonly connections: net.Socket[];
}

export async function rawBackend(
  onConnection: (socket: net.Socket, index: number) => void,
  options: tls.TlsOptions | net.ServerOpts = {},
): Promise<RawBackend> {
  const connections: net.Socket[] = [];
  const onSocket = (socket: net.Socket): void => {
    socket.on("error", () => void socket.destroy());
    onConnection(socket, connections.push(socket) - 1);
  };
  const server = "key" in options ? tls.createServer(options, onSocket) : net.createServer(options, onSocket);
  onClose(() => {
    for (const socket of connections) socket.destroy();
    server.close();
  });
  return { port: await listening(server), connections };
}

/** A backend connection that is never there. */
export class Connecting extends Duplex {
  readonly connecting = true;
  written = 0;
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.written += chunk.length;
    done();
  }
}

/** Calls `respond` for every whole head that arrives, with the head as text. */
export function onHeads(socket: net.Socket, respond: (head: string, socket: net.Socket) => void): void {
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
      const head = text.slice(0, end + 4);
      text = text.slice(end + 4);
      respond(head, socket);
    }
  });
}

/** Everything that the stream says until `until` holds or it ends; `isCut` when it did not end by itself. */
export function read(
  stream: NodeJS.ReadableStream,
  until: (text: string) => boolean = () => false,
): Promise<{ text: string; isCut: boolean }> {
  return new Promise((resolve) => {
    let text = "";
    const settle = (isCut: boolean): void => {
      stream.off("data", onData).off("end", onEnd).off("error", onCut).off("close", onCut);
      resolve({ text, isCut });
    };
    const onData = (chunk: Buffer): void => {
      text += chunk.toString("latin1");
      if (until(text)) settle(false);
    };
    const onEnd = (): void => settle(false);
    const onCut = (): void => settle(true);
    stream.on("data", onData).on("end", onEnd).on("error", onCut).on("close", onCut);
  });
}

const certificates: Map<string, Promise<{ cert: string; key: string }>> = new Map();

/** Self-signed, one a name and test run. */
export function certificateOf(name: string): Promise<{ cert: string; key: string }> {
  const made = certificates.get(name) ?? createCertificate(name);
  certificates.set(name, made);
  return made;
}

async function createCertificate(name: string): Promise<{ cert: string; key: string }> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const type = net.isIP(name) === 0 ? "dns" : "ip";
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type, value: name }])],
  });
  const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return { cert: made.toString("pem"), key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n` };
}

/** An HTTP/2 caller of the gate, over TLS. */
export async function http2Client({ connect }: Pick<ProxyScene, "connect">): Promise<ClientHttp2Session> {
  const { cert } = await certificateOf(GATE);
  const secure = tls.connect({ socket: connect(443), servername: GATE, ca: cert, ALPNProtocols: ["h2"] });
  const session = http2.connect(`https://${GATE}`, { createConnection: () => secure });
  session.on("error", () => undefined);
  onClose(() => session.destroy());
  return session;
}
