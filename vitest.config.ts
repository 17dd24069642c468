import path from "node:path";
import { defineConfig, type ViteUserConfig } from "vitest/config";

const exclude = ["**/node_modules/**", "dist/**", ".node/**"];

/** Examples and docs import the package by its name; here that is the source, not a build. */
const source = (file: string): string => path.join(import.meta.dirname, "src", file);
const alias = [
  { find: /^sallyport$/, replacement: source("index.ts") },
  { find: /^sallyport\/identity$/, replacement: source("identity/index.ts") },
  { find: /^sallyport\/testnet$/, replacement: source("testnet.ts") },
];

const config: ViteUserConfig = defineConfig({
  test: {
    reporters: ["default", "./test/counts-reporter.ts"],
    projects: [
      {
        resolve: { alias },
        test: {
          name: "unit",
          include: [
            "src/**/*.test.ts",
            "test/*.test.ts",
            "test/{suites,vectors,fuzz,recordings}/**/*.test.ts",
            "examples/**/*.test.ts",
          ],
          exclude,
          isolate: false,
          setupFiles: ["test/seed.ts"],
          // None needs a second alone; on a machine that does three other things each may wait that long.
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "real",
          include: ["test/real/**/*.test.ts"],
          exclude,
          pool: "forks",
          fileParallelism: false,
          // Foreign processes on a machine that does other things: a second try tells a busy minute from a fault.
          retry: 1,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});

export default config;
