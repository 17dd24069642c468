import { connect, type Socket } from "node:net";
import tls from "node:tls";
import { canonicalAddress, parseAddress } from "../base/address.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { messageOf } from "../base/fault.ts";
import { isMeshAddress } from "../wire/mesh-address.ts";

/** What a visitor would meet on the way to a public name, in this order; nothing is asked behind the first that fails (FN-9). */
export type Hop = "policy" | "dns" | "ingress" | "name" | "certificate" | "backend";

export interface Finding {
  readonly hop: Hop;
  readonly isGood: boolean;
  readonly found: string;
  /** Of what does not hold: waiting changes nothing. */
  readonly isLasting?: boolean;
}

export interface ProbeOptions {
  readonly name: string;
  readonly port: number;
  /** All addresses of the name, as public DNS has them. */
  readonly resolve: (name: string) => Promise<readonly string[]>;
  /** Addresses of the ingresses, where they are known: nobody else is asked anything (FN-15). */
  readonly ingresses?: readonly string[];
  /** PEM of a CA that is trusted beside those of the system. */
  readonly ca?: string;
  /** Is it HTTP inside? Else nothing is asked of the backend. */
  readonly isHttp: boolean;
  /** A raw port: no TLS, and no name that the ingress could know. */
  readonly isRaw?: boolean;
  /** TLS ends at the gateway and something else than HTTP is inside: a handshake says nothing of what is behind. */
  readonly isEnded?: boolean;
  /** Is it the one that the node itself presents? `undefined`: nobody can say. */
  readonly isOwn?: (leaf: Leaf) => Promise<boolean | undefined>;
  readonly signal: AbortSignal;
  readonly clock?: Clock;
}

/** By what a certificate is known again. */
export interface Leaf {
  /** Hex, lower case. */
  readonly serial: string;
  /** Unix ms. */
  readonly notAfter: number;
}

const HTTPS_PORT = 443;
const MOST_ADDRESSES = 16;
/** Mostly IPv6, where a machine has none. */
const NO_WAY: ReadonlySet<string> = new Set(["ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"]);
/** Longer than a relay takes to bring somebody through the mesh, and a node to find its target dead. */
const QUIET_MS = 3000;
/** What the alert `internal_error` says. */
export const NOT_REACHED = "the ingress does not reach this node, or it has no certificate";
/** What the alert `unrecognized_name` says. */
export const UNKNOWN_NAME = "the ingress does not know the name, or not on this port";
export const HUNG_UP = "hung up at once: the node is away, or its target does not answer";

/** Goes the way of a visitor, through the public address. Gives each hop as soon as it is known. */
export async function* probe(options: ProbeOptions): AsyncGenerator<Finding, void> {
  const { name, port, resolve, signal } = options;
  const addresses = await resolve(name).catch((error: unknown) => dnsText(error, name));
  if (typeof addresses === "string") return yield bad("dns", addresses);
  const [address] = addresses;
  if (address === undefined) return yield bad("dns", `${name} has no address`);
  // Each of them is asked.
  const inMesh = addresses.find((one) => {
    const bytes = parseAddress(one);
    return bytes === undefined || isMeshAddress(bytes);
  });
  if (inMesh !== undefined) {
    return yield bad(
      "dns",
      `${inMesh} is an address of the mesh: this machine's resolver does not say what the world's does`,
    );
  }
  const { ingresses = [] } = options;
  const stranger = addresses.find((one) => ingresses.length > 0 && !ingresses.includes(canonicalAddress(one)!));
  if (stranger !== undefined) {
    return yield bad("dns", `${stranger} is no ingress of this network, wanted ${ingresses.join(" or ")}`);
  }
  yield good("dns", addresses.toSorted().join(", ")); // a zone may say them in another order each time

  const dead = await firstDead(addresses.slice(1, MOST_ADDRESSES), port, signal);
  const socket = connect({ host: address, port, signal });
  const refused = await settled(socket, "connect");
  // Whoever resets has taken the connection before: a raw port is there, and leads to nobody who takes it.
  const isReset = options.isRaw === true && (refused as NodeJS.ErrnoException | undefined)?.code === "ECONNRESET";
  if (refused !== undefined && !isReset)
    return yield bad("ingress", `${address} port ${port}: ${reasonOf(refused, signal)}`);
  if (dead !== undefined) {
    socket.destroy();
    return yield bad("ingress", `${dead}, while ${address} answers: some visitors are sent there`);
  }
  yield good("ingress", `${address} port ${port}`);
  if (isReset) return yield bad("backend", HUNG_UP);
  if (options.isRaw === true) return yield await listenTo(socket, signal, options.clock);

  const roots = options.ca === undefined ? {} : { ca: [...tls.rootCertificates, options.ca] };
  const secure = tls.connect({
    socket,
    servername: name,
    ALPNProtocols: ["http/1.1"],
    rejectUnauthorized: false,
    ...roots,
  });
  const giveUp = (): void => void secure.destroy();
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    const refusal = await settled(secure, "secureConnect");
    // An ingress that does not know the name says so. Where TLS does not end at the gateway, it is the target that hangs up.
    const { code } = (refusal ?? {}) as NodeJS.ErrnoException;
    if (!options.isHttp && code === "ECONNRESET") {
      yield good("name", name);
      return yield bad("backend", HUNG_UP);
    }
    if (refusal !== undefined) return yield bad("name", alertText(refusal) ?? reasonOf(refusal, signal));
    yield good("name", name);
    const { valid_to: end, issuer, serialNumber } = secure.getPeerCertificate();
    if (!secure.authorized) return yield bad("certificate", certificateText(secure));
    const leaf = { serial: serialNumber.toLowerCase(), notAfter: Date.parse(end) };
    if ((await options.isOwn?.(leaf)) === false) {
      return yield bad(
        "dns",
        `${address} is another machine: it has a good certificate for ${name}, and not this node's`,
      );
    }
    const elsewhere = await firstElsewhere(addresses.slice(1, MOST_ADDRESSES), secure, options);
    if (elsewhere !== undefined) {
      const { host, why } = elsewhere;
      // One of the network's own is where it belongs: what is wrong is not the record.
      const hop = ingresses.includes(canonicalAddress(host)!) ? "ingress" : "dns";
      return yield bad(hop, `${host}${why}: some visitors are sent there`);
    }
    yield good("certificate", `by ${issuer?.O ?? issuer?.CN ?? "nobody"}, until ${end}`);
    if (options.isEnded === true) yield await listenTo(secure, signal, options.clock);
    else if (options.isHttp) yield await askBackend(secure, port === HTTPS_PORT ? name : `${name}:${port}`, signal);
  } finally {
    signal.removeEventListener("abort", giveUp);
    secure.destroy();
  }
}

/** Why one of these does not take connections; an address that this machine has no way to says nothing. */
async function firstDead(addresses: readonly string[], port: number, signal: AbortSignal): Promise<string | undefined> {
  const refusals = await Promise.all(
    addresses.map(async (address) => {
      const socket = connect({ host: address, port, signal });
      const refused: NodeJS.ErrnoException | undefined = await settled(socket, "connect");
      socket.destroy();
      const isOurs = NO_WAY.has(refused?.code ?? "");
      return refused === undefined || isOurs ? undefined : `${address} port ${port}: ${reasonOf(refused, signal)}`;
    }),
  );
  return refusals.find((refusal) => refusal !== undefined);
}

/** A name with several addresses may still have one of before: there somebody else answers, or nobody who knows it. */
async function firstElsewhere(
  addresses: readonly string[],
  seen: tls.TLSSocket,
  { name, port, signal }: ProbeOptions,
): Promise<{ readonly host: string; readonly why: string } | undefined> {
  const { fingerprint256 } = seen.getPeerCertificate();
  const found = await Promise.all(
    addresses.map(async (host) => {
      const socket = connect({ host, port, signal });
      if ((await settled(socket, "connect")) !== undefined) return undefined; // that was looked at before
      const secure = tls.connect({ socket, servername: name, ALPNProtocols: ["http/1.1"], rejectUnauthorized: false });
      try {
        const refusal = await settled(secure, "secureConnect");
        if (refusal !== undefined) return { host, why: `: ${alertText(refusal) ?? reasonOf(refusal, signal)}` };
        const isSame = secure.getPeerCertificate().fingerprint256 === fingerprint256;
        return isSame ? undefined : { host, why: " presents another certificate" };
      } finally {
        secure.destroy();
      }
    }),
  );
  return found.find((one) => one !== undefined);
}

/** Who speaks first is there; who waits for the visitor to speak has at least not hung up. */
async function listenTo(socket: Socket, signal: AbortSignal, clock: Clock = systemClock): Promise<Finding> {
  if (socket.destroyed) return bad("backend", HUNG_UP); // while something else was looked at
  const { promise, resolve } = Promise.withResolvers<Finding>();
  const giveUp = (): void => resolve(bad("backend", "no answer in time"));
  const stop = clock.at(clock.now() + QUIET_MS, () => resolve(good("backend", "the connection stays open")));
  signal.addEventListener("abort", giveUp, { once: true });
  socket.on("data", () => resolve(good("backend", "it answers")));
  socket.on("error", () => undefined);
  socket.once("close", () => resolve(bad("backend", HUNG_UP)));
  socket.once("end", () => void socket.destroy());
  try {
    return await promise;
  } finally {
    stop();
    signal.removeEventListener("abort", giveUp);
    socket.destroy();
  }
}

async function askBackend(secure: tls.TLSSocket, host: string, signal: AbortSignal): Promise<Finding> {
  secure.on("error", () => undefined);
  secure.write(`HEAD / HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: sallyport-probe\r\nConnection: close\r\n\r\n`);
  let text = "";
  try {
    for await (const chunk of secure as AsyncIterable<Buffer>) {
      text += chunk.toString("latin1");
      const status = /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1];
      if (status !== undefined) {
        // 421: the gateway was asked for a name that it does not answer for here (RFC 9110 section 15.5.20).
        return { hop: "backend", isGood: Number(status) < 500 && status !== "421", found: `status ${status}` };
      }
      if (text.length > 1000) break;
    }
  } catch (thrown) {
    if (!signal.aborted) return bad("backend", messageOf(thrown));
  }
  return bad("backend", signal.aborted ? "no answer in time" : "no HTTP answer");
}

const good = (hop: Hop, found: string): Finding => ({ hop, isGood: true, found });
const bad = (hop: Hop, found: string): Finding => ({ hop, isGood: false, found });

/** Undefined: the event came; else why not. */
function settled(stream: Socket, event: "connect" | "secureConnect"): Promise<Error | undefined> {
  return new Promise((resolve) => {
    stream.once(event, () => resolve(undefined));
    stream.once("error", resolve);
    stream.once("close", () => resolve(new Error("the connection was closed")));
  });
}

/** Why visitors refuse it, in words; what TLS calls it stands behind. */
function certificateText(secure: tls.TLSSocket): string {
  const code = String(
    (secure.authorizationError as NodeJS.ErrnoException | undefined)?.code ?? secure.authorizationError,
  );
  const { valid_to: end, valid_from: begin, subjectaltname = "", issuer } = secure.getPeerCertificate();
  const why: Readonly<Record<string, string>> = {
    CERT_HAS_EXPIRED: `it ended ${end}`,
    CERT_NOT_YET_VALID: `it begins ${begin}: is a clock wrong?`,
    ERR_TLS_CERT_ALTNAME_INVALID: `it is for ${namesText(subjectaltname.split(", "))}`,
  };
  const signer = String(issuer?.CN ?? issuer?.O ?? "nobody").slice(0, 64);
  return `${why[code] ?? `visitors do not know who signed it, "${signer}"`} (${code})`;
}

/** A stranger's certificate may have thousands. */
function namesText(names: readonly string[]): string {
  const shown = names.slice(0, 3).map((name) => name.replace(/^DNS:/, "").slice(0, 253));
  return `${shown.join(", ")}${names.length > 3 ? ` and ${names.length - 3} others` : ""}` || "no name";
}

function dnsText(error: unknown, name: string): string {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (code === "ENOTFOUND" || code === "ENODATA") return `public DNS has no address of ${name}`;
  const isSilent = ["ETIMEOUT", "ECONNREFUSED", "ESERVFAIL", "EREFUSED"].includes(code);
  return isSilent ? `this machine's resolver has no answer for ${name} (${code})` : messageOf(error);
}

function alertText(error: Error): string | undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (code === "ERR_SSL_TLSV1_UNRECOGNIZED_NAME") return UNKNOWN_NAME;
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER")
    return "what answers there speaks no TLS: `--tls-terminated-tcp` ends it here, `--lease` does without";
  return code === "ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR" ? NOT_REACHED : undefined;
}

function reasonOf(error: Error, signal: AbortSignal): string {
  return signal.aborted ? "no answer in time" : error.message;
}
