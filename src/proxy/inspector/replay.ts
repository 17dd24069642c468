import { request } from "node:http";
import tls from "node:tls";
import type { Clock } from "../../base/clock.ts";
import type { Conn, Proof } from "../../base/conn.ts";
import { connPair } from "../../base/conn-pair.ts";
import { asDuplex } from "../../base/duplex.ts";
import { Fault } from "../../base/fault.ts";
import { isReserved } from "../../identity/reserved.ts";
import { repeatable } from "./exports.ts";
import type { Recorded, Recorder } from "./recorder.ts";

/** Of documentation (RFC 5737): nobody's, so that no backend takes a repetition for its own machine's or anybody's request. */
const NOBODY = "192.0.2.1";
const LONGEST_MS = 30_000;

/** When to stop. */
export interface ReplayBounds {
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** What a repetition goes through: all that any connection does. */
export interface ReplayTarget {
  serves(port: number, destination?: string): boolean;
  accept(conn: Conn, port: number): void;
}

/**
 * Sends a recorded request again, through the proxy's own front door, as a stranger: whoever sent it first, a repetition has
 * no identity, no cookie and no token, and meets the doors that strangers meet. The status of its answer, which is cut where it has no end.
 *
 * @throws {Fault} INSPECTOR_REPLAY
 */
export async function replay(
  record: Recorded,
  target: ReplayTarget,
  recorder: Recorder,
  { clock, signal }: ReplayBounds,
): Promise<number> {
  const { place, body, method, id } = record;
  if (record.isUpgrade) throw refused("it switched to another protocol, wanted an ordinary one");
  if (!body.isWhole) throw refused("its body was not kept whole: it is too long, no text, or redacted altogether");
  if (!target.serves(place.port, place.address)) throw refused(`port ${place.port} is not served any more`);
  const proof: Proof = {
    kind: "public",
    source: { address: NOBODY, port: 1 },
    destination: { address: place.address, port: place.port },
  };
  recorder.willReplay(proof, id);
  const [near, far] = connPair(proof);
  target.accept(far, place.port);
  const plain = asDuplex(near);
  const { serverName } = place;
  const options = {
    socket: plain,
    servername: serverName ?? "",
    rejectUnauthorized: false,
    ALPNProtocols: ["http/1.1"],
  };
  const stream = serverName === undefined ? plain : tls.connect(options); // to ourselves, in memory
  const fields = repeatable(record.fields).filter(([name]) => !isReserved(name));
  const headers = [["Host", place.host], ["Connection", "close"], ...fields].flat();
  if (body.totalBytes > 0) headers.push("Content-Length", String(Buffer.byteLength(body.text)));
  let [stop, cancel] = [(): void => undefined, (): void => undefined];
  try {
    return await new Promise<number>((resolve, reject) => {
      let status: number | undefined;
      stop = () => (status === undefined ? reject(refused("no answer came")) : resolve(status));
      signal.addEventListener("abort", stop);
      cancel = clock.at(clock.now() + LONGEST_MS, stop);
      plain.once("error", reject);
      const asked = request({ createConnection: () => stream, method, path: record.target, headers });
      asked.once("error", reject);
      asked.once("response", (response) => {
        status = response.statusCode ?? 0;
        response.once("error", reject);
        response.once("end", stop);
        response.resume();
      });
      asked.end(body.text);
    });
  } catch (thrown) {
    throw thrown instanceof Fault ? thrown : refused("the connection was cut", thrown);
  } finally {
    cancel();
    signal.removeEventListener("abort", stop);
    stream.destroy();
    plain.destroy();
  }
}

function refused(found: string, cause?: unknown): Fault {
  return new Fault("INSPECTOR_REPLAY", `Cannot repeat the request: ${found}`, { cause });
}
