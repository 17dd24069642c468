import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { createServer, request } from "node:http";
import path from "node:path";
import { text } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSelfSigned } from "../src/certs/self-signed.ts";
import { createNode } from "../src/index.ts";
import type { ServeConfig } from "../src/wire/serve-config.ts";
import { listening } from "./suites/listening.ts";
import { scratchFolder } from "./suites/scratch.ts";

const root = path.resolve(import.meta.dirname, "..");
const scratch = scratchFolder();
const children: ChildProcess[] = [];
const backend = createServer((request, response) => response.end(JSON.stringify(request.headers)));
const serverArgs = ["server", "--state", `${scratch}/server`, "--port", "0", "--derp-port", "0", "--stun-port", "0"];
const admin = ["server", "--state", `${scratch}/server`];

/** Starts a long-running command and waits for a line of its log; gives that line. */
function start(
  args: readonly string[],
  event: string,
): Promise<{ child: ChildProcess; line: Record<string, unknown> }> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", `${root}/src/bin.ts`, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  return new Promise((resolve, reject) => {
    let text = "";
    child.stderr!.on("data", (chunk) => {
      text += String(chunk);
      const line = text.split("\n").find((candidate) => candidate.includes(`"msg":"${event}"`));
      if (line !== undefined) resolve({ child, line: JSON.parse(line) as Record<string, unknown> });
    });
    child.on("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}: ${text}`)));
  });
}

async function sallyport(
  ...args: readonly string[]
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", `${root}/src/bin.ts`, ...args]);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += String(chunk);
  });
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { status, stdout, stderr };
}

/** What `tailscale set` sends. */
function patchPrefs(socketPath: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const path = "/localapi/v0/prefs";
    const call = request(
      { socketPath, path, method: "PATCH", headers: { Host: "local-tailscaled.sock" } },
      (answer) => {
        text(answer).then(resolve, reject);
      },
    );
    call.once("error", reject);
    call.end(body);
  });
}

let backendPort: number;
beforeAll(async () => {
  backendPort = await listening(backend);
});
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  backend.close();
});

let url = "";
let key = "";

test("server, gateway, serve, and a node of the library, as a person types them", { timeout: 180_000 }, async () => {
  const first = await start(serverArgs, "server.started");
  url = String(first.line["url"]);
  expect(statSync(`${scratch}/server/server.sock`).mode & 0o777).toBe(0o600);
  await sallyport(...admin, "users", "create", "alice@example.com", "--name", "Alice");
  key = (await sallyport(...admin, "keys", "create", "--user", "alice@example.com", "--reusable")).stdout.trim();
  expect(key).toMatch(/^sp-auth-/);

  const bad = path.join(scratch, "bad.hujson");
  writeFileSync(bad, '{\n  "acls": [{ "action": "deny", "src": ["*"], "dst": ["*:*"] }],\n}\n');
  const refused = await sallyport(...admin, "policy", "set", bad);
  expect(refused.status).toBe(1);
  expect(refused.stderr).toMatch(/line 2, column \d+/);

  const keyFile = path.join(scratch, "key");
  writeFileSync(keyFile, key, { mode: 0o600 });
  const socket = `${scratch}/gw/sallyport.sock`;
  const gateway = [
    "--socket",
    socket,
    "run",
    "--login-server",
    url,
    "--auth-key",
    `file:${keyFile}`,
    "--hostname",
    "gw",
    "--state",
    `${scratch}/gw`,
  ];
  await start(gateway, "gateway.started");
  // It joins after that line, and addresses go by who comes first.
  await expect.poll(async () => (await sallyport("--socket", socket, "ip", "-4")).status, { timeout: 60_000 }).toBe(0);
  const node = await createNode({
    controlUrl: url,
    authKey: key,
    hostname: "laptop",
    signal: AbortSignal.timeout(60_000),
  });
  try {
    await expect
      .poll(async () => (await sallyport("--socket", socket, "status")).stdout, { timeout: 60_000 })
      .toContain("laptop");
    const port = String(backendPort);
    const served = await sallyport("--socket", socket, "serve", "--bg", "--http", "80", port);
    expect(served.stderr + served.stdout).toContain("http://gw.mesh.internal");
    expect(served.status).toBe(0);

    const response = await node.fetch("http://gw.mesh.internal/", { signal: AbortSignal.timeout(60_000) });
    expect(await response.json()).toMatchObject({
      "tailscale-user-login": "alice@example.com",
      "tailscale-user-name": "Alice",
    });
    const whois = await sallyport("--socket", socket, "whois", node.addresses[0]!);
    expect(whois.stdout).toContain("alice@example.com");
    expect((await sallyport("--socket", socket, "ip", "-4")).stdout.trim()).toBe("100.64.0.1");

    expect(await sallyport("--socket", socket, "down")).toMatchObject({ status: 0 });
    const stopped = await sallyport("--socket", socket, "status");
    expect([stopped.stdout, stopped.status]).toEqual(["Sallyport is stopped.\n", 1]);
    await expect(
      node.fetch("http://gw.mesh.internal/", { signal: AbortSignal.timeout(700) }),
      "a node that is down answers nobody",
    ).rejects.toThrow();
    expect(await sallyport("--socket", socket, "up", "--hostname", "gate")).toMatchObject({ status: 0, stderr: "" });
    expect((await sallyport("--socket", socket, "ip", "-4")).stdout.trim()).toBe("100.64.0.1");
    await expect
      .poll(async () => (await sallyport("--socket", socket, "status")).stdout, { timeout: 60_000 })
      .toContain("gate");
    expect((await node.fetch("http://gate.mesh.internal/")).status, "what is served goes with the node").toBe(200);
    expect(await sallyport("--socket", socket, "up", "--hostname", "gw")).toMatchObject({ status: 0, stderr: "" });
    await expect.poll(async () => (await node.fetch("http://gw.mesh.internal/")).status, { timeout: 60_000 }).toBe(200);
    const ssh = '{"RunSSH":true,"RunSSHSet":true}';
    expect(await patchPrefs(socket, ssh)).toMatch(/RunSSH: this gateway does not support an SSH server/);

    const [ca, jwks, metrics, health] = await Promise.all(
      ["ca", "jwks", "metrics", "health"].map((command) => sallyport("--socket", socket, command)),
    );
    const netcheck = await sallyport("--socket", socket, "netcheck");
    expect(netcheck.stdout).toMatch(/Nearest DERP: \S+/);
    const report = await sallyport("--socket", socket, "bugreport");
    expect(JSON.parse(report.stdout)).toMatchObject({ state: "running", health: [], served: { tcp: ["80"] } });
    expect(report.stdout).not.toMatch(/PRIVATE|privkey:|127\.0\.0\.1:\d+\/?"$/m);
    expect(await sallyport("--socket", socket, "set", "--hostname", "gw")).toMatchObject({ status: 0, stderr: "" });
    expect((await sallyport("--socket", socket, "set", "--ssh")).stderr).toContain("does not support an SSH server");
    expect(new X509Certificate(ca!.stdout).ca).toBe(true);
    expect(JSON.parse(jwks!.stdout)).toMatchObject({ keys: [{ kty: "OKP", crv: "Ed25519", alg: "EdDSA" }] });
    expect(jwks!.stdout).not.toContain('"d"');
    expect(metrics!.stdout).toMatch(/^sallyport_node_running 1$/m);
    expect(metrics!.stdout).toMatch(/^sallyport_http_requests_total\{code="2xx"\} [1-9]/m);
    expect([health!.stdout, health!.status]).toEqual(["ok\n", 0]);
  } finally {
    await node.close();
  }
});

test("CF-2 certificates and secrets that a services file names when it is read again on SIGHUP", {
  timeout: 180_000,
}, async () => {
  const file = path.join(scratch, "again.hujson");
  const folder = path.join(scratch, "own");
  mkdirSync(folder);
  const own = async (name: string): Promise<X509Certificate> => {
    const { certificate, key } = await createSelfSigned("again.mesh.internal", Date.now());
    writeFileSync(path.join(folder, `${name}.crt`), certificate);
    writeFileSync(path.join(folder, `${name}.key`), key, { mode: 0o600 });
    return new X509Certificate(certificate);
  };
  const declare = (target: string, ...names: readonly string[]) => {
    const files = names.map((name) => ({
      certificate: path.join(folder, `${name}.crt`),
      key: path.join(folder, `${name}.key`),
    }));
    const endpoints = { "tcp:443": { target } };
    writeFileSync(file, JSON.stringify({ version: "0.0.1", certificates: { files }, node: { endpoints } }));
  };
  const certificates = [await own("one"), await own("two")] as const;
  declare("text:hello", "one");
  const args = ["run", "--login-server", url, "--hostname", "again", "--state", "mem:"];
  const sockets = ["--socket", `${scratch}/again.sock`, "--auth-key", `file:${path.join(scratch, "key")}`];
  const { child } = await start([...args, ...sockets, "--config", file], "gateway.started");
  let log = "";
  child.stderr!.on("data", (chunk) => {
    log += String(chunk);
  });
  const node = await createNode({ controlUrl: url, authKey: key, hostname: "looker" });
  const seen = async (): Promise<string> => {
    const duplex = await node.dial({ address: "again.mesh.internal", port: 443 });
    const socket = connectTls({ socket: duplex, servername: "again.mesh.internal", rejectUnauthorized: false });
    try {
      await once(socket, "secureConnect", { signal: AbortSignal.timeout(60_000) });
      return socket.getPeerX509Certificate()!.fingerprint256;
    } finally {
      socket.destroy();
    }
  };
  try {
    await expect.poll(() => seen().catch(String), { timeout: 60_000 }).toBe(certificates[0].fingerprint256);
    declare("text:hello", "two");
    child.kill("SIGHUP");
    await expect.poll(() => seen().catch(String), { timeout: 60_000 }).toBe(certificates[1].fingerprint256);
    declare(`file://${folder}`, "two"); // the folder with the new key
    child.kill("SIGHUP");
    await expect.poll(() => log, { timeout: 60_000 }).toContain("config.refused");
    expect(log).toContain(`cannot serve \\"${folder}\\"`);
  } finally {
    await node.close();
  }
});

test("CF-2 the services file is read again on SIGHUP, and one that has become bad changes nothing", {
  timeout: 180_000,
}, async () => {
  const file = path.join(scratch, "services.hujson");
  const declare = (text: string, limits = "") =>
    writeFileSync(file, `{ "version": "0.0.1", ${limits} "node": { "endpoints": { "tcp:80": ${text} } } }`);
  declare('{ "listen": "http", "target": "text:first" }', '"limits": { "targetBytes": 128 },');
  const socket = `${scratch}/declared.sock`;
  const args = ["run", "--login-server", url, "--hostname", "declared", "--state", "mem:", "--socket", socket];
  const keyFile = path.join(scratch, "key");
  const { child } = await start([...args, "--auth-key", `file:${keyFile}`, "--config", file], "gateway.started");
  let log = "";
  child.stderr!.on("data", (chunk) => {
    log += String(chunk);
  });
  const node = await createNode({ controlUrl: url, authKey: key, hostname: "reader" });
  const body = async () => {
    const response = await node.fetch("http://declared.mesh.internal/", { signal: AbortSignal.timeout(60_000) });
    return response.text();
  };
  const statusOfLong = async () => (await node.fetch(`http://declared.mesh.internal/${"a".repeat(200)}`)).status;
  try {
    await expect.poll(() => body().catch(() => ""), { timeout: 60_000 }).toBe("first");
    expect(await statusOfLong()).toBe(414); // H1-13
    declare('{ "listen": "http", "target": "text:second" }');
    child.kill("SIGHUP");
    await expect.poll(body, { timeout: 60_000 }).toBe("second");
    expect(await statusOfLong()).toBe(200);
    for (const bad of ['{ "listen": "gopher" }', `{ "listen": "http", "target": "${scratch}" }`]) {
      log = "";
      declare(bad);
      child.kill("SIGHUP");
      await expect.poll(() => log, { timeout: 60_000 }).toContain("config.refused");
      expect(log).toMatch(/line 1, column \d+|secrets/);
      expect(await body()).toBe("second");
      // After `systemctl reload` nothing but the log said so.
      expect((await sallyport("--socket", socket, "status")).stdout).toContain(
        `is refused, and the one before it in force: ${file}`,
      );
    }
    declare('{ "listen": "http", "target": "text:third" }');
    child.kill("SIGHUP");
    await expect.poll(body, { timeout: 60_000 }).toBe("third");
    expect((await sallyport("--socket", socket, "status")).stdout).not.toContain("is refused");
  } finally {
    await node.close();
  }
});

test("a services file of before, whose door took long to read, was in force over the one that came after it", {
  timeout: 180_000,
}, async () => {
  const file = path.join(scratch, "twice.hujson");
  const fifo = path.join(scratch, "slow-secret");
  execFileSync("mkfifo", [fifo]);
  const declare = (text: string, more: object = {}) => {
    const endpoints = { "tcp:80": { listen: "http", target: `text:${text}` } };
    writeFileSync(file, JSON.stringify({ version: "0.0.1", node: { endpoints }, ...more }));
  };
  declare("first");
  const socket = ["--socket", `${scratch}/twice.sock`];
  const keyFile = `file:${path.join(scratch, "key")}`;
  const run = [
    ...socket,
    "run",
    "--login-server",
    url,
    "--auth-key",
    keyFile,
    "--hostname",
    "twice",
    "--state",
    "mem:",
  ];
  const { child } = await start([...run, "--config", file], "gateway.started");
  let log = "";
  child.stderr!.on("data", (chunk) => {
    log += String(chunk);
  });
  const served = async () => (await sallyport(...socket, "serve", "status", "--json")).stdout;
  await expect.poll(served, { timeout: 60_000 }).toContain("first");
  declare("older", { doors: { friends: { password: `file:${fifo}` } } });
  child.kill("SIGHUP");
  const secret = await open(fifo, "w"); // waits until it is read
  declare("newer");
  child.kill("SIGHUP");
  await expect.poll(served, { timeout: 60_000 }).toContain("newer");
  await secret.writeFile("correct horse");
  await secret.close();
  declare("newest");
  child.kill("SIGHUP");
  await expect.poll(served, { timeout: 60_000 }).toContain("newest");
  expect(await served()).not.toContain("older");
  expect(log.match(/config\.reloaded/g), log).toHaveLength(2);
});

test("a wrong auth key was told in a log that goes on, and never to the person who had typed it", {
  timeout: 180_000,
}, async () => {
  const wrong = path.join(scratch, "wrong-key");
  writeFileSync(wrong, "sp-auth-wrong", { mode: 0o600 });
  const args = ["run", "--login-server", url, "--auth-key", `file:${wrong}`, "--state", "mem:"];
  const program = [`${root}/src/bin.ts`, ...args, "--socket", `${scratch}/wrong.sock`];
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", ...program]);
  children.push(child);
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += String(chunk);
  });
  const tries = () => said.split("control.login.failed").length - 1;
  await expect.poll(tries, { timeout: 60_000 }).toBeGreaterThan(2);
  expect(said.match(/^Not in the mesh: the server refuses this node: .+$/gm), said).toHaveLength(1);
  child.kill("SIGTERM");
  await once(child, "close");
});

test("what `serve --bg` had set up was gone after a restart beside a services file that only declares doors", {
  timeout: 180_000,
}, async () => {
  const file = path.join(scratch, "doors.hujson");
  const write = (more: object): void => writeFileSync(file, JSON.stringify({ version: "0.0.1", ...more }));
  write({ doors: { friends: { links: true } } });
  const socket = ["--socket", `${scratch}/lasting.sock`];
  const args = ["run", "--login-server", url, "--hostname", "lasting", "--state", `${scratch}/lasting`, ...socket];
  const run = () =>
    start([...args, "--auth-key", `file:${path.join(scratch, "key")}`, "--config", file], "gateway.started");
  const ports = async (): Promise<readonly string[]> => {
    const { stdout } = await sallyport(...socket, "serve", "status", "--json");
    return Object.keys((JSON.parse(stdout) as ServeConfig).TCP ?? {});
  };
  const joined = async (): Promise<string> => (await sallyport(...socket, "status")).stdout;
  const { child } = await run();
  expect((await sallyport(...socket, "serve", "--bg", "--http=81", "text:there")).status).toBe(0);
  const closed = once(child, "close");
  child.kill("SIGTERM");
  await closed;
  const { child: again } = await run();
  await expect.poll(joined, { timeout: 60_000 }).toContain("lasting");
  expect(await ports()).toEqual(["81"]);
  // A file that says what is served has the last word, and takes its own away again.
  write({ node: { endpoints: { "tcp:82": { listen: "http", target: "text:of the file" } } } });
  again.kill("SIGHUP");
  await expect.poll(ports, { timeout: 60_000 }).toEqual(["82"]);
  write({});
  again.kill("SIGHUP");
  await expect.poll(ports, { timeout: 60_000 }).toEqual([]);
});

test("what `serve off` took from a services file came back when somebody joined, and its rules went with any command", {
  timeout: 180_000,
}, async () => {
  const file = path.join(scratch, "shared.hujson");
  const target = `http://127.0.0.1:${backendPort}`;
  const endpoints = {
    "tcp:80": { listen: "http", target, bodyBytes: 5 },
    "tcp:81": { listen: "http", target: "text:taken back" },
  };
  writeFileSync(file, JSON.stringify({ version: "0.0.1", node: { endpoints } }));
  const socket = ["--socket", `${scratch}/shared.sock`];
  const args = ["run", "--login-server", url, "--hostname", "shared", "--state", "mem:", ...socket];
  await start([...args, "--auth-key", `file:${path.join(scratch, "key")}`, "--config", file], "gateway.started");
  expect((await sallyport(...socket, "serve", "--http=81", "off")).status).toBe(0);
  const node = await createNode({ controlUrl: url, authKey: key, hostname: "newcomer" });
  try {
    const peers = async (): Promise<string> => (await sallyport(...socket, "status")).stdout;
    await expect.poll(peers, { timeout: 60_000 }).toContain("newcomer");
    const served = JSON.parse((await sallyport(...socket, "serve", "status", "--json")).stdout) as ServeConfig;
    expect(Object.keys(served.TCP ?? {})).toEqual(["80"]);
    const long = { method: "POST", body: "longer than that" };
    const answer = await node.fetch("http://shared.mesh.internal/", { ...long, signal: AbortSignal.timeout(60_000) });
    expect(answer.status).toBe(413);
  } finally {
    await node.close();
  }
});
