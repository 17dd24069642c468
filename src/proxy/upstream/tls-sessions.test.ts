import { once } from "node:events";
import tls from "node:tls";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { listening } from "../../../test/suites/listening.ts";
import { FakeClock } from "../../base/clock.ts";
import { createSelfSigned } from "../../certs/self-signed.ts";
import { type Backend, backendOf } from "../backend.ts";
import { BackendDialer } from "./dial.ts";

const MINUTE = 60_000;
const trusted = await createSelfSigned("localhost", Date.now());
const stranger = await createSelfSigned("localhost", Date.now());

let clock: FakeClock;
let dialer: BackendDialer;

beforeEach(() => {
  clock = new FakeClock();
  dialer = new BackendDialer({ clock, roots: [trusted.certificate] });
});

async function serve(shown: typeof trusted, version: tls.SecureVersion): Promise<tls.Server & { port: number }> {
  const options = { key: shown.key, cert: shown.certificate, minVersion: version, maxVersion: version };
  const server = tls.createServer(options, (socket) => void socket.on("error", () => undefined).end("hello"));
  onTestFinished(() => void server.close());
  return Object.assign(server, { port: await listening(server) });
}

/** `true`: the handshake went on with a session that was there before. */
async function call(port: number, scheme = "https", protocols = ["http/1.1"]): Promise<boolean | string> {
  const secure = dialer.openTls(backendOf(`${scheme}://localhost:${port}`) as Backend, protocols);
  onTestFinished(() => void secure.destroy());
  try {
    await once(secure, "secureConnect");
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
  const isReused = secure.isSessionReused();
  secure.resume();
  await once(secure, "close");
  return isReused;
}

describe.each(["TLSv1.2", "TLSv1.3"] as const)("%s", (version) => {
  test("a backend is called by the session that it gave, for ten minutes from when it showed its certificate", async () => {
    const { port } = await serve(trusted, version);
    expect(await call(port)).toBe(false);
    expect(await call(port)).toBe(true);
    clock.advance(6 * MINUTE);
    expect(await call(port)).toBe(true); // which may bring a newer session, of a certificate no newer
    clock.advance(6 * MINUTE);
    expect(await call(port)).toBe(false);
    expect(await call(port)).toBe(true);
  });

  test("a session is never of use where the backend's certificate would have to be another", async () => {
    const { port } = await serve(stranger, version);
    expect(await call(port)).toBe("DEPTH_ZERO_SELF_SIGNED_CERT");
    expect(await call(port)).toBe("DEPTH_ZERO_SELF_SIGNED_CERT");
    expect(await call(port, "https+insecure")).toBe(false);
    expect(await call(port, "https+insecure")).toBe(true);
    expect(await call(port)).toBe("DEPTH_ZERO_SELF_SIGNED_CERT");
    expect(await call(port, "https+insecure", ["h2", "http/1.1"])).toBe(false); // what was agreed then is not what is asked now
  });

  test("a backend that has forgotten its sessions is called as if there were none", async () => {
    const server = await serve(trusted, version);
    expect(await call(server.port)).toBe(false);
    server.setTicketKeys(Buffer.alloc(48, 7));
    expect(await call(server.port)).toBe(false);
    expect(await call(server.port)).toBe(true);
  });
});
