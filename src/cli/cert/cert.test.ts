import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createSecureContext } from "node:tls";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { gatewayStatus, idleGateway, type LocalSocket, openLocalSocket } from "../../../test/suites/local-gateway.ts";
import { type Typed, typedAt } from "../../../test/suites/typed-command.ts";
import { systemClock } from "../../base/clock.ts";
import { Fault } from "../../base/fault.ts";
import type { CertificateStatus } from "../../certs/keeper.ts";
import { LocalCa } from "../../certs/local-ca.ts";
import type { LocalApiBackend } from "../../gateway/localapi/index.ts";

const NAME = "gw.tail.test";
const KEY = "-----BEGIN PRIVATE KEY-----\nkey\n-----END PRIVATE KEY-----\n";
const CHAIN = "-----BEGIN CERTIFICATE-----\nchain\n-----END CERTIFICATE-----\n";
const AT = Date.UTC(2026, 0, 2, 3, 4);

let folder = "";
let socket: LocalSocket;
let asked: unknown[] = [];
let pair = { key: KEY, chain: CHAIN };
let list: readonly CertificateStatus[] = [];

const backend: LocalApiBackend = {
  ...idleGateway,
  status: async () => gatewayStatus({ CertDomains: [NAME, "app.example.com"] }),
  certificate: async (name: string, minValiditySeconds: number) => {
    asked.push([name, minValiditySeconds]);
    if (name === "busy.tail.test") {
      throw Object.assign(new Fault("CERT_WAITING", "Cannot order yet"), { retryAfter: 90_000 });
    }
    if (name !== NAME) throw new Fault("CERT_NAME_UNKNOWN", `Cannot present a certificate for "${name}"`);
    return pair;
  },
  certificates: () => list,
  certificateBudget: async () => [
    {
      authority: "letsencrypt",
      limit: "certificatesPerDomainWeek",
      subject: "example.com",
      used: 50,
      allowed: 50,
      freeAt: AT,
    },
    { authority: "letsencrypt", limit: "ordersPerThreeHours", used: 1, allowed: 300 },
  ],
  renewCertificate: async (name: string) => {
    asked.push(["renew", name]);
    return { names: [name], notAfter: AT };
  },
  revokeCertificate: async (name: string) => void asked.push(["revoke", name]),
  rollAccountKey: async (authority: string) => void asked.push(["roll-key", authority]),
  certificateAdvice: async (name: string) => `advice for ${name}\n\u001b[2J`,
};

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "sp-cert-"));
  asked = [];
  pair = { key: KEY, chain: CHAIN };
  list = [];
  socket = await openLocalSocket(backend);
});

afterEach(async () => {
  await socket.close();
  rmSync(folder, { recursive: true, force: true });
});

const cert = (...words: readonly string[]): Promise<Typed> => typedAt(socket.path, ["cert", ...words]);

const file = (name: string): string => path.join(folder, name);

describe("as upstream's `cert`", () => {
  test("a pair: what is new is written, what is not is left alone", async () => {
    const words = ["--cert-file", file("c.pem"), `-key-file=${file("k.pem")}`, "--min-validity", "720h", NAME];
    expect(await cert(...words)).toEqual({
      code: 0,
      stdout: `Wrote public cert to ${file("c.pem")}\nWrote private key to ${file("k.pem")}\n`,
      stderr: "",
    });
    expect([readFileSync(file("c.pem"), "utf8"), readFileSync(file("k.pem"), "utf8")]).toEqual([CHAIN, KEY]);
    expect([statSync(file("c.pem")).mode & 0o777, statSync(file("k.pem")).mode & 0o777]).toEqual([0o644, 0o600]);
    expect((await cert(...words)).stdout).toBe(
      `Public cert unchanged at ${file("c.pem")}\nPrivate key unchanged at ${file("k.pem")}\n`,
    );
    expect(asked).toEqual([
      [NAME, 720 * 3600],
      [NAME, 720 * 3600],
    ]);
  });

  test("one flag writes one file; - is standard output, and words go to the other", async () => {
    await cert("--cert-file", file("only.pem"), NAME);
    expect([existsSync(file("only.pem")), existsSync(`${NAME}.key`)]).toEqual([true, false]);
    expect(await cert("--key-file", "-", NAME)).toEqual({ code: 0, stdout: KEY, stderr: "" });
    expect(await cert("--cert-file", file("c.pem"), "--key-file", "-", NAME)).toEqual({
      code: 0,
      stdout: KEY,
      stderr: `Wrote public cert to ${file("c.pem")}\n`,
    });
  });

  test("a key file that ends in .p12 holds both, for Windows", async () => {
    const made = await (await LocalCa.create(systemClock)).issue([NAME]);
    pair = { key: made.key, chain: made.certificate };
    expect(await cert("--key-file", file("both.p12"), NAME)).toMatchObject({ code: 0 });
    const pfx = readFileSync(file("both.p12"));
    expect(() => createSecureContext({ pfx, passphrase: "" })).not.toThrow();
  });

  test("without a name: which there are", async () => {
    expect(await cert()).toEqual({
      code: 1,
      stdout: "",
      stderr: 'Usage: sallyport cert [flags] <domain>\nValid domain options: ["gw.tail.test" "app.example.com"].\n\n',
    });
  });

  test.each([
    ["other.tail.test", '500 Internal Server Error: Cannot present a certificate for "other.tail.test"\n'],
    ["busy.tail.test", "429 Too Many Requests: Cannot order yet\n"],
    ["../../etc/passwd", "500 Internal Server Error: invalid domain\n"],
    ["nodots", "500 Internal Server Error: invalid domain\n"],
  ])("%s is refused, and nothing is written", async (name, stderr) => {
    expect(await cert("--cert-file", file("c.pem"), name)).toEqual({ code: 1, stdout: "", stderr });
    expect(existsSync(file("c.pem"))).toBe(false);
  });

  test("a duration that is none", async () => {
    expect((await cert("--min-validity", "30d", NAME)).stderr).toMatch(/^invalid value "30d" for flag -min-validity/);
  });

  test("a name that is not public yet becomes so: that is said first", async () => {
    list = [{ id: NAME, names: [NAME], state: "none", observed: AT }];
    expect((await cert("--cert-file", file("c.pem"), NAME)).stderr).toBe(
      `Everybody will be able to read in certificate transparency logs: ${NAME}\n`,
    );
  });
});

describe("beside it", () => {
  test("list: what is held, what waits and why", async () => {
    expect((await cert("list")).stdout).toBe("No certificates yet: nothing is served with TLS.\n");
    list = [
      { id: "a", names: [NAME], state: "valid", authority: "letsencrypt", notAfter: AT, renewAt: AT, observed: AT },
      {
        id: "b",
        names: ["app.example.com"],
        state: "waiting",
        nextAttempt: AT,
        observed: AT,
        lastFailure: { at: AT, authority: "letsencrypt", code: "CERT_ORDER_REFUSED", message: "no\u001b[2J" },
      },
    ];
    expect((await cert("list")).stdout).toBe(
      [
        "NAMES            STATE    FROM         UNTIL              RENEWED",
        "gw.tail.test     valid    letsencrypt  2026-01-02 03:04Z  2026-01-02 03:04Z",
        "app.example.com  waiting  -            -                  -",
        "app.example.com: 2026-01-02 03:04Z, letsencrypt: no\\u{1b}[2J; next attempt 2026-01-02 03:04Z",
        "",
      ].join("\n"),
    );
    expect(JSON.parse((await cert("list", "--json")).stdout)).toHaveLength(2);
  });

  test("the key of the account at a CA is rolled over", async () => {
    expect((await cert("roll-key", "letsencrypt")).stdout).toBe("The account at letsencrypt has a new key\n");
    expect(asked).toEqual([["roll-key", "letsencrypt"]]);
    expect((await cert("roll-key")).code).toBe(1);
  });

  test("renew, revoke and export", async () => {
    expect((await cert("renew", NAME)).stdout).toBe(`New certificate for ${NAME}, good until 2026-01-02 03:04Z\n`);
    expect((await cert("revoke", NAME)).stdout).toBe(`Revoked the certificate for ${NAME}\n`);
    expect(asked).toEqual([
      ["renew", NAME],
      ["revoke", NAME],
    ]);
    await cert("export", NAME, file("out"));
    expect(readFileSync(file("out/privkey.pem"), "utf8")).toBe(KEY);
    expect(readFileSync(file("out/fullchain.pem"), "utf8")).toBe(CHAIN);
    expect(statSync(file("out/privkey.pem")).mode & 0o777).toBe(0o600);
    expect((await cert("renew")).code).toBe(1);
  });

  test("budget: what each CA still allows, and when more", async () => {
    expect((await cert("budget")).stdout).toBe(
      [
        "CA           LIMIT                               OF           LEFT        NEXT FREE",
        "letsencrypt  certificates of a domain, a week    example.com  0 of 50     2026-01-02 03:04Z",
        "letsencrypt  orders of the account, three hours  -            299 of 300  -",
        "",
      ].join("\n"),
    );
  });

  test("doctor, for one name or for all that are public", async () => {
    expect((await cert("doctor", NAME)).stdout).toBe(`${NAME}\n  advice for ${NAME}\n  \\u001b[2J\n`);
    list = [
      { id: "a", names: [NAME], state: "valid", authority: "internal", observed: AT },
      { id: "b", names: ["app.example.com"], state: "waiting", observed: AT },
      { id: "c", names: ["*.example.com"], state: "none", observed: AT },
    ];
    expect((await cert("doctor")).stdout).toMatch(/^app\.example\.com\n {2}advice for app\.example\.com\n/);
  });
});
