import { defineConfig, type ViteUserConfig } from "vitest/config";

const exclude = ["**/node_modules/**", "dist/**", ".node/**"];

const config: ViteUserConfig = defineConfig({
  test: {
    reporters: ["default", "./test/counts-reporter.ts"],
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "test/*.test.ts", "test/suites/**/*.test.ts", "examples/**/*.test.ts"],
          exclude,
          isolate: false,
        },
      },
      {
        test: {
          name: "real",
          include: ["test/real/**/*.test.ts"],
          exclude,
          pool: "forks",
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});

export default config;
