import { realpathSync, statSync } from "node:fs";
import path from "node:path";
import { asDialled, isThisMachine, noBackendAt } from "../base/backend-places.ts";
import { Fault } from "../base/fault.ts";
import { backendOf } from "../proxy/backend.ts";
import type { ProxyOptions } from "../proxy/options.ts";
import { forwardPlace } from "../proxy/tcp-forward.ts";
import { refusedStream } from "../proxy/upstream/dial.ts";
import type { HttpHandler, ServeConfig, ServiceConfig } from "../wire/serve-config.ts";

/** Kernel file systems: what they show is this machine's and this process's own. */
const KERNEL_PLACES = ["/proc", "/sys", "/dev"] as const;

/**
 * Places that must never be served: the state folder, our own sockets, files with secrets. A target that is one of them, lies in
 * one or has one inside is refused when it is set, and again when it is opened, as links and mounts change (RT-7, RT-9).
 */
export class ProtectedPaths {
  readonly #places: Set<string>;
  readonly #ownPort: () => number | undefined;

  /** `places`: files and folders, by any name. `ownPort`: of loopback, where our own pages are. */
  constructor(places: readonly string[], ownPort: () => number | undefined = () => undefined) {
    this.#places = new Set(places);
    this.#ownPort = ownPort;
  }

  /** What was a secret once stays one. */
  add(places: readonly string[]): void {
    for (const place of places) this.#places.add(place);
  }

  /** Why this configuration cannot be, or nothing; what `before` had already is no reason. */
  refusal(config: ServeConfig | null, before: ServeConfig | null = null): string | undefined {
    const borne = new Set(this.#refusals(before));
    return this.#refusals(config).find((refusal) => !borne.has(refusal));
  }

  *#refusals(config: ServeConfig | null): Generator<string, undefined> {
    for (const target of targetsOf(config)) {
      if ("file" in target && !this.#mayServe(target.file, true))
        yield `cannot serve "${target.file}": it is, holds or lies in a place with this gateway's own secrets or devices`;
      if ("socket" in target && !this.mayDial(target.socket))
        yield `cannot forward to "${target.socket}": it is this gateway's own admin socket`;
      if ("host" in target && this.isOwnListener(target.host, target.port))
        yield `cannot forward to "${target.host}:${target.port}": this gateway listens there itself`;
      const reason = "host" in target ? noBackendAt(target.host) : undefined;
      if ("host" in target && reason !== undefined)
        yield `cannot forward to "${target.host}": no backend is there (${reason})`;
    }
  }

  /** Is it a TCP port at which this gateway shows its own pages? Names that only lead here are asked about by address. */
  isOwnListener(host: string, port: number): boolean {
    return port === this.#ownPort() && isThisMachine(host);
  }

  /** May this file or folder, whose links are resolved, be sent? */
  mayOpen(resolved: string): boolean {
    return this.#mayServe(resolved, false);
  }

  /** May a unix socket at this path be a backend? By device and inode: links, hard links and bind mounts are the same socket. */
  mayDial(socketPath: string): boolean {
    return !this.#isPlace(socketPath);
  }

  #isPlace(...files: readonly string[]): boolean {
    const asked = new Set(files.map(identityOf));
    return [...this.#places].map(identityOf).some((identity) => identity !== undefined && asked.has(identity));
  }

  #mayServe(file: string, isRoot: boolean): boolean {
    const real = resolved(file);
    if (KERNEL_PLACES.some((place) => isWithin(real, place))) return false;
    if (this.#isPlace(real, ...foldersAbove(real))) return false; // by another name, too: a hard link, a bind mount
    return [...this.#places].every((place) => {
      const secret = resolved(place);
      return !isWithin(real, secret) && !(isRoot && isWithin(secret, real));
    });
  }
}

function resolved(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return path.resolve(file); // not there yet: its name decides, and it is asked about again when it is opened
  }
}

function isWithin(inner: string, outer: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith(path.sep) ? outer : outer + path.sep);
}

function foldersAbove(file: string): readonly string[] {
  const above = path.dirname(file);
  return above === file ? [] : [above, ...foldersAbove(above)];
}

function identityOf(file: string): string | undefined {
  if (file.includes("\0")) return undefined; // an abstract name, which is none of our files
  try {
    const { dev, ino } = statSync(file, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined; // what cannot be looked at cannot be opened either
  }
}

type Target =
  | { readonly file: string }
  | { readonly socket: string }
  | { readonly host: string; readonly port: number };

function* targetsOf(config: ServeConfig | ServiceConfig | null): Generator<Target> {
  if (config === null) return;
  for (const { TCPForward = "" } of Object.values(config.TCP ?? {})) {
    const place = TCPForward === "" ? undefined : forwardPlace(TCPForward);
    if (place === undefined) continue;
    yield "path" in place ? { socket: place.path } : { host: asDialled(place.host), port: place.port };
  }
  for (const { Handlers } of Object.values(config.Web ?? {}))
    for (const handler of Object.values(Handlers ?? {})) yield* ofHandler(handler);
  const { Foreground = {}, Services = {} } = config as ServeConfig;
  for (const part of [...Object.values(Foreground), ...Object.values(Services)]) yield* targetsOf(part);
}

function* ofHandler({ Path, Proxy: target = "" }: HttpHandler): Generator<Target> {
  if (Path !== undefined && Path !== "") yield { file: Path };
  const backend = target === "" ? undefined : backendOf(target);
  if (backend === undefined || backend instanceof Fault) return; // read as the proxy reads it; what it cannot read it refuses
  yield backend.socketPath === undefined ? { host: backend.host, port: backend.port } : { socket: backend.socketPath };
}

type Dial = NonNullable<ProxyOptions["dialBackend"]>;

/** Asked at every dial: what a socket's name leads to may have changed since it was configured. */
export function guardedDial(dial: Dial | undefined, guarded: ProtectedPaths): Dial {
  return (place) => {
    if (!("path" in place) || guarded.mayDial(place.path)) return dial?.(place);
    const refusal = new Fault("GATEWAY_TARGET_REFUSED", "Cannot forward to this gateway's own admin socket");
    return refusedStream(refusal);
  };
}
