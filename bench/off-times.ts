/**
 * How long a switched-off public name stays (FN-8)? node bench/off-times.ts [rounds]
 * Server, relay and gateway in one process on loopback, 100 visitors connected through the relay's mesh. From the start of
 * `sallyport funnel … off`: until the last of them is cut, until a new one is let in for the last time, until the command ends.
 */
import { OFF_STATES, type OffOutcome, takesBack } from "../test/suites/off-states.ts";
import { median } from "./rounds.ts";

const ROUNDS = Number(process.argv[2] ?? 5);
const VISITORS = 100;

console.log(`${ROUNDS} rounds each, ${VISITORS} visitors, ms: median, worst`);
console.log("| State | the last one cut | the last new one let in | the command over |\n|---|--:|--:|--:|");
for (const [state, how] of Object.entries(OFF_STATES)) {
  const rounds: OffOutcome[] = [];
  for (let round = 0; round < ROUNDS; round++) rounds.push(await takesBack(how, VISITORS));
  const columns = (["cutMs", "letInMs", "commandMs"] as const).map((column) => {
    const all = rounds.map((times) => times[column]);
    return `${median(all)!.toFixed(0)}, ${Math.max(...all).toFixed(0)}`;
  });
  console.log(`| ${state} | ${columns.join(" | ")} |`);
}
process.exit();
