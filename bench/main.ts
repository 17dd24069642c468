import { parseArgs } from "node:util";
import { machine } from "./machine.ts";
import { type Group, header, toJsonLine, toRow } from "./table.ts";

// npm run bench [-- [--json] [group …]]: without names, all groups, in this order.
const names = ["tunnel", "serve", "proxy", "ingress", "funnel", "fairness", "slow", "floods", "idle"];
const { values, positionals } = parseArgs({
  options: { json: { type: "boolean", default: false } },
  allowPositionals: true,
});
const wanted = positionals.length > 0 ? positionals : names;
const unknown = wanted.filter((name) => !names.includes(name));
if (unknown.length > 0) {
  console.error(`Cannot measure "${unknown.join(", ")}": no such group, one of ${names.join(", ")} wanted`);
  process.exit(2);
}

console.error(`${new Date().toISOString()} ${machine()}`);
if (!values.json) console.log(header);
for (const name of wanted) {
  const { group } = (await import(`./${name}.ts`)) as { group: Group };
  try {
    for await (const figure of group.run()) console.log(values.json ? toJsonLine(figure) : toRow(figure));
  } catch (error) {
    process.exitCode = 1;
    console.error(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
