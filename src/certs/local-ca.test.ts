import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import tls from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import { scratchFolder } from "../../test/suites/scratch.ts";
import { Fault } from "../base/fault.ts";
import { type IssuedCertificate, LocalCa } from "./local-ca.ts";

const DAY_MS = 86_400_000;
const wall = (): number => Date.now(); // real: TLS and openssl check against the real time

/** What a TLS client says that trusts only `ca`. */
async function handshake(issued: IssuedCertificate, ca: string, servername: string): Promise<string> {
  const server = tls.createServer({ key: issued.key, cert: issued.certificate }, (socket) => socket.end());
  server.on("tlsClientError", () => undefined); // the client's view is the one that counts here
  const port = await listening(server);
  const client = tls.connect({ host: "127.0.0.1", port, ca, ...(servername === "" ? {} : { servername }) });
  const verdict = await new Promise<string>((resolve) => {
    client.once("secureConnect", () => resolve("ok"));
    client.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code === "UNSPECIFIED" ? error.message : (error.code ?? "")),
    );
  });
  client.destroy();
  server.close();
  return verdict;
}

test("node:tls accepts what the CA issued, for its names only", async () => {
  const ca = await LocalCa.create({ wall });
  const trust = ca.export().certificate;
  const issued = await ca.issue(["App.Tail.test", "*.wild.test", "127.0.0.1", "fd7a:115c:a1e0::1"]);
  expect(await handshake(issued, trust, "app.tail.test")).toBe("ok");
  expect(await handshake(issued, trust, "x.wild.test")).toBe("ok");
  expect(await handshake(issued, trust, "")).toBe("ok");
  expect(await handshake(issued, trust, "other.test")).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
  const stranger = await LocalCa.create({ wall });
  expect(await handshake(issued, stranger.export().certificate, "app.tail.test")).not.toBe("ok");
});

test("name constraints bind, and are kept when issuing", async () => {
  const ca = await LocalCa.create({ wall, domains: ["tail.test"] });
  const trust = ca.export().certificate;
  expect(await handshake(await ca.issue(["app.tail.test"]), trust, "app.tail.test")).toBe("ok");
  await expect(ca.issue(["bank.example"])).rejects.toMatchObject({ code: "CERT_NAME" });
  await expect(ca.issue(["8.8.8.8"])).rejects.toMatchObject({ code: "CERT_NAME" });
  const thief = await LocalCa.load(ca.export(), { wall }); // knows of no constraint; clients do
  expect(await handshake(await thief.issue(["bank.example"]), trust, "bank.example")).toBe(
    "permitted subtree violation",
  );
});

test("openssl verifies the chain", async () => {
  const ca = await LocalCa.create({ wall, name: "Test CA", domains: ["tail.test"] });
  const { certificate } = await ca.issue(["app.tail.test", "100.64.0.1"]);
  const folder = scratchFolder(onTestFinished);
  writeFileSync(path.join(folder, "ca.pem"), ca.export().certificate);
  writeFileSync(path.join(folder, "leaf.pem"), certificate);
  const run = (...args: string[]): string => execFileSync("openssl", args, { cwd: folder, encoding: "utf8" });
  const verify = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem"];
  expect(run(...verify, "-verify_hostname", "app.tail.test", "leaf.pem")).toContain("leaf.pem: OK");
  const text = run("x509", "-in", "ca.pem", "-noout", "-text");
  expect(text).toMatch(/X509v3 Name Constraints: critical\s+Permitted:\s+IP:10\.0\.0\.0\/255\.0\.0\.0/);
  expect(text).toMatch(/CA:TRUE, pathlen:0/);
});

test("exported and loaded it issues under the same root; leaves live at most 397 days, keys differ", async () => {
  const first = await LocalCa.create({ wall });
  const loaded = await LocalCa.load(first.export(), { wall });
  const [one, two] = [await loaded.issue(["a.test"]), await loaded.issue(["a.test"])];
  expect(one.key).not.toBe(two.key);
  expect(await handshake(one, first.export().certificate, "a.test")).toBe("ok");
  const leaf = new X509Certificate(one.certificate);
  expect(leaf.validToDate.getTime() - leaf.validFromDate.getTime()).toBeLessThanOrEqual(397 * DAY_MS);
  expect(leaf.validToDate.getTime()).toBe(one.notAfter);
  expect(new X509Certificate(two.certificate).serialNumber).not.toBe(leaf.serialNumber);
});

test("a CA near its end issues shorter, an expired one nothing", async () => {
  let now = Date.now();
  const ca = await LocalCa.create({ wall: () => now });
  now = ca.notAfter - DAY_MS;
  expect((await ca.issue(["a.test"])).notAfter).toBe(ca.notAfter);
  now = ca.notAfter;
  await expect(ca.issue(["a.test"])).rejects.toMatchObject({ code: "CERT_CA_EXPIRED" });
});

test.each([
  [[]],
  [[""]],
  [["a..b"]],
  [["-a.test"]],
  [["a b"]],
  [["127.1"]],
  [["*.*.test"]],
  [["a.test\0evil"]],
  [["x".repeat(64)]],
])("names %j are refused", async (names) => {
  const ca = await LocalCa.create({ wall });
  await expect(ca.issue(names)).rejects.toMatchObject({ code: "CERT_NAME" });
});

test("a foreign key, a leaf or nonsense is no CA", async () => {
  const [one, two] = [await LocalCa.create({ wall }), await LocalCa.create({ wall })];
  const leaf = await one.issue(["a.test"]);
  for (const pem of [
    { key: two.export().key, certificate: one.export().certificate },
    { key: leaf.key, certificate: leaf.certificate },
    { key: "", certificate: "" },
  ]) {
    const thrown: unknown = await LocalCa.load(pem, { wall }).catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(Fault);
    expect(thrown).toMatchObject({ code: "CERT_CA_UNREADABLE" });
  }
});
