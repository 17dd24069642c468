import { MapFrameReader } from "../../wire/control-map.ts";
import type { MapResponse } from "../../wire/tailcfg.ts";
import type { ControlChannel } from "./control-channel.ts";
import type { ControlClientOptions } from "./control-state.ts";
import { balancerHint, mapRequest, StatusError, statusFault } from "./requests.ts";

const PATH = "/machine/map";
const KEPT_REFUSAL = 200;

/** The long poll: gives each message to `take`, and settles at the stream's end. Throws a `StatusError` for a refusal. */
export async function pollMap(
  channel: ControlChannel,
  options: ControlClientOptions,
  signal: AbortSignal,
  take: (response: MapResponse) => void,
): Promise<void> {
  const request = mapRequest(options, "poll");
  const headers = { "ts-lb": balancerHint(request) };
  const body = JSON.stringify(request);
  const reader = new MapFrameReader();
  let refusal = "";
  const answer = await channel.request({ method: "POST", path: PATH, headers, body, signal }, (part, status) => {
    if (status !== 200) {
      if (refusal.length < KEPT_REFUSAL) refusal += part.toString("utf8");
      return;
    }
    for (const response of reader.push(part)) {
      if (signal.aborted) return;
      take(response);
    }
  });
  if (answer.status !== 200) throw new StatusError(statusFault(PATH, answer.status, refusal), answer);
}

/** Tells the server our whole present state, and wants nothing back. */
export async function postUpdate(
  channel: ControlChannel,
  options: ControlClientOptions,
  signal: AbortSignal,
): Promise<void> {
  const request = mapRequest(options, "update");
  const headers = { "ts-lb": balancerHint(request) };
  const answer = await channel.ask({ method: "POST", path: PATH, headers, body: JSON.stringify(request), signal });
  if (answer.status !== 200) throw new StatusError(statusFault(PATH, answer.status, answer.body), answer);
}
