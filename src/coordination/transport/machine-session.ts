import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Clock } from "../../base/clock.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { Log } from "../../base/log.ts";
import type { MapRequest, RegisterRequest } from "../../wire/tailcfg.ts";
import { type ControlHandler, statusOfFault } from "../control-handler.ts";
import { MapStream, type MapTraffic } from "./map-stream.ts";

const LONGEST_LOGGED = 200;

/** CS-7. */
const LARGEST_BODY = 1024 * 1024;
const BODY_WITHIN_MS = 30_000;
/** Capability version 113 = client 1.80: before it lack delta filters (81), nil AllowedIPs (112) and others. */
export const OLDEST_VERSION = 113;

export interface MachineOptions {
  /** Proven by Noise. */
  readonly machineKey: string;
  readonly handler: ControlHandler;
  readonly log: Log;
  readonly clock: Clock;
  readonly traffic: MapTraffic;
}

/** Answers the requests of one machine. `:authority` and `Ts-Lb` are the client's claims and not looked at. */
export function serveMachine(session: ServerHttp2Session, options: MachineOptions): void {
  session.on("stream", (stream, headers) => {
    stream.on("error", (error) => options.log.debug("control.stream.broken", { error: messageOf(error) }));
    serve(stream, headers, options).catch((error: unknown) => {
      const status = error instanceof Fault ? statusOf(error.code) : 500;
      const text = error instanceof Fault ? error.message : "internal error";
      options.log.warn("control.request.failed", {
        path: headers[":path"]?.slice(0, LONGEST_LOGGED),
        status,
        error: messageOf(error),
      });
      if (stream.headersSent) stream.close(0x2);
      else respondText(stream, status, text);
    });
  });
}

function statusOf(code: string): number {
  if (code === "CONTROL_BAD_REQUEST" || code === "CONTROL_OLD_CLIENT") return 400;
  if (code === "CONTROL_BODY_TOO_LARGE") return 413;
  if (code === "CONTROL_UNKNOWN_NODE") return 404;
  if (code === "CONTROL_BODY_SLOW") return 408;
  return statusOfFault(code);
}

async function serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, options: MachineOptions): Promise<void> {
  const { machineKey, handler } = options;
  const method = headers[":method"] ?? "";
  const path = headers[":path"] ?? "";
  const pathname = path.split("?", 1)[0]!;
  if (!pathname.startsWith("/machine/")) return respondText(stream, 404, "not found");
  const body = await readBody(stream, options.clock);
  if (pathname === "/machine/register" || pathname === "/machine/map") {
    if (method !== "POST") return respondText(stream, 405, "bad method");
    const request = requestOf(body);
    if (pathname === "/machine/map") return serveMap(stream, request as MapRequest, options);
    const closed = new AbortController();
    stream.on("close", () => closed.abort());
    const answer = await handler.register(machineKey, request as RegisterRequest, closed.signal);
    return respondJson(stream, 200, answer);
  }
  const { status, body: answer } = await handler.other(machineKey, method, path, jsonOrText(body));
  if (typeof answer === "string") respondText(stream, status, answer);
  else respondJson(stream, status, answer);
}

async function serveMap(stream: ServerHttp2Stream, request: MapRequest, options: MachineOptions): Promise<void> {
  const out = new MapStream(stream, request, options);
  try {
    await options.handler.map(options.machineKey, request, out);
    out.end();
  } catch (error) {
    out.stop();
    throw error;
  }
}

/** The members of every request that are looked at here; the rest is the handler's to check. */
/** With the members that every request has; the others are checked where they are used. */
function requestOf(body: string): Pick<MapRequest & RegisterRequest, "Version" | "NodeKey"> {
  const value = parsed(body);
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw badRequest("no object", "an object");
  const { Version: version, NodeKey: nodeKey } = value as { Version?: unknown; NodeKey?: unknown };
  if (typeof nodeKey !== "string" || !/^nodekey:[0-9a-fA-F]{64}$/.test(nodeKey)) {
    throw badRequest("no node key", "nodekey: and 64 hex digits");
  }
  if (typeof version !== "number" || !Number.isInteger(version)) throw badRequest("no version", "a whole number");
  if (version < OLDEST_VERSION) {
    throw new Fault(
      "CONTROL_OLD_CLIENT",
      `Cannot serve capability version "${version}": found an old client, wanted ${OLDEST_VERSION} or newer`,
      { hint: "Update the client to 1.80 or newer." },
    );
  }
  return { ...value, Version: version, NodeKey: nodeKey };
}

function badRequest(found: string, wanted: string): Fault {
  return new Fault("CONTROL_BAD_REQUEST", `Cannot read the request: found ${found}, wanted ${wanted}`);
}

function parsed(body: string): unknown {
  if (body === "") return undefined;
  try {
    return JSON.parse(body);
  } catch (error) {
    throw badRequest(messageOf(error), "JSON");
  }
}

/** Answers to c2n pings are raw HTTP/1.1, everything else is JSON. */
function jsonOrText(body: string): unknown {
  if (body.startsWith("HTTP/1.")) return body;
  return parsed(body);
}

function readBody(stream: ServerHttp2Stream, clock: Clock): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let length = 0;
    const slow = () => {
      stream.pause();
      reject(new Fault("CONTROL_BODY_SLOW", "Cannot read the request: found no end in 30 s, wanted all of it"));
    };
    const cancel = clock.at(clock.now() + BODY_WITHIN_MS, slow);
    stream.on("data", (part: Buffer) => {
      length += part.length;
      if (length <= LARGEST_BODY) return void parts.push(part);
      cancel();
      stream.pause();
      reject(
        new Fault(
          "CONTROL_BODY_TOO_LARGE",
          `Cannot read the request: found more than ${LARGEST_BODY} bytes, wanted at most that`,
        ),
      );
    });
    stream.on("end", () => {
      cancel();
      resolve(Buffer.concat(parts).toString("utf8"));
    });
    stream.on("close", () => {
      cancel();
      reject(new Fault("CONTROL_BAD_REQUEST", "Cannot read the request: found it cancelled, wanted all of it"));
    });
  });
}

function respondText(stream: ServerHttp2Stream, status: number, text: string): void {
  if (stream.destroyed || stream.closed) return;
  stream.respond({ ":status": status, "content-type": "text/plain; charset=utf-8" });
  stream.end(`${text}\n`);
}

function respondJson(stream: ServerHttp2Stream, status: number, body: unknown): void {
  if (stream.destroyed || stream.closed) return;
  if (body === undefined) {
    stream.respond({ ":status": status }, { endStream: true });
    return;
  }
  stream.respond({ ":status": status, "content-type": "application/json" });
  stream.end(JSON.stringify(body));
}
