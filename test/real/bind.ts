import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { findPeer } from "../peers.ts";
import { createNamespace, eventually } from "./namespace.ts";

/** Base64, as in the environment of a gateway. */
export const BIND_SECRETS: Readonly<Record<"GOOD" | "GOOD512" | "WRONG", string>> = {
  GOOD: Buffer.alloc(32, 7).toString("base64"),
  GOOD512: Buffer.alloc(64, 9).toString("base64"),
  WRONG: Buffer.alloc(32, 8).toString("base64"),
};

export interface Bind {
  /** It answers on port 53 there. */
  readonly address: string;
  close(): void;
}

/**
 * BIND in a namespace: a resolver, and the authority of `example.com`, which `good.key` and `good512.key` may change and `other.key` may
 * not, and of `led.example`, whose `_acme-challenge.www` is led into the first.
 */
export async function startBind(): Promise<Bind> {
  const scratch = mkdtempSync(`${tmpdir()}/sp-bind-`);
  const space = createNamespace();
  const close = (): void => {
    space.close();
    rmSync(scratch, { recursive: true, force: true });
  };
  const zone = (name: string, more = ""): void =>
    writeFileSync(
      `${scratch}/${name}.zone`,
      `$TTL 60\n@ SOA ns1.${name}. hostmaster.${name}. 1 3600 600 86400 1\n@ NS ns1\nns1 A ${space.address}\n${more}`,
    );
  zone("example.com");
  zone("led.example", "_acme-challenge.www CNAME proofs.example.com.\n");
  writeFileSync(
    `${scratch}/named.conf`,
    `options {
  directory "${scratch}"; pid-file none; session-keyfile "${scratch}/session.key";
  listen-on port 53 { ${space.address}; }; listen-on-v6 { none; };
  recursion yes; allow-recursion { any; }; dnssec-validation no; allow-query { any; };
};
controls { };
key "good.key" { algorithm hmac-sha256; secret "${BIND_SECRETS.GOOD}"; };
key "good512.key" { algorithm hmac-sha512; secret "${BIND_SECRETS.GOOD512}"; };
key "other.key" { algorithm hmac-sha256; secret "${BIND_SECRETS.GOOD}"; };
zone "example.com" {
  type primary; file "example.com.zone";
  update-policy { grant good.key zonesub TXT; grant good512.key zonesub TXT; };
};
zone "led.example" { type primary; file "led.example.zone"; };
`,
  );
  let log = "";
  const named = space.start(findPeer("named")!, ["-g", "-4", "-c", `${scratch}/named.conf`]);
  for (const stream of [named.stdout!, named.stderr!]) {
    stream.on("data", (chunk) => {
      log = (log + String(chunk)).slice(-20_000);
    });
  }
  try {
    await eventually("BIND", () => (/ running\n/.test(log) ? true : undefined), 60_000);
    return { address: space.address, close };
  } catch (error) {
    close();
    throw new Error(`${String(error)}\n${log}`);
  }
}
