import type net from "node:net";
import type { Duplex } from "node:stream";
import tls, { type SecureContext } from "node:tls";
import type { Proof } from "../../base/conn.ts";
import { Fault, messageOf } from "../../base/fault.ts";
import { type Awaited, type LineBounds, type Place, WaitingLine } from "../../base/waiting-line.ts";
import { ALERT, alertRecord, type ClientHello, HelloReader, type HelloRefusal } from "../../wire/client-hello.ts";
import { callerKey } from "../caller-key.ts";
import type { ProxyLimits, ProxyOptions } from "../options.ts";

/** ALPN of a CA that looks for a challenge (RFC 8737 section 3). */
const CHALLENGE_PROTOCOL = "acme-tls/1";
/** For a refusal to arrive before the connection goes. */
const LINGER_MS = 1000;

export type TlsFrontOptions = Pick<ProxyOptions, "clock" | "log" | "secureContext" | "challengeContext" | "count">;

/** What one listener ends TLS for. */
export interface TlsListener {
  /** The name under which we have it; `undefined` = we do not serve it. */
  known(asked: string): string | undefined;
  readonly protocols: readonly string[];
  /** Is the client asked for a certificate? Whatever it shows is taken; what it is worth is decided later. */
  wantsCertificate?(name: string): boolean;
  /** The handshake is over, for this name. */
  accept(secure: tls.TLSSocket, name: string): void;
}

/**
 * Ends TLS. The hello is read before OpenSSL sees it: unknown names get an alert and nothing else, and every name has a
 * context of its own from the first byte on, so that no session is resumed under another name (TL-5; CVE-2025-23419).
 */
export class TlsFront {
  readonly #options: TlsFrontOptions;
  #limits: ProxyLimits;
  /**
   * A handshake is over within a round trip or two. Behind one address may be a whole company: who holds all of its places must
   * hold them anew faster than the others shake hands.
   */
  readonly #pending: WaitingLine;

  constructor(options: TlsFrontOptions, limits: ProxyLimits) {
    this.#options = options;
    this.#limits = limits;
    this.#pending = new WaitingLine(boundsOf(limits), { crowded: () => options.count?.("handshake_crowded") });
  }

  /** From the next connection on. */
  limit(limits: ProxyLimits): void {
    this.#limits = limits;
    this.#pending.bounds = boundsOf(limits);
  }

  /** Handshakes under way. */
  get pending(): number {
    return this.#pending.size;
  }

  accept(stream: Duplex, proof: Proof, listener: TlsListener): void {
    const handshake = new Handshake(this.#options, this.#limits, stream, listener);
    const place = this.#pending.enter(callerKey(proof), handshake);
    if (place === undefined) stream.destroy();
    else handshake.start(place);
  }
}

const boundsOf = (limits: ProxyLimits): LineBounds => ({
  inAll: limits.handshakes,
  ofOwner: limits.handshakesPerCaller,
});

/** One connection from its first byte to the end of the handshake. */
class Handshake implements Awaited {
  readonly #options: TlsFrontOptions;
  readonly #limits: ProxyLimits;
  readonly #stream: Duplex;
  readonly #listener: TlsListener;
  #place: Place | undefined;
  readonly #startedAt: number;
  /** Of the time that the client has; what we take to find a certificate is not the client's. */
  #waitedMs = 0;
  #wantsCertificate = false;
  /** OpenSSL may still refuse: what is then destroyed has an alert to deliver. */
  #isRefusable = false;
  #cancel: () => void = () => {};

  constructor(options: TlsFrontOptions, limits: ProxyLimits, stream: Duplex, listener: TlsListener) {
    this.#options = options;
    this.#limits = limits;
    this.#stream = stream;
    this.#listener = listener;
    this.#startedAt = options.clock.now();
  }

  giveUp(): void {
    this.#over();
    this.#isRefusable = false;
    this.#stream.destroy();
  }

  start(place: Place): void {
    this.#place = place;
    this.#stream.once("close", this.#over);
    this.#limit(this.#limits.handshakeMs);
    const reader = new HelloReader();
    const chunks: Buffer[] = [];
    const settle = (): void => {
      this.#stream.pause();
      this.#stream.off("data", onData).off("end", onEnd);
    };
    const onEnd = (): void => void this.#stream.destroy();
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      const answer = reader.push(chunk);
      if (answer === undefined) return;
      settle();
      if ("alert" in answer) return void this.#refuse(answer);
      this.#stream.unshift(chunks.length === 1 ? chunk : Buffer.concat(chunks));
      this.#choose(answer);
    };
    this.#stream.on("data", onData).once("end", onEnd);
  }

  readonly #over = (): void => {
    this.#cancel();
    this.#place?.leave();
  };

  #limit(ms: number): void {
    const { clock } = this.#options;
    this.#cancel();
    this.#cancel = clock.at(clock.now() + ms, () => {
      this.#isRefusable = false;
      this.#stream.destroy();
    });
  }

  #choose(hello: ClientHello): void {
    const asked = hello.serverName;
    const name = asked === undefined ? undefined : this.#listener.known(asked);
    if (hello.protocols.includes(CHALLENGE_PROTOCOL) && hello.protocols.length === 1) {
      const context = asked === undefined ? undefined : this.#options.challengeContext?.(asked);
      if (context === undefined)
        return void this.#refuse({ alert: ALERT.noApplicationProtocol, found: "no challenge" });
      // Whoever asks for it gets the proof and nothing else (TL-7).
      return void this.#secure(context, asked!, [CHALLENGE_PROTOCOL], (secure) => {
        this.#limit(LINGER_MS);
        secure.resume().end();
      });
    }
    if (name === undefined)
      return void this.#refuse({ alert: ALERT.unrecognizedName, found: "a name not served here" });
    const { protocols } = this.#listener;
    // As OpenSSL would, with nothing made for it before (RFC 7301 section 3.2).
    if (protocols.length > 0 && hello.protocols.length > 0 && !hello.protocols.some((one) => protocols.includes(one)))
      return void this.#refuse({ alert: ALERT.noApplicationProtocol, found: "no protocol of ours" });
    this.#wantsCertificate = this.#listener.wantsCertificate?.(name) ?? false;
    const accept = (secure: tls.TLSSocket): void => this.#listener.accept(secure, name);
    const found = this.#options.secureContext(name, this.#wantsCertificate);
    if (!(found instanceof Promise)) return void this.#answer(found, asked!, accept);
    const { clock } = this.#options;
    const askedAt = clock.now();
    this.#limit(this.#limits.certificateMs);
    found
      .catch((error: unknown) => new Fault("PROXY_NO_CERTIFICATE", `Cannot serve TLS: ${messageOf(error)}`))
      .then((context) => {
        if (this.#stream.destroyed) return;
        this.#waitedMs = clock.now() - askedAt;
        this.#answer(context, asked!, accept);
      });
  }

  #answer(context: SecureContext | Fault, asked: string, accept: (secure: tls.TLSSocket) => void): void {
    // Upstream's answer where it has no certificate (serve-and-funnel.md 3.10).
    if (context instanceof Fault) return void this.#refuse({ alert: ALERT.internalError, found: context.message });
    this.#secure(context, asked, this.#listener.protocols, accept);
  }

  #secure(
    secureContext: SecureContext,
    asked: string,
    protocols: readonly string[],
    accept: (secure: tls.TLSSocket) => void,
  ): void {
    const { clock, log } = this.#options;
    this.#limit(Math.max(0, this.#limits.handshakeMs - (clock.now() - this.#startedAt - this.#waitedMs)));
    const secure = new tls.TLSSocket(this.#stream as net.Socket, {
      isServer: true,
      secureContext,
      requestCert: this.#wantsCertificate,
      rejectUnauthorized: false,
      ...(protocols.length > 0 ? { ALPNProtocols: [...protocols] } : {}),
    });
    // node:http calls it after the last answer of a connection, and it resets what the caller has not read yet.
    secure.destroySoon = () => void secure.end();
    this.#keepOpen(secure);
    // Its own one needs TCP below. Destroyed alone, who has ended already would take it for our end.
    secure.resetAndDestroy = () => {
      this.#stream.destroy(new Fault("PROXY_CUT", "Cannot go on with the connection: it was cut behind TLS"));
      return secure.destroy();
    };
    // Whoever ends before his part of the handshake is said will not say it any more.
    const onEarlyEnd = (): void => void this.#stream.destroy();
    this.#stream.once("end", onEarlyEnd);
    secure.once("secure", () => {
      this.#stream.off("end", onEarlyEnd);
      this.#isRefusable = false;
      this.#over();
      // A second hello, after a retry, says what the first one said (RFC 8446 section 4.1.2). TLS 1.2 has no retry, and
      // OpenSSL tells no name when one of its sessions is resumed, which only this name's context can.
      if (secure.getProtocol() === "TLSv1.3" && secure.servername !== asked) return void secure.destroy();
      accept(secure);
    });
    secure.on("error", (error) => {
      log.debug("proxy.tls_failed", { error: error.message });
      secure.destroy();
    });
  }

  /**
   * A handshake that OpenSSL refuses ends with an alert, and Node takes the connection away from under it: a reset overtakes
   * what is on its way. So the connection ends first, and is gone soon after. And where both ends are said, it would take
   * along what came before them and is not read yet: it goes once TLS does (WS-7).
   */
  #keepOpen(secure: tls.TLSSocket): void {
    const stream = this.#stream;
    const destroy = stream.destroy.bind(stream);
    this.#isRefusable = true;
    stream.destroy = (error) => {
      if (error !== undefined) return destroy(error);
      if (this.#isRefusable && !stream.readableEnded) {
        this.#isRefusable = false;
        this.#options.count?.("handshake_refused");
        this.#linger();
        return stream.end();
      }
      const isOver = stream.readableEnded && stream.writableFinished;
      return isOver && !secure.destroyed && secure.readableLength > 0 ? stream : destroy();
    };
  }

  #refuse({ alert, found }: HelloRefusal): void {
    this.#options.count?.("handshake_refused");
    this.#options.log.debug("proxy.tls_refused", { found });
    this.#linger();
    this.#stream.end(alertRecord(alert));
  }

  #linger(): void {
    this.#limit(LINGER_MS);
    this.#stream.resume(); // read and thrown away: unread bytes would turn the end into a reset
  }
}
