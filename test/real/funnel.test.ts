import { writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRoot, peersOrSkip } from "../peers.ts";
import { scratchFolder } from "../suites/scratch.ts";
import { createSpace, type Space } from "./namespace.ts";
import { createInternet, type Internet, type NatHost } from "./nat-lab.ts";
import { commandAt, type Outcome, type Running, sallyport, startSallyport } from "./processes.ts";

const tools = peersOrSkip("ip", "nft", "curl", "openssl");
const WAIT = { timeout: 60_000, interval: 250 };

const POLICY = `{
  "tagOwners": { "tag:ingress": [], "tag:web": [] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
  "nodeAttrs": [
    { "target": ["tag:ingress"], "attr": ["sallyport.dev/ingress"] },
    { "target": ["tag:web"], "attr": ["funnel", "https"], "app": { "sallyport.dev/ports": [{ "ports": ["2222"] }] } },
  ],
}`;

/** A backend: every answer says what it was asked; `/events` sends a line whenever it is told to on standard input. */
const BACKEND = `
const http = require("node:http");
require("node:net").createServer((socket) => {
  socket.on("error", () => undefined).write("SSH-2.0-here\\r\\n");
  socket.pipe(socket);
}).listen(2200, "127.0.0.1");
let open = 0;
http.createServer((request, response) => {
  if (request.url === "/count") return response.end(String(open));
  if (request.url === "/big") return response.end(Buffer.alloc(8 << 20, "x"));
  if (request.url !== "/events") return response.end(JSON.stringify(request.headers) + "\\n");
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const timer = setInterval(() => response.write("data: tick\\n\\n"), 50);
  open++;
  response.on("close", () => {
    open--;
    clearInterval(timer);
  });
}).listen(3000, "127.0.0.1", () => console.log("ready"));
`;

/** A machine with an address of its own on the segment. */
function addMachine(internet: Internet, number: number): Space & { readonly address: string } {
  const space = createSpace();
  const address = `10.77.0.${number}`;
  internet.run("ip", "link", "add", `m${number}`, "type", "veth", "peer", "name", "eth0", "netns", space.name);
  internet.run("ip", "link", "set", `m${number}`, "master", "segment", "up");
  space.run("ip", "addr", "add", `${address}/24`, "dev", "eth0");
  space.run("ip", "link", "set", "eth0", "up");
  return { ...space, address };
}

describe.skipIf(!isRoot || tools.missing !== undefined)(
  `visitor, ingress, server and two gateways, each on a machine of its own; the gateways behind NAT${tools.missing ? ` (${tools.missing})` : ""}`,
  () => {
    const scratch = scratchFolder();
    const closers: (() => unknown)[] = [];
    let internet: Internet;
    let visitor: Space;
    let relayAddress: string;
    const admin = (...args: readonly string[]) => sallyport("server", "--state", `${scratch}/server`, ...args);
    const at = (name: string, ...args: readonly string[]) => sallyport("--socket", `${scratch}/${name}.sock`, ...args);
    const keyFile = async (tag: string): Promise<string> => {
      const file = `${scratch}/${tag.slice(4)}-${Math.random()}.key`;
      writeFileSync(file, (await admin("keys", "create", "--tags", tag)).trim());
      return `file:${file}`;
    };

    const startGateway = async (name: string, host: NatHost): Promise<void> => {
      const backend = host.start(process.execPath, ["-e", BACKEND]);
      await new Promise<void>((resolve) => backend.stdout!.once("data", () => resolve()));
      await startSallyport(
        [
          ...["run", "--login-server", `http://${internet.address}:8080`, "--auth-key", await keyFile("tag:web")],
          ...["--hostname", name, "--state", `${scratch}/${name}`, "--socket", `${scratch}/${name}.sock`],
        ],
        "gateway.started",
        host,
      );
      writeFileSync(`${scratch}/${name}.ca`, await at(name, "ca"));
    };

    const startRelay = async (space: Space & { readonly address: string }): Promise<Running> =>
      startSallyport(
        [
          ...[
            "ingress",
            "--login-server",
            `http://${internet.address}:8080`,
            "--auth-key",
            await keyFile("tag:ingress"),
          ],
          ...["--state", `${scratch}/${space.name}`, "--address", space.address, "--log", "debug"],
          ...["--lease-ports", "2222"],
        ],
        "ingress.started",
        space,
      );

    /** As a stranger on another machine. */
    const curl = (name: string, place: string, ...more: readonly string[]): Promise<Outcome> =>
      commandAt(
        visitor,
        "curl",
        ...["-sS", "--max-time", "30", "--cacert", `${scratch}/${name}.ca`],
        ...[
          "--resolve",
          `*:443:${relayAddress}`,
          "--resolve",
          `*:8443:${relayAddress}`,
          "--resolve",
          `*:80:${relayAddress}`,
        ],
        ...[...more, place],
      );

    beforeAll(async () => {
      internet = createInternet();
      closers.push(() => internet.close());
      writeFileSync(`${scratch}/policy.hujson`, POLICY);
      const ports = ["--port", "8080", "--derp-port", "8443", "--stun-port", "3478"];
      const where = ["--address", internet.address, "--domain", "tail.test", "--policy", `${scratch}/policy.hujson`];
      await startSallyport(["server", "--state", `${scratch}/server`, ...where, ...ports], "server.started", internet);
      const machine = addMachine(internet, 50);
      const stranger = addMachine(internet, 60);
      closers.push(
        () => machine.close(),
        () => stranger.close(),
      );
      visitor = stranger;
      relayAddress = machine.address;
      await startRelay(machine);
      await startGateway("web", internet.addHost("port-restricted"));
      await startGateway("api", internet.addHost("symmetric"));
    }, 110_000);

    afterAll(() => {
      for (const close of closers.reverse()) close();
    });

    test("`sallyport funnel 3000` gives a public URL, and the backend is told that a stranger asks", async () => {
      expect((await curl("web", "https://web.tail.test/")).code).not.toBe(0);
      const said = await at("web", "funnel", "--bg", "3000");
      expect(said).toContain("Available on the internet:\n\nhttps://web.tail.test/\n|-- proxy http://127.0.0.1:3000");
      await expect.poll(async () => (await curl("web", "https://web.tail.test/")).code, WAIT).toBe(0);
      const { stdout } = await curl("web", "https://web.tail.test/", "-H", "Tailscale-User-Login: root@example.com");
      const headers = JSON.parse(stdout) as Record<string, string>;
      expect(headers).toMatchObject({
        "tailscale-funnel-request": "?1",
        "sallyport-caller-kind": "anonymous",
        "x-forwarded-for": "10.77.0.60",
        "x-forwarded-proto": "https",
      });
      expect(Object.keys(headers).filter((name) => /^tailscale-(?!funnel-request)/.test(name))).toEqual([]);
    });

    test("FN-9 `funnel check` proves it hop by hop, and names the hop that fails", async () => {
      const bin = ["--disable-warning=ExperimentalWarning", path.resolve(import.meta.dirname, "../../src/bin.ts")];
      const check = (address: string, ...more: readonly string[]): Promise<Outcome> =>
        commandAt(
          visitor,
          process.execPath,
          ...[...bin, "--socket", `${scratch}/web.sock`, "funnel", "check", "--address", address, ...more],
        );
      const good = await check(relayAddress, "--ca", `${scratch}/web.ca`);
      expect(good.stdout).toMatch(
        /^web\.tail\.test:443\n {2}✓ dns .*\n {2}✓ ingress .*\n {2}✓ name .*\n {2}✓ certificate .*\n {2}✓ backend +status 200\n$/,
      );
      expect(good.code).toBe(0);
      const untrusted = await check(relayAddress);
      expect([untrusted.code, untrusted.stdout]).toEqual([1, expect.stringMatching(/✗ certificate .*\n$/)]);
      const elsewhere = await check("10.77.0.60");
      expect([elsewhere.code, elsewhere.stdout]).toEqual([1, expect.stringMatching(/✗ ingress .*ECONNREFUSED.*\n$/)]);
    });

    test("HTTP/2, 8 MiB, and a stream of events that stays open", async () => {
      const version = await curl(
        "web",
        "https://web.tail.test/big",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{size_download}",
      );
      expect(version.stdout).toBe(`2 ${8 << 20}`);
      const events = visitor.start("curl", [
        ...["-sN", "--cacert", `${scratch}/web.ca`, "--resolve", `web.tail.test:443:${relayAddress}`],
        "https://web.tail.test/events",
      ]);
      let heard = "";
      events.stdout!.on("data", (chunk) => {
        heard += String(chunk);
      });
      await expect.poll(() => heard.split("tick").length, WAIT).toBeGreaterThan(5);
      events.kill("SIGKILL");
    });

    test("each name goes to its own gateway; openssl's visit is the same as curl's", async () => {
      await at("api", "funnel", "--bg", "--tls-terminated-tcp=8443", "3000");
      await expect.poll(async () => (await curl("api", "https://api.tail.test:8443/")).code, WAIT).toBe(0);
      // HTTP inside TLS that is ended for TCP: the backend gets no header at all.
      expect((await curl("api", "https://api.tail.test:8443/")).stdout).not.toMatch(/tailscale|sallyport/);
      const wrong = await curl("web", "https://web.tail.test:8443/");
      expect(wrong.code).toBe(35);
      expect(wrong.stderr).toMatch(/unrecognized name/);
      const line = `printf 'GET / HTTP/1.0\\r\\nHost: web.tail.test\\r\\n\\r\\n' | openssl s_client -quiet -connect ${relayAddress}:443 -servername web.tail.test -CAfile ${scratch}/web.ca -verify_return_error`;
      expect((await commandAt(visitor, "sh", "-c", `${line}; sleep 1`)).stdout).toContain("tailscale-funnel-request");
    });

    test("FN-14 a raw port: the server speaks first, one node has it, and `off` closes it", async () => {
      const words = ["funnel", "--bg", "--public", "--lease", "2222", "2200"];
      expect(await at("web", ...words)).toContain("tcp://web.tail.test:2222 (raw port)");
      const line = `exec 3<>/dev/tcp/${relayAddress}/2222 && head -c 14 <&3 && printf hello >&3 && head -c 5 <&3`;
      const talk = async (): Promise<string> => (await commandAt(visitor, "bash", "-c", line)).stdout;
      await expect.poll(talk, WAIT).toBe("SSH-2.0-here\r\nhello");
      await expect(at("api", ...words)).rejects.toThrow(/port 2222 is not this node's: another node of this network/);
      expect(await talk()).toBe("SSH-2.0-here\r\nhello");
      await at("web", "funnel", "--lease=2222", "off");
      await expect.poll(talk, WAIT).toBe("");
    });

    test("FN-15 port 80 sends on to a public name, and answers nothing else", async () => {
      const moved = await curl(
        "web",
        "http://web.tail.test/x?y",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{redirect_url}",
      );
      expect(moved.stdout).toBe("308 https://web.tail.test/x?y");
      expect((await curl("web", "http://relay.tail.test/")).code).toBe(52); // an empty answer
    });

    test("a gateway that wants visitors knows the relay, and no other peer than before", async () => {
      const status = JSON.parse(await at("web", "status", "--json")) as {
        Self: { TailscaleIPs: string[] };
        Peer: Record<string, { HostName: string }>;
      };
      expect(
        Object.values(status.Peer)
          .map(({ HostName }) => HostName)
          .toSorted(),
      ).toEqual(["api", "ingress"]);
    });

    test("FN-8 off is off within a second, for who is there and for who comes", async () => {
      const open = visitor.start("curl", [
        ...["-sN", "--cacert", `${scratch}/web.ca`, "--resolve", `web.tail.test:443:${relayAddress}`],
        "https://web.tail.test/events",
      ]);
      const ended = new Promise<void>((resolve) => open.once("close", () => resolve()));
      await new Promise<void>((resolve) => open.stdout!.once("data", () => resolve()));
      await at("web", "funnel", "--https=443", "off");
      await ended;
      const after = await curl("web", "https://web.tail.test/");
      expect(after.code).toBe(35);
      expect(await at("web", "funnel", "status")).toBe("No serve config\n");
    });
  },
);
