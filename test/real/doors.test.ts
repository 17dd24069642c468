import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findPeer, peersOrSkip } from "../peers.ts";
import {
  type DoorMesh,
  PUBLIC_NAME as NAME,
  PUBLIC_ORIGIN as ORIGIN,
  openDoorMesh,
  PUBLIC_PASSWORD,
} from "../suites/door-mesh.ts";
import { scratchFolder } from "../suites/scratch.ts";

const { missing } = peersOrSkip("curl", "openssl");
const folder = scratchFolder();
let mesh: DoorMesh;

beforeAll(async () => {
  if (missing === undefined) mesh = await openDoorMesh();
}, 120_000);

afterAll(async () => {
  await mesh?.[Symbol.asyncDispose]();
});

const run = promisify(execFile);
const jar = path.join(folder, "cookies");

/** What curl says of the public name, and the status after it. */
async function curl(...args: readonly string[]): Promise<string> {
  const way = ["-sk", "--max-time", "60", "--connect-to", `${NAME}:443:127.0.0.1:${mesh.port}`, "-w", " %{http_code}"];
  const { stdout } = await run(findPeer("curl")!, [...way, ...args]);
  return stdout.trim();
}

describe.skipIf(missing !== undefined)(`curl at a door${missing === undefined ? "" : ` (${missing})`}`, () => {
  test("is told where the door is, in the form that it asks for", async () => {
    expect(await curl(`${ORIGIN}/x`)).toMatch(/^401 this place has a door: open https:.*\n 401$/);
    expect(await curl("-H", "Accept: application/json", `${ORIGIN}/x`)).toMatch(/^\{"error".*\}\n 401$/);
    expect(await curl("-H", "Accept: text/html", `${ORIGIN}/x`)).toMatch(/^<!doctype html>[\s\S]* 401$/);
    expect(await curl("-I", `${ORIGIN}/x`)).toMatch(/www-authenticate: Sallyport-Door realm="friends"[\s\S]* 401$/i);
  });

  test.each(["--http1.1", "--http2"])(
    "ID-12 keeps the cookie of the password's form, and is a guest (%s)",
    async (version) => {
      const form = `way=password&to=/in&secret=${encodeURIComponent(PUBLIC_PASSWORD)}`;
      const enter = ["-c", jar, "-H", `Origin: ${ORIGIN}`, "-d", form, `${ORIGIN}/.sallyport/door/friends/enter`];
      expect(await curl(version, ...enter)).toBe("303");
      mesh.heard.length = 0;
      expect(await curl(version, "-b", jar, "-H", "Cookie: own=1", `${ORIGIN}/in`)).toBe("inside 200");
      const [fields] = mesh.heard;
      expect(fields).toMatchObject({
        "sallyport-caller-kind": "guest",
        "tailscale-funnel-request": "?1",
        cookie: "own=1",
      });
      expect(fields).not.toHaveProperty("tailscale-user-login");
    },
  );

  test("shows a certificate of the gateway, as PEM and as PKCS #12, over TLS 1.2 and 1.3, and no longer when it is taken back", async () => {
    const { certificate, key, id } = await mesh.admin.certify({ door: "friends", name: "Dave", lifeMs: 3_600_000 });
    const [pem, p12] = [path.join(folder, "dave.pem"), path.join(folder, "dave.p12")];
    writeFileSync(pem, certificate + key, { mode: 0o600 });
    await run(findPeer("openssl")!, ["pkcs12", "-export", "-in", pem, "-out", p12, "-passout", "pass:x"]);
    mesh.heard.length = 0;
    expect(await curl("--cert", pem, `${ORIGIN}/`)).toBe("inside 200");
    expect(await curl("--tls-max", "1.2", "--cert", pem, `${ORIGIN}/`)).toBe("inside 200");
    expect(await curl("--cert-type", "P12", "--cert", `${p12}:x`, `${ORIGIN}/`)).toBe("inside 200");
    for (const fields of mesh.heard) expect(fields["sallyport-guest"]).toContain('"sub":"certificate:Dave"');
    expect(await mesh.admin.revoke(id)).toBe(true);
    expect(await curl("--cert", pem, `${ORIGIN}/`)).toMatch(/ 401$/);
  });
});
