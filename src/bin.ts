#!/usr/bin/env -S node --disable-warning=ExperimentalWarning --max-semi-space-size=4 --no-allocation-site-pretenuring
// V8 would let 16 MB of young objects gather, and stop for 10 ms to look through them while thousands of visitors come; with
// 4 MB it stops for 1 ms, and the work costs the same. Where many requests are under way at each of these stops, V8 takes what
// they are made of for long-lived and makes it old from the beginning; there, what is over keeps alive what came after it.
// Both in docs/performance.md.
// Parsed by whatever Node is there, so that an old one gets a sentence instead of a syntax error: no static imports.
const OLDEST_NODE = 24;
const LINGER_MS = 3000;

if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
  process.stderr.write(
    `sallyport: cannot run on Node ${process.versions.node}, wanted ${OLDEST_NODE} or newer (NODE_TOO_OLD)\n`,
  );
  process.exitCode = 1;
} else {
  await keepCompiled();
  const { main } = await import("./cli/main.ts");
  const { processIo } = await import("./cli/process-io.ts");
  process.exitCode = await main(process.argv.slice(2), processIo());
  // A command that is over must not linger because something was left open: what is written by now is out.
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

/**
 * Compiled code is kept between runs: starting takes a third of the time. Not in the shared folder that Node would take,
 * and not in somebody else's home (sudo may keep $HOME): whoever can write there could make us run his code.
 */
async function keepCompiled(): Promise<void> {
  const { enableCompileCache } = await import("node:module");
  const { homedir } = await import("node:os");
  const { statSync } = await import("node:fs");
  const owner = statSync(homedir(), { throwIfNoEntry: false })?.uid;
  if (owner !== undefined && owner === process.getuid?.()) enableCompileCache(`${homedir()}/.cache/sallyport/code`);
}

export {};
