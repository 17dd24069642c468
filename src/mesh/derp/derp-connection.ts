import { createHash, type X509Certificate } from "node:crypto";
import net from "node:net";
import type { Duplex } from "node:stream";
import tls from "node:tls";
import { parseAddress } from "../../base/address.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import type { DerpNode, DerpRegion } from "../../wire/tailcfg.ts";

const DIAL_MS = 5000;
/** Where another node comes after it (upstream derphttp_client.go, dialNodeTimeout). */
const DIAL_BEFORE_OTHERS_MS = 1500;
const UPGRADE_MS = 10_000;
const HEAD_BYTES = 16 * 1024;
const PINNED = /^sha256-raw:([0-9a-f]{64})$/;

/** Dials the nodes of a region in their order, up to the end of the HTTP upgrade. */
export async function connectRegion(region: DerpRegion, signal: AbortSignal): Promise<Duplex> {
  const nodes = (region.Nodes ?? []).filter((node) => node.STUNOnly !== true);
  let last: unknown;
  for (const node of nodes) {
    if (signal.aborted) break;
    try {
      const dialMs = node === nodes.at(-1) ? DIAL_MS : DIAL_BEFORE_OTHERS_MS;
      return await connectNode(node, { firstName: nodes[0]!.Name, dialMs }, signal);
    } catch (thrown) {
      last = thrown;
    }
  }
  throw new Fault(
    "DERP_UNREACHABLE",
    `Cannot reach DERP region "${region.RegionID}": ${last === undefined ? "it has no relay" : messageOf(last)}, wanted an answering node`,
    { cause: last, hint: "check the relay's host name, its port and its certificate" },
  );
}

interface Dial {
  readonly firstName: string;
  readonly dialMs: number;
}

async function connectNode(node: DerpNode, { firstName, dialMs }: Dial, signal: AbortSignal): Promise<Duplex> {
  const port = node.DERPPort || 443;
  const hosts = [node.IPv4, node.IPv6].filter((host) => host !== undefined && parseAddress(host) !== undefined);
  if (hosts.length === 0) hosts.push(node.HostName);
  let last: unknown;
  for (const host of hosts as string[]) {
    const family = node.IPv6 === "none" ? 4 : node.IPv4 === "none" ? 6 : 0;
    const socket = net.connect({ host, port, family, noDelay: true });
    try {
      return await within(socket, UPGRADE_MS, signal, async () => {
        await within(socket, dialMs, signal, () => once(socket, "connect"));
        socket.setKeepAlive(true, 60_000);
        const stream = node.InsecureForTests === true && port === 3340 ? socket : await secure(socket, node);
        await upgrade(stream, node, firstName);
        return stream;
      });
    } catch (thrown) {
      socket.destroy();
      last = thrown;
    }
  }
  throw last;
}

async function secure(socket: net.Socket, node: DerpNode): Promise<tls.TLSSocket> {
  const name = node.HostName;
  const wanted = node.CertName === undefined || node.CertName === "" ? name : node.CertName;
  const pin = PINNED.exec(wanted)?.[1];
  const stream = tls.connect({
    socket,
    ...(net.isIP(name) === 0 ? { servername: name } : {}),
    ALPNProtocols: ["http/1.1"],
    minVersion: "TLSv1.2",
    rejectUnauthorized: pin === undefined && node.InsecureForTests !== true,
    // SNI stays the host name while the certificate may have to be for another.
    checkServerIdentity: (_servername, certificate) => tls.checkServerIdentity(wanted, certificate),
  });
  await once(stream, "secureConnect");
  const isExempt = node.InsecureForTests === true && pin === undefined;
  if (!isExempt && pin !== undefined) checkPin(stream.getPeerX509Certificate(), pin, name);
  return stream;
}

/** Upstream `net/tlsdial`: one certificate (besides the relay's `derpkey` one), its hash, its dates, its name. */
function checkPin(first: X509Certificate | undefined, pin: string, name: string): void {
  const presented: X509Certificate[] = [];
  for (let one = first; one !== undefined && presented.length < 8; one = one.issuerCertificate) {
    if (presented.some((known) => known.raw.equals(one!.raw))) break; // a self-signed one is its own issuer
    presented.push(one);
  }
  const [leaf, ...others] = presented.filter(({ subject }) => !/^CN=derpkey[0-9a-f]{64}$/m.test(subject ?? ""));
  const found = leaf === undefined ? "none" : createHash("sha256").update(leaf.raw).digest("hex");
  const now = Date.now();
  const isValid = leaf !== undefined && now >= Date.parse(leaf.validFrom) && now <= Date.parse(leaf.validTo);
  const isNamed = leaf !== undefined && (net.isIP(name) !== 0 || leaf.checkHost(name) !== undefined);
  if (found === pin && others.length === 0 && isValid && isNamed) return;
  throw new Fault(
    "DERP_CERTIFICATE",
    `Cannot trust DERP server "${name}": certificate ${found}, wanted ${pin}, in date and named so`,
    {
      hint: "the relay's certificate was replaced, or someone is in the middle",
    },
  );
}

async function upgrade(stream: Duplex, node: DerpNode, firstName: string): Promise<void> {
  const ideal = node.Name === firstName ? "" : `Ideal-Node: ${firstName.replace(/[^\x21-\x7e]/g, "")}\r\n`;
  const host = net.isIPv6(node.HostName) ? `[${node.HostName}]` : node.HostName;
  stream.write(`GET /derp HTTP/1.1\r\nHost: ${host}\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n${ideal}\r\n`);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let head = Buffer.alloc(0);
  const read = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0 && head.length <= HEAD_BYTES) return;
    const status = head.subarray(0, Math.min(64, head.length)).toString("latin1").split("\r\n")[0] ?? "";
    stream.off("data", read);
    stream.pause();
    if (end >= 0 && /^HTTP\/1\.[01] 101(?: |$)/.test(status)) {
      if (head.length > end + 4) stream.unshift(head.subarray(end + 4));
      resolve();
    } else {
      reject(
        new Fault(
          "DERP_UPGRADE",
          `Cannot upgrade at DERP server "${node.HostName}": ${JSON.stringify(status)}, wanted 101`,
        ),
      );
    }
  };
  stream.on("data", read);
  stream.once("error", reject);
  stream.once("close", () => reject(new Error("connection closed")));
  await promise;
}

async function once(emitter: Duplex, event: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  emitter.once(event, () => resolve());
  emitter.once("error", reject);
  emitter.once("close", () => reject(new Error("connection closed")));
  await promise;
}

/** Destroys the socket when the work takes too long or is not wanted any more, which ends the work. */
async function within<T>(socket: net.Socket, ms: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const stop = (): void => void socket.destroy(new Error("aborted"));
  const timer = setTimeout(() => void socket.destroy(new Error(`no answer within ${ms / 1000} s`)), ms);
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await work();
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
