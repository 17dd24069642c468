import type { ChildProcess } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findPeer, isRoot, peersOrSkip } from "../peers.ts";
import { CONTROL, ECHO_PORT, FunnelLab, HTTP_PORT, LAB_PEERS, NAME, OWN_DOMAIN } from "./funnel-lab.ts";
import { commandAt } from "./processes.ts";

const { missing } = peersOrSkip(...LAB_PEERS);
const browserBinary = findPeer("chromium");
const WAIT = { timeout: 60_000, interval: 100 };
const VISITOR = [process.execPath, `${import.meta.dirname}/funnel-visitor.ts`] as const;
const HOLDS =
  /✓ dns +10\.77\.0\.50\n.*✓ ingress .*\n.*✓ name .*\n.*✓ certificate +by Pebble .*\n.*✓ backend +status 200\n/;

/** Everything is a process of its own on a machine of its own; nobody is told an address that he cannot ask DNS for. */
describe.skipIf(!isRoot || missing !== undefined)(
  `strangers at a gateway without an open port, by way of DNS${missing === undefined ? "" : ` (${missing})`}`,
  () => {
    let lab: FunnelLab;
    let browser: Browser | undefined;
    /** What streams that stay open have brought. */
    const heard = { events: "", socket: "" };

    const keep = (child: ChildProcess, what: keyof typeof heard): void => {
      child.stdout!.on("data", (chunk) => {
        heard[what] += String(chunk);
      });
    };
    const asked = async (...args: readonly string[]): Promise<Record<string, string>> => {
      const { stdout, stderr } = await lab.curl(...args);
      expect(stderr).toBe("");
      return JSON.parse(stdout) as Record<string, string>;
    };
    const report = async (...words: readonly string[]): Promise<unknown> => {
      const { stdout, stderr } = await lab.visit(
        "env",
        `NODE_EXTRA_CA_CERTS=${lab.file("root.pem")}`,
        ...VISITOR,
        ...words,
      );
      expect(stderr).toBe("");
      return JSON.parse(stdout);
    };
    /** `openssl s_client`, asking one question. */
    const openssl = async (...flags: readonly string[]): Promise<string> => {
      const question = `GET /openssl HTTP/1.1\\r\\nHost: ${NAME}\\r\\nConnection: close\\r\\n\\r\\n`;
      const where = `-connect ${NAME}:443 -servername ${NAME} -CAfile ${lab.file("root.pem")} -verify_return_error`;
      const command = `printf '${question}' | openssl s_client ${where} -ign_eof ${flags.join(" ")} 2>&1`;
      return (await lab.visit("sh", "-c", command)).stdout;
    };

    beforeAll(async () => {
      lab = new FunnelLab();
      await lab.open();
      await lab.startIngress(50, "--visitor-rate", "100000");
    }, 110_000);

    afterAll(async () => {
      await browser?.close();
      await lab?.close();
    });

    test("nothing is public before somebody says so: the name has no address", async () => {
      expect((await lab.curl(`https://${NAME}/`)).stderr).toContain("Could not resolve host");
    });

    test("`sallyport funnel 3000` is on, hop by hop, with a certificate by the zone's DNS-01", async () => {
      const { code, stderr } = await lab.typed("funnel", "--bg", "--check", "--public", HTTP_PORT);
      expect([code, stderr]).toEqual([0, expect.stringMatching(HOLDS)]);
      expect(await asked(`https://${NAME}/a?b`)).toMatchObject({
        ...{ host: NAME, url: "/a?b", "tailscale-funnel-request": "?1", "sallyport-caller-kind": "anonymous" },
        ...{ "x-forwarded-for": lab.visitor.address, "x-forwarded-proto": "https" },
      });
      const events = lab.visitor.start("curl", ["-sN", "--cacert", lab.file("root.pem"), `https://${NAME}/events`]);
      keep(events, "events");
      const trust = { NODE_EXTRA_CA_CERTS: lab.file("root.pem") };
      keep(lab.visitor.start(VISITOR[0], [VISITOR[1], "socket", `wss://${NAME}/socket`], trust), "socket");
      await expect.poll(() => heard.events.includes("data: 3\n") && heard.socket.includes("tick"), WAIT).toBe(true);
    });

    test("`funnel --domain`: the CA comes through the ingress, by TLS-ALPN-01", async () => {
      const { code, stderr } = await lab.typed(
        "funnel",
        "--bg",
        "--check",
        "--public",
        "--domain",
        OWN_DOMAIN,
        HTTP_PORT,
      );
      expect([code, stderr]).toEqual([0, expect.stringMatching(HOLDS)]);
      expect(await asked(`https://${OWN_DOMAIN}/`)).toMatchObject({ host: OWN_DOMAIN });
      // One domain's visitors get no other's content by asking for it inside.
      const inside = await lab.curl(`https://${OWN_DOMAIN}/`, "-H", `Host: ${NAME}`, "-w", "%{http_code}");
      expect(inside.stdout).toMatch(/421$/);
    });

    test("the gateway has no inbound port: whoever knocks there is turned away by its firewall", async () => {
      const before = lab.knocks();
      const ports = ["22", "53", "80", "443", HTTP_PORT, ECHO_PORT, "8080", "8443", "10000", "41641"];
      expect(await report("knock", lab.gateway.address, ...ports)).toEqual([]);
      expect(lab.knocks() - before).toBeGreaterThanOrEqual(ports.length);
      const listening = lab.gateway.run("ss", "-Htln").trim().split("\n");
      expect(listening.filter((line) => !/\s(?:127\.0\.0\.1|\[::1\]):\d+\s/.test(line))).toEqual([]);
    });

    test.each([
      ["1.1", ["--http1.1"]],
      ["2", ["--http2"]],
      ["1.1", ["--http1.1", "--tls-max", "1.2"]],
      ["2", ["--http2", "--tls-max", "1.2"]],
    ])("curl speaks HTTP/%s, %j", async (version, flags) => {
      const body = "x".repeat(100_000);
      const { stdout } = await lab.curl(...flags, "-d", body, "-w", " %{http_version}", `https://${NAME}/post`);
      expect(stdout).toMatch(new RegExp(`"content-length":"100000".*"method":"POST","url":"/post"} ${version}$`));
      const size = await lab.curl(...flags, "-o", "/dev/null", "-w", "%{size_download}", `https://${NAME}/big`);
      expect(size.stdout).toBe(String(8 << 20));
    });

    test.each(["-tls1_2", "-tls1_3"])(
      "openssl %s, and comes again with its session; no early data is taken",
      async (version) => {
        const session = lab.file(`session${version}`);
        expect(await openssl(version, "-sess_out", session)).toMatch(/New, TLS.*"url":"\/openssl"/s);
        expect(await openssl(version, "-sess_in", session)).toMatch(/Reused, TLS.*"url":"\/openssl"/s);
        if (version === "-tls1_2") return;
        writeFileSync(lab.file("early"), `GET /early HTTP/1.1\r\nHost: ${NAME}\r\n\r\n`);
        const early = await openssl(version, "-sess_in", session, "-early_data", lab.file("early"));
        expect(early).toMatch(/Early data was (?:not sent|rejected)/);
        expect(early).toContain('"url":"/openssl"');
        expect(early).not.toContain('"url":"/early"');
      },
    );

    test("Node agrees on post-quantum key exchange, and on the old one", async () => {
      const wanted = ["X25519MLKEM768", "X25519", "P-256"];
      expect(await report("groups", NAME, ...wanted)).toEqual(wanted.map((group) => `${group} TLSv1.3 true`));
    });

    test.skipIf(browserBinary === undefined)(
      "Chromium: a page by HTTP/2, its fetch, event source and WebSocket",
      async () => {
        const script = lab.file("chromium");
        writeFileSync(script, `#!/bin/sh\nexec ip netns exec ${lab.visitor.name} ${browserBinary} "$@"\n`);
        chmodSync(script, 0o755);
        browser = await chromium.launch({ executablePath: script, args: ["--no-sandbox"] });
        const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
        expect((await page.goto(`https://${NAME}/page`))?.status()).toBe(200);
        await expect.poll(() => page.title(), WAIT).toBe("h2 ?1 0 from the page");
      },
    );

    test("TL-1 a hello in two segments, cut at every byte, arrives as it was sent", async () => {
      await lab.typed("funnel", "--bg", "--public", "--tcp=8443", `tcp://127.0.0.1:${ECHO_PORT}`);
      const arrived = async (): Promise<boolean> => (await report("echo", NAME, "8443")) === true;
      await expect.poll(arrived, WAIT).toBe(true);
      const found = (await report("cuts", NAME, "8443")) as Record<string, { cuts: number; whole: number }>;
      for (const [kind, { cuts, whole }] of Object.entries(found)) expect(`${kind} ${whole}`).toBe(`${kind} ${cuts}`);
      expect(found["browser"]!.cuts).toBeGreaterThan(1500);
    });

    test("FN-11 an ingress that was broken into reaches no other port, and knows no other node", async () => {
      const ports = [
        "1",
        "22",
        "53",
        "80",
        "443",
        HTTP_PORT,
        ECHO_PORT,
        "5252",
        "8080",
        "8443",
        "10000",
        "41641",
        "65535",
      ];
      const program = [process.execPath, `${import.meta.dirname}/hostile-relay.ts`, CONTROL] as const;
      const machine = lab.ingress(51);
      const { stdout, stderr } = await commandAt(machine, ...program, await lab.key("tag:ingress"), NAME, ...ports);
      expect(JSON.parse(stdout), stderr).toEqual({ open: [], peers: [`${NAME}.`] });
    });

    test("an event stream and a WebSocket are open since the beginning, and nothing of them was lost", async () => {
      const ticks = (): number[] => [...heard.events.matchAll(/data: (\d+)\n/g)].map(([, tick]) => Number(tick));
      const count = ticks().length;
      const sockets = heard.socket.length;
      await expect.poll(() => ticks().length > count && heard.socket.length > sockets, WAIT).toBe(true);
      expect(ticks()).toEqual(ticks().map((_, i) => i));
      expect(heard.socket).not.toContain("closed");
    });
  },
);
