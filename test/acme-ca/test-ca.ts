import { createPublicKey, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Issuer, namesOf, readRequest } from "./issuer.ts";
import { headerOf, isSealedBy, isSignedBy, type Jwk, type Jws, payloadOf, thumbprint } from "./jws.ts";
import type {
  CaAccount,
  CaAnswer,
  CaAuthorization,
  CaOrder,
  CaRequest,
  SuggestedWindow,
  TestCaOptions,
} from "./resources.ts";

const DAY_MS = 86_400_000;
const BACKDATE_MS = 3_600_000;
const PER_PAGE = 2;
const TYPES = ["http-01", "dns-01", "tls-alpn-01"];

/**
 * A small CA for tests: RFC 8555 with RFC 9773 and profiles, in this process, over plain HTTP on loopback. It decides at
 * once, and keeps to the rules unless `instead` says otherwise.
 */
export class TestCa {
  readonly directory: string;
  readonly issuer: Issuer;
  readonly orders: CaOrder[] = [];
  readonly accounts: CaAccount[] = [];
  /** Serial numbers. */
  readonly revoked: string[] = [];
  /** Such as `POST newOrder`. */
  readonly requests: string[] = [];
  /** Goes before the right answer. */
  instead: (request: CaRequest) => CaAnswer | undefined | Promise<CaAnswer | undefined> = () => undefined;
  /** Does what is asked, but the answer gets lost on its way. */
  loses: (request: CaRequest) => boolean = () => false;
  /** When to renew the certificate with this id; without it, at two thirds of its life. */
  window: ((id: string) => SuggestedWindow | CaAnswer | undefined) | undefined;
  /** Finished orders stay in `processing`. */
  isStuck = false;
  /** So many of the next signed requests are told that their nonce is bad. */
  badNonces = 0;
  readonly #options: TestCaOptions;
  readonly #server: Server;
  readonly #nonces: Set<string> = new Set();

  private constructor(options: TestCaOptions, server: Server, issuer: Issuer) {
    this.#options = options;
    this.#server = server;
    this.issuer = issuer;
    this.directory = `http://127.0.0.1:${(server.address() as AddressInfo).port}/directory`;
    server.on("request", (request, response) => void this.#serve(request, response));
  }

  static async start(options: TestCaOptions = {}): Promise<TestCa> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    return new TestCa(options, server, await Issuer.create((options.wall ?? Date.now)()));
  }

  /** PEM. */
  get root(): string {
    return this.issuer.root;
  }

  forgetAccounts(): void {
    this.accounts.length = 0;
  }

  revokeAccounts(): void {
    for (const account of this.accounts) account.status = "revoked";
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = await this.#answer(request).catch((error: unknown) =>
      error instanceof Problem ? error.answer : problem(500, "serverInternal", String(error)).answer,
    );
    const nonce = randomBytes(12).toString("base64url");
    this.#nonces.add(nonce);
    const { body } = answer;
    const kind =
      typeof body === "object" ? (answer.status < 400 ? "application/json" : "application/problem+json") : "";
    response.writeHead(answer.status, {
      "replay-nonce": nonce,
      ...(kind !== "" && { "content-type": kind }),
      ...answer.headers,
    });
    if (typeof body === "function") body(response);
    else response.end(typeof body === "object" ? JSON.stringify(body) : body);
  }

  async #answer(request: IncomingMessage): Promise<CaAnswer> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const [, resource = "", ...words] = (request.url ?? "").split("/");
    const jws = request.method === "POST" ? (JSON.parse(Buffer.concat(chunks).toString()) as Jws) : undefined;
    const payload = jws && payloadOf(jws);
    this.requests.push(`${request.method} ${resource}`);
    const seen = { method: request.method ?? "", resource, payload };
    const instead = await this.instead(seen);
    if (instead !== undefined) return instead;
    const answer = await this.#rightAnswer(request, resource, words, jws, payload);
    return this.loses(seen) ? { status: 200, body: (response) => response.destroy() } : answer;
  }

  async #rightAnswer(
    request: IncomingMessage,
    resource: string,
    words: readonly string[],
    jws: Jws | undefined,
    payload: Record<string, unknown> | undefined,
  ): Promise<CaAnswer> {
    if (resource === "directory") return { status: 200, body: this.#directoryDocument() };
    if (resource === "newNonce") return { status: 200 };
    if (resource === "renewalInfo") return this.#renewalInfo(words[0] ?? "");
    if (jws === undefined) throw problem(405, "malformed", "only POST");
    const account = this.#checkSignature(jws, request.url ?? "");
    if (resource === "newAccount") return this.#newAccount(jws, payload ?? {});
    if (resource === "revokeCert") return this.#revoke(payload ?? {}, account, headerOf(jws).jwk);
    if (account === undefined) throw problem(400, "accountDoesNotExist", "no such account");
    switch (resource) {
      case "account":
        if (payload !== undefined && payload["contact"] === undefined) throw problem(400, "malformed", "update what?");
        if (payload !== undefined) account.contact = payload["contact"];
        return { status: 200, body: this.#accountDocument(account) };
      case "keyChange":
        return this.#changeKey(account, payload as unknown as Jws);
      case "orders":
        return this.#listOrders(account, Number(words[1] ?? 0));
      case "newOrder":
        return this.#newOrder(account, payload ?? {});
    }
    const order = this.orders[Number(words[0])];
    if (order?.account !== account) throw problem(404, "malformed", "no such order");
    const authorization = order.authorizations[Number(words[1])];
    switch (resource) {
      case "order":
        return { status: 200, body: await this.#orderDocument(order) };
      case "finalize":
        return this.#finalize(order, String(payload?.["csr"]));
      case "certificate":
        return this.#certificate(order, words[1] === "alternate");
      case "authz":
        return { status: 200, body: this.#authorizationDocument(order, authorization!) };
      case "challenge":
        return this.#challenge(order, authorization!, words[2] ?? "");
    }
    throw problem(404, "malformed", "no such thing");
  }

  #url(...words: (string | number)[]): string {
    return new URL(`/${words.join("/")}`, this.directory).href;
  }

  #directoryDocument(): object {
    const { profiles, externalAccounts } = this.#options;
    const names = ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"];
    return {
      ...Object.fromEntries(names.map((name) => [name, this.#url(name)])),
      meta: {
        termsOfService: "https://ca.test/terms",
        externalAccountRequired: externalAccounts !== undefined,
        ...(profiles && { profiles: Object.fromEntries(Object.keys(profiles).map((name) => [name, `about ${name}`])) }),
      },
    };
  }

  /** The account that signed; undefined for a key that has none. */
  #checkSignature(jws: Jws, path: string): CaAccount | undefined {
    const { nonce = "", url, kid, jwk } = headerOf(jws);
    if (!this.#nonces.delete(nonce) || this.badNonces > 0) {
      this.badNonces = Math.max(0, this.badNonces - 1);
      throw problem(400, "badNonce", "that nonce is not good");
    }
    if (url !== new URL(path, this.directory).href) throw problem(400, "unauthorized", "signed for another URL");
    const account = this.accounts.find((one) => (kid === undefined ? isSame(one.key, jwk!) : one.url === kid));
    if (kid !== undefined && account === undefined) throw problem(400, "accountDoesNotExist", "no such account");
    if (!isSignedBy(jws, account?.key ?? jwk!)) throw problem(400, "malformed", "bad signature");
    if (account !== undefined && account.status !== "valid") throw problem(403, "unauthorized", "account is revoked");
    return account;
  }

  #newAccount(jws: Jws, payload: Readonly<Record<string, unknown>>): CaAnswer {
    const key = headerOf(jws).jwk!;
    const known = this.accounts.find((one) => isSame(one.key, key));
    if (known !== undefined) {
      return { status: 200, headers: { location: known.url }, body: this.#accountDocument(known) };
    }
    if (payload["onlyReturnExisting"] === true) throw problem(400, "accountDoesNotExist", "no such account");
    if (payload["termsOfServiceAgreed"] !== true) throw problem(403, "userActionRequired", "agree to the terms");
    const { externalAccounts } = this.#options;
    const binding = payload["externalAccountBinding"] as Jws | undefined;
    if (externalAccounts !== undefined) {
      if (binding === undefined) throw problem(403, "externalAccountRequired", "whose account is that?");
      const secret = externalAccounts[headerOf(binding).kid ?? ""] ?? "";
      const isBound = isSealedBy(binding, secret) && isSame(payloadOf(binding) as Jwk, key);
      if (!isBound) throw problem(403, "unauthorized", "bad external account binding");
    }
    const url = this.#url("account", randomBytes(6).toString("hex"));
    const account: CaAccount = { url, key, status: "valid", contact: payload["contact"] };
    this.accounts.push(account);
    return { status: 201, headers: { location: url }, body: this.#accountDocument(account) };
  }

  #accountDocument({ status, contact, url }: CaAccount): object {
    return { status, contact, orders: this.#url("orders", url.split("/").at(-1)!) };
  }

  #changeKey(account: CaAccount, inner: Jws): CaAnswer {
    const { jwk } = headerOf(inner);
    const { account: url, oldKey } = payloadOf(inner) as { account?: string; oldKey?: Jwk };
    const isRight = jwk !== undefined && isSignedBy(inner, jwk) && url === account.url && isSame(oldKey!, account.key);
    if (!isRight) throw problem(400, "malformed", "bad key change");
    account.key = jwk;
    return { status: 200, body: this.#accountDocument(account) };
  }

  #listOrders(account: CaAccount, page: number): CaAnswer {
    const urls = this.orders.filter((order) => order.account === account).map(({ url }) => url);
    const next = this.#url("orders", account.url.split("/").at(-1)!, page + 1);
    const hasMore = urls.length > (page + 1) * PER_PAGE;
    return {
      status: 200,
      headers: hasMore ? { link: `<${next}>;rel="next"` } : {},
      body: { orders: urls.slice(page * PER_PAGE, (page + 1) * PER_PAGE) },
    };
  }

  async #newOrder(account: CaAccount, payload: Readonly<Record<string, unknown>>): Promise<CaAnswer> {
    const names = (payload["identifiers"] as { value: string }[]).map(({ value }) => value);
    const replaces = payload["replaces"] as string | undefined;
    const profile = payload["profile"] as string | undefined;
    if (profile !== undefined && this.#options.profiles?.[profile] === undefined) {
      throw problem(400, "invalidProfile", "no such profile");
    }
    if (replaces !== undefined) {
      if (!this.orders.some((order) => order.issued?.id === replaces))
        throw problem(404, "malformed", "replaces what?");
      const isReplaced = this.orders.some((order) => order.replaces === replaces && order.status !== "invalid");
      if (isReplaced) throw problem(409, "alreadyReplaced", "replaced already");
    }
    const order: CaOrder = {
      url: this.#url("order", this.orders.length),
      account,
      names,
      profile,
      replaces,
      status: "pending",
      authorizations: names.map((name) => ({
        name: name.replace(/^\*\./, ""),
        isWildcard: name.startsWith("*."),
        status: "pending",
        token: randomBytes(24).toString("base64url"),
      })),
    };
    this.orders.push(order);
    return { status: 201, headers: { location: order.url }, body: await this.#orderDocument(order) };
  }

  async #orderDocument(order: CaOrder): Promise<object> {
    const index = this.orders.indexOf(order);
    if (order.status === "pending") {
      const states = order.authorizations.map(({ status }) => status);
      if (states.every((status) => status === "valid")) order.status = "ready";
    }
    if (order.status === "processing" && !this.isStuck) await this.#issue(order);
    return {
      status: order.status,
      identifiers: order.names.map((value) => ({ type: "dns", value })),
      authorizations: order.authorizations.map((_, number) => this.#url("authz", index, number)),
      finalize: this.#url("finalize", index),
      ...(order.status === "valid" && { certificate: this.#url("certificate", index) }),
      ...(order.status === "invalid" && { error: { detail: "a name was not proved" } }),
    };
  }

  #authorizationDocument(order: CaOrder, authorization: CaAuthorization): object {
    const { name, isWildcard, status, token, error } = authorization;
    const place = [this.orders.indexOf(order), order.authorizations.indexOf(authorization)];
    return {
      status,
      identifier: { type: "dns", value: name },
      ...(isWildcard && { wildcard: true }),
      challenges: (isWildcard ? ["dns-01"] : TYPES).map((type) => {
        return { type, status, token, url: this.#url("challenge", ...place, type), ...(error && { error }) };
      }),
    };
  }

  async #challenge(order: CaOrder, authorization: CaAuthorization, type: string): Promise<CaAnswer> {
    const { name, token } = authorization;
    const seen = { type, name, token, keyAuthorization: `${token}.${thumbprint(order.account.key)}` };
    if (authorization.status === "pending") {
      const isBelieved = (await this.#options.validate?.(seen)) ?? true;
      authorization.status = isBelieved ? "valid" : "invalid";
      if (!isBelieved) {
        order.status = "invalid";
        authorization.error = { type: typeOf("unauthorized"), detail: `saw nothing at ${name}` };
      }
    }
    return { status: 200, body: { type, status: "processing", token, url: "" } };
  }

  async #finalize(order: CaOrder, csr: string): Promise<CaAnswer> {
    if (order.status !== "ready") throw problem(403, "orderNotReady", `the order is ${order.status}`);
    const request = readRequest(csr);
    const isRight = [...namesOf(request)].sort().join() === [...order.names].sort().join() && (await request.verify());
    if (!isRight) throw problem(400, "badCSR", "for other names");
    order.request = request;
    order.status = "processing";
    return { status: 200, headers: { "retry-after": "1" }, body: await this.#orderDocument(order) };
  }

  async #issue(order: CaOrder): Promise<void> {
    const { profiles, lifetime = 90 * DAY_MS, wall = Date.now } = this.#options;
    const notBefore = wall() - BACKDATE_MS;
    const notAfter = notBefore + (profiles?.[order.profile ?? ""] ?? lifetime);
    order.issued = await this.issuer.issue(order.request!, notBefore, notAfter);
    order.status = "valid";
  }

  #certificate(order: CaOrder, isAlternate: boolean): CaAnswer {
    const alternate = this.#url("certificate", this.orders.indexOf(order), "alternate");
    return {
      status: 200,
      headers: { "content-type": "application/pem-certificate-chain", link: `<${alternate}>;rel="alternate"` },
      body: isAlternate ? order.issued!.alternate : order.issued!.chain,
    };
  }

  /** By the account that ordered it, or by whoever has its key. */
  #revoke(payload: Readonly<Record<string, unknown>>, account: CaAccount | undefined, jwk: Jwk | undefined): CaAnswer {
    const der = Buffer.from(String(payload["certificate"]), "base64url");
    const order = this.orders.find(({ issued }) => issued && der.equals(Buffer.from(issued.leaf.rawData)));
    if (order?.issued === undefined) throw problem(404, "malformed", "no such certificate");
    const { serialNumber: serial, publicKey } = order.issued.leaf;
    const holder = createPublicKey({ key: Buffer.from(publicKey.rawData), format: "der", type: "spki" });
    const isHolder = jwk !== undefined && isSame(holder.export({ format: "jwk" }), jwk);
    if (account !== order.account && !isHolder) throw problem(403, "unauthorized", "not your certificate");
    if (this.revoked.includes(serial)) throw problem(400, "alreadyRevoked", "revoked already");
    this.revoked.push(serial);
    return { status: 200 };
  }

  #renewalInfo(id: string): CaAnswer {
    const issued = this.orders.find((order) => order.issued?.id === id)?.issued;
    if (issued === undefined) throw problem(404, "malformed", "no such certificate");
    const [from, to] = [issued.leaf.notBefore.getTime(), issued.leaf.notAfter.getTime()];
    const usual = { start: from + ((to - from) * 2) / 3, end: from + ((to - from) * 2) / 3 + DAY_MS };
    const window = this.window === undefined ? usual : this.window(id);
    if (window === undefined) throw problem(404, "malformed", "no window");
    if ("status" in window) return window;
    const { start, end, retryAfter = 21_600 } = window as SuggestedWindow;
    const suggestedWindow = { start: new Date(start).toISOString(), end: new Date(end).toISOString() };
    return { status: 200, headers: { "retry-after": String(retryAfter) }, body: { suggestedWindow } };
  }
}

class Problem extends Error {
  readonly answer: CaAnswer;

  constructor(answer: CaAnswer) {
    super("problem");
    this.answer = answer;
  }
}

/** RFC 8555 section 6.7. */
function problem(status: number, type: string, detail: string): Problem {
  return new Problem({ status, body: { type: typeOf(type), detail, status } });
}

function typeOf(type: string): string {
  return `urn:ietf:params:acme:error:${type}`;
}

function isSame(a: Jwk, b: Jwk): boolean {
  return thumbprint(a) === thumbprint(b);
}
