import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { listening } from "../suites/listening.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { createNamespace, eventually, type Namespace } from "./namespace.ts";
import { freePorts, type Running, sallyport, startSallyport } from "./processes.ts";

const peers = peersOrSkip("wireguard-go", "wg", "wg-quick", "ip", "curl");
const CUT_MS = 5000;

/** Asks 100.100.100.100 for an A record over UDP or TCP; prints the answer's code and address. */
const DIG = `
const [transport, name] = process.argv.slice(1);
const head = Buffer.from("123401000001000000000000", "hex");
const labels = name.split(".").map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
const query = Buffer.concat([head, ...labels, Buffer.from("0000010001", "hex")]);
const show = (reply) => {
  console.log(reply[3] & 15, reply.readUInt16BE(6) > 0 ? [...reply.subarray(-4)].join(".") : "-");
  process.exit(0);
};
if (transport === "udp") {
  const socket = require("node:dgram").createSocket("udp4");
  socket.on("message", show);
  socket.connect(53, "100.100.100.100", () => socket.send(query));
} else {
  const socket = require("node:net").connect(53, "100.100.100.100");
  let all = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    all = Buffer.concat([all, chunk]);
    if (all.length >= 2 && all.length >= 2 + all.readUInt16BE(0)) show(all.subarray(2));
  });
  const frame = Buffer.concat([Buffer.from([0, query.length]), query]);
  socket.write(frame.subarray(0, 7));
  setTimeout(() => socket.write(frame.subarray(7)), 50);
}
setTimeout(() => { console.log("silence"); process.exit(0); }, 4000);
`;

describe.skipIf(!isRoot || peers.missing !== undefined)(
  `a device with Debian's wireguard-go and the kernel's TCP, as a member${peers.missing ? ` (${peers.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    const link = `wg${process.pid}`;
    const running: Running[] = [];
    const open = new Set<ServerResponse>();
    const backend = createServer((request, response) => {
      if (request.url !== "/endless") {
        response.end(JSON.stringify(request.headers));
        return;
      }
      open.add(response);
      response.on("close", () => open.delete(response));
      const more = setInterval(() => response.write("more\n"), 50);
      response.on("close", () => clearInterval(more));
    });
    const socket = `${scratch}/gw.sock`;
    let space: Namespace;
    let file: string;
    const admin = (...args: readonly string[]) => sallyport("server", "--state", `${scratch}/server`, ...args);

    beforeAll(async () => {
      space = createNamespace();
      const backendPort = String(await listening(backend));
      const [port, derpPort, gatewayPort] = await freePorts(space.hostAddress, 3);
      const where = ["--address", space.hostAddress, "--port", port!, "--derp-port", derpPort!, "--stun-port", "0"];
      running.push(await startSallyport(["server", "--state", `${scratch}/server`, ...where], "server.started"));
      for (const login of ["alice@example.com", "bob@example.com"]) await admin("users", "create", login);
      const keyFile = path.join(scratch, "key");
      writeFileSync(keyFile, await admin("keys", "create", "--user", "bob@example.com"), { mode: 0o600 });
      const gateway = ["run", "--login-server", `http://${space.hostAddress}:${port}`, "--hostname", "gw"];
      gateway.push(
        "--auth-key",
        `file:${keyFile}`,
        "--state",
        `${scratch}/gw`,
        "--port",
        gatewayPort!,
        "--socket",
        socket,
      );
      running.push(await startSallyport(gateway, "gateway.started"));
      await vi.waitFor(() => sallyport("--socket", socket, "ip", "-4"), { timeout: 15_000 });
      await sallyport("--socket", socket, "serve", "--bg", "--http", "80", backendPort);

      const privateKey = space.run("wg", "genkey").trim();
      writeFileSync(path.join(scratch, "private"), privateKey);
      const publicKey = space.run("sh", "-c", `wg pubkey < ${scratch}/private`).trim();
      const wanted = ["--user", "alice@example.com", "--gateway", "gw", "--public-key", publicKey];
      file = await admin("wireguard", "add", "phone", ...wanted, "--endpoint", `${space.hostAddress}:${gatewayPort}`);
      const ready = file.replace(/^# PrivateKey = .*$/m, `PrivateKey = ${privateKey}`);
      writeFileSync(path.join(scratch, `${link}.conf`), ready, { mode: 0o600 });
      // wg-quick hands DNS to resolvconf(8): this one writes down what it was told.
      writeFileSync(path.join(scratch, "resolvconf"), `#!/bin/sh\ncat >> ${scratch}/resolv\n`);
      chmodSync(path.join(scratch, "resolvconf"), 0o755);
      await inside(["wg-quick", "up", path.join(scratch, `${link}.conf`)]);
    }, 60_000);

    afterAll(async () => {
      for (const { kill } of running) await kill();
      backend.closeAllConnections();
      backend.close();
      if (existsSync(`/var/run/wireguard/${link}.sock`)) space.run("ip", "link", "del", link);
      space?.close();
    });

    /** Beside this process's event loop, on which the backend lives. */
    async function inside(words: readonly string[]): Promise<string> {
      const [command, ...args] = words;
      const env = { PATH: `${scratch}:${process.env["PATH"]}:/usr/sbin:/sbin` };
      const child = space.start(command!, args, env);
      let [stdout, stderr] = ["", ""];
      child.stdout!.on("data", (chunk) => {
        stdout += String(chunk);
      });
      child.stderr!.on("data", (chunk) => {
        stderr += String(chunk);
      });
      const code = await new Promise((resolve) => child.on("exit", resolve));
      if (code !== 0) throw new Error(`${command} ended with ${String(code)}: ${stderr}`);
      await sleep(0);
      return stdout;
    }
    const curl = (...args: readonly string[]) => inside(["curl", "-sS", "--max-time", "10", ...args]);
    const dig = async (transport: "udp" | "tcp", name: string) =>
      (await inside([process.execPath, "-e", DIG, transport, name])).trim();

    test("wg-quick takes the file as it was printed", () => {
      expect(file).toMatch(/^DNS = 100\.100\.100\.100, mesh\.internal$/m);
      expect(file).toMatch(/^AllowedIPs = 100\.64\.0\.1\/32, fd7a:115c:a1e0::1\/128, 100\.100\.100\.100\/32$/m);
      expect(readFileSync(path.join(scratch, "resolv"), "utf8")).toContain("100.100.100.100");
    });

    test("the backend sees the member's user, over IPv4 and IPv6, and no header that the device made up", async () => {
      for (const resolved of ["100.64.0.1", "[fd7a:115c:a1e0::1]"]) {
        const forged = ["-H", "Tailscale-User-Login: root@example.com", "-H", "tailscale_user_name: root"];
        const headers = JSON.parse(
          await curl("--resolve", `gw.mesh.internal:80:${resolved}`, ...forged, "http://gw.mesh.internal/"),
        ) as Record<string, string>;
        expect(headers).toMatchObject({ "tailscale-user-login": "alice@example.com" });
        expect(JSON.stringify(headers)).not.toContain("root");
      }
    });

    test.each(["udp", "tcp"] as const)("MagicDNS answers on 100.100.100.100, over %s", async (transport) => {
      expect(await dig(transport, "gw.mesh.internal")).toBe("0 100.64.0.1");
      expect(await dig(transport, "phone.mesh.internal")).toMatch(/^[03] /);
      expect(await dig(transport, "nobody.mesh.internal")).toBe("3 -");
    });

    test("the service address serves nothing else, and peerapi nothing but its greeting", async () => {
      await expect(curl("http://100.100.100.100/")).rejects.toThrow("ended with");
      const api = JSON.parse(await sallyport("--socket", socket, "status", "--json")) as {
        Self: { PeerAPIURL: readonly string[] };
      };
      const url = api.Self.PeerAPIURL.find((candidate) => candidate.includes("100.64.0.1"))!;
      const status = (where: string) => curl("-o", "/dev/null", "-w", "%{http_code}", where);
      expect(await status(`${url}/`)).toBe("200");
      for (const where of ["/v0/put/x", "/dns-query?q=a", "/v0/metrics", "/localapi/v0/goroutines"]) {
        expect(await status(url + where)).toMatch(/^40[34]$/);
      }
    });

    test("removal cuts what runs within 5 s, and nothing is served afterwards", async () => {
      const listed = JSON.parse(await admin("wireguard", "list")) as { name: string; gatewayNames: string[] }[];
      expect(listed).toMatchObject([{ name: "phone", gatewayNames: ["gw"], user: { login: "alice@example.com" } }]);
      const download = space.start("curl", ["-sN", "-o", "/dev/null", "http://100.64.0.1/endless"]);
      await eventually("the download to begin", () => open.size || undefined);
      await admin("wireguard", "remove", "phone");
      const since = performance.now();
      await eventually("the download to be cut", () => open.size === 0 || undefined, CUT_MS);
      expect(performance.now() - since).toBeLessThan(CUT_MS);
      download.kill();
      await expect(curl("--max-time", "2", "http://100.64.0.1/")).rejects.toThrow("ended with 28");
      expect(JSON.parse(await admin("wireguard", "list"))).toEqual([]);
    });
  },
);
