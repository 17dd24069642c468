import { describe, expect, test } from "vitest";
import { Fault } from "../base/fault.ts";
import { mountRules, nodeServeConfig, servedHosts } from "./node-serve-config.ts";
import { parseServices, type ServicesConfig } from "./services.ts";

const NAME = "gw.tail.test";

function read(members: string): ServicesConfig {
  return parseServices(`{"version":"0.0.1",\n${members}}`, "s.hujson");
}

const endpoint = (text: string): ServicesConfig => read(`"node":{"endpoints":{\n${text}}}`);

describe("names of the operator's own", () => {
  test("a list of names has what the node's own name has", () => {
    const config = endpoint(
      `"tcp:443":{"target":"http://localhost:3000","hosts":["App.example.com","*.apps.example.com"]}`,
    );
    const site = { Handlers: { "/": { Proxy: "http://localhost:3000" } } };
    expect(nodeServeConfig(config, NAME).Web).toEqual({
      "gw.tail.test:443": site,
      "app.example.com:443": site,
      "*.apps.example.com:443": site,
    });
    expect(servedHosts(config)).toEqual(["app.example.com", "*.apps.example.com"]);
  });

  test("each name may have its own content and rules; without a target the node's own name serves nothing", () => {
    const config = endpoint(`"tcp:443":{"hosts":{
      "app.example.com":"http://localhost:3000",
      "wiki.example.com":{"target":"http://localhost:3001","crossSite":"deny","mounts":{"/s/":"file:///srv"}}}}`);
    expect(nodeServeConfig(config, NAME)).toEqual({
      TCP: { 443: { HTTPS: true } },
      Web: {
        "app.example.com:443": { Handlers: { "/": { Proxy: "http://localhost:3000" } } },
        "wiki.example.com:443": { Handlers: { "/": { Proxy: "http://localhost:3001" }, "/s/": { Path: "/srv" } } },
      },
    });
    const rules = (name: string): unknown => mountRules(config, { port: 443, name, mount: "/" });
    expect([rules("wiki.example.com"), rules("app.example.com"), rules(NAME)]).toEqual([
      { crossSite: "deny" },
      {},
      undefined,
    ]);
  });

  test("what is open to the Internet is open under each name, wildcards too", () => {
    const funnel = (text: string): readonly string[] =>
      Object.keys(nodeServeConfig(endpoint(`"tcp:443":{"funnel":true,${text}}`), NAME).AllowFunnel ?? {});
    expect(funnel(`"target":"text:x","hosts":["a.example.com","*.b.example.com"]`)).toEqual([
      "gw.tail.test:443",
      "a.example.com:443",
      "*.b.example.com:443",
    ]);
    expect(funnel(`"hosts":{"a.example.com":"text:x"}`)).toEqual(["a.example.com:443"]);
    expect(funnel(`"target":"text:x"`)).toEqual(["gw.tail.test:443"]);
  });

  test("TLS that ends here for TCP may be for one such name", () => {
    const config = endpoint(
      `"tcp:5432":{"listen":"tls-terminated-tcp","target":"tcp://localhost:5432","hosts":["db.example.com"]}`,
    );
    expect(nodeServeConfig(config, NAME).TCP).toEqual({
      5432: { TCPForward: "localhost:5432", TerminateTLS: "db.example.com" },
    });
  });

  test("redirectHttp opens port 80, which leads every name to its full HTTPS address", () => {
    const config = endpoint(
      `"tcp:8443":{"target":"http://localhost:3000","hosts":["app.example.com","*.a.example.com"],"redirectHttp":true}`,
    );
    // biome-ignore-start lint/suspicious/noTemplateCurlyInString: upstream's placeholders are spelled so
    const to = (place: string): unknown => ({ Handlers: { "/": { Redirect: `308:https://${place}` } } });
    expect(nodeServeConfig(config, NAME)).toMatchObject({
      TCP: { 80: { HTTP: true }, 8443: { HTTPS: true } },
      Web: {
        "gw.tail.test:80": to("gw.tail.test:8443${REQUEST_URI}"),
        "app.example.com:80": to("app.example.com:8443${REQUEST_URI}"),
        "*.a.example.com:80": to("${HOST}:8443${REQUEST_URI}"),
      },
    });
    // biome-ignore-end lint/suspicious/noTemplateCurlyInString: as above
    expect(Object.keys(nodeServeConfig(endpoint(`"tcp:443":{"target":"text:x"}`), NAME).TCP ?? {})).toEqual(["443"]);
  });

  test.each([
    [`"tcp:443":{"target":"text:x",\n"hosts":["app"]}`, /line 4.*full DNS name/],
    [`"tcp:443":{"target":"text:x",\n"hosts":["bücher.example.com"]}`, /line 4.*wanted xn--bcher-kva.example.com/],
    [`"tcp:443":{"target":"text:x",\n"hosts":["a.*.example.com"]}`, /line 4.*full DNS name/],
    [`"tcp:443":{"target":"text:x",\n"hosts":["a.example.com","A.example.com"]}`, /line 4.*second time/],
    [`"tcp:443":{\n"hosts":["a.example.com"]}`, /line 4.*wanted a target/],
    [`"tcp:443":{\n"hosts":{"a.example.com":{}}}`, /line 4.*neither target nor mounts/],
    [`"tcp:443":{"target":"text:x",\n"hosts":{"a.example.com":"nonsense"}}`, /line 4.*wanted <proto>/],
    [`"tcp:22":{"target":"tcp://localhost:22",\n"hosts":["a.example.com"]}`, /line 4.*tcp listener/],
    [
      `"tcp:22":{"target":"tls-terminated-tcp://localhost:22",\n"hosts":["a.example.com","b.example.com"]}`,
      /line 4.*wanted one/,
    ],
    [`"tcp:80":{"listen":"http","target":"text:x",\n"redirectHttp":true}`, /line 4.*another listener/],
    [`"tcp:80":"http://localhost:1","tcp:443":{"target":"text:x",\n"redirectHttp":true}`, /line 4.*port 80 already/],
    [
      `"tcp:443":{"target":"text:x","redirectHttp":true},"tcp:444":{"target":"text:x",\n"redirectHttp":true}`,
      /line 4.*a second one/,
    ],
  ])("%s", (text, message) => {
    expect(() => endpoint(text)).toThrow(message);
    expect(() => endpoint(text)).toThrow(Fault);
  });
});

test("a section with everything in it is read as it stands", () => {
  const certificates = {
    authority: "letsencrypt",
    second: {
      directory: "https://acme.example.net/directory",
      caBundle: "/etc/ca.pem",
      externalAccount: { keyId: "k", hmacKey: "env:EAB_KEY" },
      preferredChain: "Root X",
      profile: "shortlived",
    },
    contact: ["ops@example.com"],
    challenges: [
      { type: "control" },
      {
        type: "rfc2136",
        for: ["example.com"],
        server: "192.0.2.53:53",
        zone: "example.com",
        keyName: "acme",
        algorithm: "hmac-sha256",
        secret: "file:/etc/tsig",
        waitMs: 5000,
      },
      { type: "cloudflare", token: "env:CF_TOKEN" },
      { type: "route53", accessKeyId: "env:AWS_ACCESS_KEY_ID", secretAccessKey: "file:/etc/aws" },
      { type: "acme-dns", api: "https://auth.example.org", registrations: "/var/lib/acme-dns.json" },
      { type: "exec", command: ["/usr/local/bin/dns-hook"] },
      { type: "http-01", listen: ":80" },
      { type: "tls-alpn-01", listen: "[::]:443" },
    ],
    names: {
      "app.example.com": { with: ["www.example.com"], keyType: "rsa", profile: "shortlived", when: "ahead" },
      "x.example.com": { authority: "internal" },
    },
    wildcards: ["apps.example.com"],
    keyType: "ecdsa",
    resolvers: ["9.9.9.9", "[2620:fe::fe]:53"],
    files: ["/etc/certs", { certificate: "/etc/one.crt", key: "/etc/one.key" }],
    store: "postgres://gate@db.example.com/certs",
    transparency: {
      logs: [
        { url: "https://ct.example.net/2026h2", key: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfahLEimAoz2t01p3uMziiA==" },
        {
          url: "https://tiles.example.net/",
          key: "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfahLEimAoz2t01p3uMziiA==",
          kind: "static",
        },
      ],
      domains: ["example.com"],
      known: [`sha256:${"0a".repeat(32)}`],
      every: "15m",
    },
  };
  expect(read(`"certificates":${JSON.stringify(certificates)}`).certificates).toEqual(certificates);
  expect(read(`"node":{"endpoints":{}}`).certificates).toEqual({});
});

test.each([
  [`"authority":"letsencrypted"`, /unknown CA, wanted internal, letsencrypt/],
  [`"authority":{"directory":"ftp://x"}`, /wanted https/],
  [`"second":"zerossl"`, /without a first one/],
  [`"authority":{"directory":"https://x/d"},"staging":true`, /wanted the CA by its name/],
  [`"contact":["nobody"]`, /no mail address/],
  [`"challenges":[{"type":"dns"}]`, /no known type, wanted control, rfc2136/],
  [`"challenges":[{"type":"cloudflare","token":"verysecret"}]`, /wanted file:PATH or env:NAME/],
  [`"challenges":[{"type":"cloudflare","token":"env:T","for":["*.example.com"]}]`, /wanted the domain itself/],
  [`"challenges":[{"type":"http-01","listen":"80"}]`, /no place to listen/],
  [`"challenges":[{"type":"exec","command":[]}]`, /line 3/],
  [`"names":{"app":{}}`, /full DNS name|invalid key/i],
  [`"names":{"a.example.com":{"with":["b.example.com"]},"b.example.com":{}}`, /in two certificates/],
  [`"files":["certs"]`, /no absolute path/],
  [`"store":"postgres://gate:password@db/certs"`, /found a password/],
  [`"store":"relative"`, /no folder/],
  [`"transparency":{"logs":[]}`, /line 3/],
  [`"transparency":{"logs":[{"url":"https://ct.example","key":"no"}]}`, /no base64 of a public key/],
  [`"transparency":{"logs":[{"url":"ct.example","key":"${"A".repeat(60)}"}]}`, /no web address/],
  [`"transparency":{"logs":[{"url":"https://ct.example","key":"${"A".repeat(60)}"}],"every":"31m"}`, /1m to 30m/],
  [`"transparency":{"logs":[{"url":"https://ct.example","key":"${"A".repeat(60)}"}],"known":["key"]}`, /64 hex digits/],
  [`"surprise":1`, /unknown member "surprise"/],
])("refused: %s", (text, message) => {
  expect(() => read(`"certificates":{\n${text}}`)).toThrow(message);
  expect(() => read(`"certificates":{\n${text}}`)).toThrow(/line 3, column \d+/);
  expect(() => read(`"certificates":{\n${text}}`)).toThrow(/^(?!.*verysecret)/);
});
