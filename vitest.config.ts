import { defineConfig } from "vitest/config";

const exclude = ["**/node_modules/**", "dist/**", ".node/**"];

export default defineConfig({
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
