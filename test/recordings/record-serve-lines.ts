import { writeFileSync } from "node:fs";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { ServerMesh } from "../real/server-mesh.ts";
import { ok, until } from "../real/stock-mesh.ts";
import { SERVE_STORIES } from "../suites/serve-lines.ts";
import { plain, type Said, stockSays, type Told } from "../suites/stock-words.ts";

// Makes `serve-lines-VERSION.json.gz` anew: upstream's command line at upstream's daemon, a node of our server. See README.md.

const attr = ["funnel", "https"];
const lab = new ServerMesh();
try {
  const policy = {
    tagOwners: { "tag:web": [] },
    grants: [{ src: ["*"], dst: ["*"], ip: ["*"] }],
    nodeAttrs: [{ target: ["tag:web"], attr }],
  };
  await lab.openServer({ policy: JSON.stringify(policy) });
  const node = await lab.stock("box", "userspace");
  await lab.up(node, await lab.keyFor("tag:web"));
  const [version = ""] = /\d+\.\d+\.\d+/.exec(await ok(node.cli("version"))) ?? [];
  const socket = `${lab.scratch}/box/s.sock`;
  const json = async (...words: readonly string[]): Promise<Record<string, unknown>> =>
    JSON.parse(await ok(node.cli(...words))) as Record<string, unknown>;
  await until(
    "capabilities",
    () => json("status", "--json", "--peers=false"),
    (found) => JSON.stringify(found).includes('"funnel"'),
  );
  const told: Told[] = [];
  for (const story of SERVE_STORIES) {
    await ok(node.cli("serve", "reset"));
    await ok(node.cli("debug", "localapi", "PATCH", "/localapi/v0/prefs", '{"AdvertiseServicesSet":true}'));
    const said: Said[] = [];
    for (const line of story) said.push(plain(await stockSays(socket, line)));
    const config = await json("serve", "status", "--json");
    const { AdvertiseServices } = await json("debug", "prefs");
    told.push({ story, said, config, advertised: (AdvertiseServices ?? []) as readonly string[] });
  }
  const lines = told.map((one) => JSON.stringify(one)).join("\n");
  writeFileSync(path.join(import.meta.dirname, `serve-lines-${version}.jsonl.gz`), gzipSync(lines, { level: 9 }));
} finally {
  await lab.close();
}
