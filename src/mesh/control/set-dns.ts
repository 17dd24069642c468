import { formatKey, publicKeyOf } from "../../crypto/keys.ts";
import { CAPABILITY_VERSION } from "../../wire/tailcfg.ts";
import type { ControlChannel } from "./control-channel.ts";
import type { ControlClientOptions } from "./control-state.ts";
import { StatusError, statusFault } from "./requests.ts";

const PATH = "/machine/set-dns";

/** A TXT record of our own name in public DNS; the answer comes when it is served. Throws a `StatusError` for a refusal. */
export async function postSetDns(
  channel: ControlChannel,
  options: ControlClientOptions,
  record: { readonly name: string; readonly value: string },
  signal: AbortSignal,
): Promise<void> {
  const NodeKey = formatKey("nodekey", publicKeyOf(options.nodeKey().private));
  const body = JSON.stringify({
    ...{ Version: CAPABILITY_VERSION, NodeKey, Name: record.name, Type: "TXT", Value: record.value },
  });
  const headers = { "content-type": "application/json", "ts-lb": [NodeKey] };
  const answer = await channel.ask({ method: "POST", path: PATH, headers, body, signal });
  if (answer.status !== 200) throw new StatusError(statusFault(PATH, answer.status, answer.body), answer);
}
