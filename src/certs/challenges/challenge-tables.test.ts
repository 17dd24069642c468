import { createHash, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:tls";
import { describe, expect, test } from "vitest";
import { listening } from "../../../test/suites/listening.ts";
import { systemClock } from "../../base/clock.ts";
import { HttpChallenges } from "./http-01.ts";
import { ACME_TLS, TlsAlpnChallenges } from "./tls-alpn-01.ts";

const never = new AbortController().signal;

describe("AC-11 http-01", async () => {
  const challenges = new HttpChallenges((name) => name !== "other.example");
  const { solver } = challenges;
  const token = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
  const keyAuthorization = `${token}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI`;
  const present = (name: string) => solver.present({ type: "http-01", name, token, keyAuthorization }, never);
  await present("www.example.com");
  const path = `/.well-known/acme-challenge/${token}`;

  test.each<[string, string, string, boolean]>([
    ["the pending one", "www.example.com", path, true],
    ["with the port", "www.example.com:80", path, true],
    ["any case of the host", "WWW.Example.com", path, true],
    ["another host", "example.com", path, false],
    ["a host below", "x.www.example.com", path, false],
    ["no host", "", path, false],
    ["a host that carries the path", `www.example.com${path}`, path, false],
    ["a final dot", "www.example.com.", path, false],
    ["another token", "www.example.com", `${path}x`, false],
    ["the token in another case", "www.example.com", path.toLowerCase(), false],
    ["no token", "www.example.com", "/.well-known/acme-challenge/", false],
    ["a slash behind", "www.example.com", `${path}/`, false],
    ["a query", "www.example.com", `${path}?a`, false],
    ["..", "www.example.com", `/.well-known/acme-challenge/../acme-challenge/${token}`, false],
    ["%2f", "www.example.com", `/.well-known%2facme-challenge/${token}`, false],
    ["%2e", "www.example.com", `/%2ewell-known/acme-challenge/${token}`, false],
    ["two slashes", "www.example.com", `//.well-known/acme-challenge/${token}`, false],
    ["the whole URL", "www.example.com", `http://www.example.com${path}`, false],
    ["long", "www.example.com", `${path}${"a".repeat(100_000)}`, false],
    ["elsewhere", "www.example.com", "/", false],
    ["a name of every object", "www.example.com", "/.well-known/acme-challenge/__proto__", false],
  ])("%s", (_name, host, asked, isThere) => {
    expect(challenges.answer(host, asked)).toBe(isThere ? keyAuthorization : undefined);
  });

  test("gone after use; wildcards and names elsewhere are not proved so; a token that is none is refused", async () => {
    const away = await present("b.example.com");
    expect(challenges.answer("b.example.com", path)).toBe(keyAuthorization);
    await away();
    expect(challenges.answer("b.example.com", path)).toBeUndefined();
    expect(["a.example", "*.a.example", "other.example"].map((name) => solver.canProve(name))).toEqual([
      true,
      false,
      false,
    ]);
    for (const bad of ["", "../x", "a/b", "a b", "a".repeat(257)]) {
      const asked = solver.present({ type: "http-01", name: "a.example", token: bad, keyAuthorization }, never);
      await expect(asked).rejects.toMatchObject({ code: "CERT_CHALLENGE_TOKEN" });
    }
  });
});

describe("TL-7 tls-alpn-01", () => {
  const present = (challenges: TlsAlpnChallenges, name: string, keyAuthorization = "token.thumb") =>
    challenges.solver.present({ type: "tls-alpn-01", name, keyAuthorization }, never);
  const table = () => new TlsAlpnChallenges({ mayProve: (name) => name !== "other.example", clock: systemClock });

  test("the certificate is what RFC 8737 says", async () => {
    const challenges = table();
    await present(challenges, "www.example.com", "a.b");
    const { certificate } = challenges.find("www.example.com", [ACME_TLS])!;
    const leaf = new X509Certificate(certificate);
    expect(leaf.subjectAltName).toBe("DNS:www.example.com");
    expect(leaf.verify(leaf.publicKey)).toBe(true);
    // id-pe-acmeIdentifier, critical TRUE, OCTET STRING { OCTET STRING of 32 bytes }
    const digest = createHash("sha256").update("a.b").digest("hex");
    expect(leaf.raw.toString("hex")).toContain(`06082b0601050507011f0101ff04220420${digest}`);
  });

  test("only for a pending name, and only where nothing but acme-tls/1 is offered", async () => {
    const challenges = table();
    const away = await present(challenges, "www.example.com");
    const isShown = (name: string, ...protocols: readonly string[]) => challenges.find(name, protocols) !== undefined;
    expect(isShown("www.example.com", ACME_TLS)).toBe(true);
    expect(isShown("WWW.example.com", ACME_TLS)).toBe(true);
    expect(isShown("www.example.com")).toBe(false);
    expect(isShown("www.example.com", "h2", ACME_TLS)).toBe(false);
    expect(isShown("www.example.com", ACME_TLS, "http/1.1")).toBe(false);
    expect(isShown("www.example.com", "http/1.1")).toBe(false);
    expect(isShown("example.com", ACME_TLS)).toBe(false);
    expect(isShown("", ACME_TLS)).toBe(false);
    expect(isShown("__proto__", ACME_TLS)).toBe(false);
    await away();
    expect([isShown("www.example.com", ACME_TLS), challenges.isAny]).toEqual([false, false]);
  });

  test("two CAs may ask for a name at once: the last is shown, the other stays", async () => {
    const challenges = table();
    const first = await present(challenges, "a.example", "one");
    const kept = challenges.find("a.example", [ACME_TLS]);
    const second = await present(challenges, "a.example", "two");
    expect(challenges.find("a.example", [ACME_TLS])).not.toBe(kept);
    await second();
    expect(challenges.find("a.example", [ACME_TLS])).toBe(kept);
    await first();
    expect(challenges.find("a.example", [ACME_TLS])).toBeUndefined();
  });

  test("a CA's handshake completes with it", async () => {
    const challenges = table();
    await present(challenges, "www.example.com");
    const { key, certificate } = challenges.find("www.example.com", [ACME_TLS])!;
    const server = createServer({ key, cert: certificate, ALPNProtocols: [ACME_TLS] }, (socket) => socket.end());
    const socket = connect({
      ...{ host: "127.0.0.1", port: await listening(server), servername: "www.example.com" },
      ...{ ALPNProtocols: [ACME_TLS], rejectUnauthorized: false },
    });
    await once(socket, "secureConnect");
    expect(socket.alpnProtocol).toBe(ACME_TLS);
    expect(socket.getPeerX509Certificate()?.subjectAltName).toBe("DNS:www.example.com");
    socket.destroy();
    server.close();
  });

  test("wildcards and names elsewhere are not proved so", () => {
    const { solver } = table();
    expect(["a.example", "*.a.example", "other.example"].map((name) => solver.canProve(name))).toEqual([
      true,
      false,
      false,
    ]);
  });
});
