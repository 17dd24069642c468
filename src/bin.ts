#!/usr/bin/env -S node --disable-warning=ExperimentalWarning
// Parsed by whatever Node is there, so that an old one gets a sentence instead of a syntax error: no static imports.
const OLDEST_NODE = 24;

if (Number(process.versions.node.split(".")[0]) < OLDEST_NODE) {
  process.stderr.write(
    `sallyport: cannot run on Node ${process.versions.node}, wanted ${OLDEST_NODE} or newer (NODE_TOO_OLD)\n`,
  );
  process.exitCode = 1;
} else {
  const { main } = await import("./cli/main.ts");
  const { processIo } = await import("./cli/process-io.ts");
  process.exitCode = await main(process.argv.slice(2), processIo());
}

export {};
