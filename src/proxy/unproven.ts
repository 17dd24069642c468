import { Fault } from "../base/fault.ts";
import type { ServeConfig } from "../wire/serve-config.ts";
import { backendOf } from "./backend.ts";

/**
 * Backends beyond this machine: whoever reaches them without us can write the identity fields itself, unless the backend
 * checks the signed assertion (ID-14).
 */
export function unprovenBackends(config: ServeConfig): string[] {
  const places = new Set<string>();
  const layers = [config, ...Object.values(config.Foreground ?? {}), ...Object.values(config.Services ?? {})];
  for (const { Web } of layers) {
    for (const { Handlers } of Object.values(Web ?? {})) {
      for (const { Proxy: target } of Object.values(Handlers ?? {})) {
        const backend = target === undefined || target === "" ? undefined : backendOf(target);
        if (backend === undefined || backend instanceof Fault || backend.socketPath !== undefined) continue;
        if (!isLoopback(backend.host)) places.add(`${backend.host}:${backend.port}`);
      }
    }
  }
  return [...places];
}

function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, "").toLowerCase();
  return name === "localhost" || name === "::1" || /^127(?:\.\d{1,3}){3}$/.test(name);
}
