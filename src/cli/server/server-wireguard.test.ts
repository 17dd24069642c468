import { describe, expect, test } from "vitest";
import { askedServer } from "../../../test/suites/asked-server.ts";
import { Screen } from "../../../test/suites/typed-command.ts";
import { publicKeyOf } from "../../crypto/keys.ts";
import { parseServerArgs } from "./server-flags.ts";
import { wireGuard } from "./server-wireguard.ts";

const MEMBER = {
  node: { name: "phone", ipv4: "100.64.0.7", ipv6: "fd7a::7", expires: Date.UTC(2030, 0, 1) },
  baseDomain: "mesh.internal",
  carriers: [
    { name: "gw", publicKey: "GW=", endpoint: "192.0.2.1:41641", addresses: ["100.64.0.1", "fd7a::1"] },
    { name: "two", publicKey: "TWO=", endpoint: "vpn.example.com:7", addresses: ["100.64.0.2", "fd7a::2"] },
  ],
};

async function run(command: string, isTerminal: boolean) {
  const { asked, client } = askedServer(MEMBER);
  const screen = new Screen({ isTerminal });
  const { values, positionals } = parseServerArgs(command.split(" "));
  const status = await wireGuard(values, positionals, client, screen.io);
  return { status, stdout: screen.stdout, stderr: screen.stderr, asked };
}

const ADD = "add phone --user alice@example.com --gateway gw --gateway two --endpoint two=vpn.example.com:7";

describe("sallyport server wireguard add", () => {
  test("prints the file for wg-quick: one [Peer] per gateway, names answered by the first", async () => {
    const { stdout, asked } = await run(`${ADD} --public-key KEY= --expiry 30d`, false);
    expect(asked).toEqual([
      [
        "wireguard.add",
        {
          name: "phone",
          user: "alice@example.com",
          gateways: ["gw", "two"],
          publicKey: "KEY=",
          endpoints: { two: "vpn.example.com:7" },
          expiryMs: 30 * 86_400_000,
        },
      ],
    ]);
    expect(stdout).toBe(`[Interface]
# phone.mesh.internal
# PrivateKey = (the one that belongs to the public key)
Address = 100.64.0.7/32, fd7a::7/128
DNS = 100.100.100.100, mesh.internal
MTU = 1280

[Peer]
# gw.mesh.internal
PublicKey = GW=
AllowedIPs = 100.64.0.1/32, fd7a::1/128, 100.100.100.100/32
Endpoint = 192.0.2.1:41641
PersistentKeepalive = 25

[Peer]
# two.mesh.internal
PublicKey = TWO=
AllowedIPs = 100.64.0.2/32, fd7a::2/128
Endpoint = vpn.example.com:7
PersistentKeepalive = 25
`);
  });

  test("a private key is made here, shown on a terminal with a QR code, and never sent", async () => {
    const { stdout, stderr, asked } = await run(ADD, true);
    const shown = Buffer.from(/^PrivateKey = (.{44})$/m.exec(stdout)![1]!, "base64");
    const sent = Buffer.from(String(asked[0]![1]!["publicKey"]), "base64");
    expect(Buffer.from(publicKeyOf(shown))).toEqual(sent);
    expect(JSON.stringify(asked)).not.toContain(shown.toString("base64"));
    expect(stdout).toContain("▄▄▄▄▄▄▄");
    expect(stderr).toContain("shown once");
  });

  test("into a pipe or file no private key is printed unless that is asked for, and nobody is added", async () => {
    await expect(run(ADD, false)).rejects.toThrow("Cannot show a private key here");
    const { stdout } = await run(`${ADD} --print-private-key`, false);
    expect(stdout).toMatch(/^PrivateKey = .{44}$/m);
    expect(stdout).not.toContain("▄");
  });

  test.each([
    "add",
    "add phone",
    "add phone --user a",
    "add phone --gateway gw --public-key K",
    "remove",
    "list x",
    "x",
  ])("%s is no command", async (command) => {
    expect(
      await run(command, true).then(
        ({ status }) => status,
        () => undefined,
      ),
    ).toBeUndefined();
  });
});
