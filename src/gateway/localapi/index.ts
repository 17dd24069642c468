export type { LocalApiBackend } from "./backend.ts";
export { type LocalApiOptions, openLocalApi } from "./server.ts";
