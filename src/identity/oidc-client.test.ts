import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { expect, onTestFinished, test } from "vitest";
import { listening } from "../../test/suites/listening.ts";
import { OidcClient } from "./oidc-client.ts";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
type Room = "well-known" | "token" | "userinfo";

/** A provider that says what the test wants: by default that Carol came, whatever code it is sent. */
async function provider(rooms: Partial<Record<Room, Answer>> = {}, claims: Readonly<Record<string, unknown>> = {}) {
  const asked: string[] = [];
  const said = { nonce: "", token: "/token" };
  const json = (response: ServerResponse, value: unknown): void => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(value));
  };
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const usual: Record<Room, Answer> = {
    "well-known": (_, response) =>
      json(response, {
        issuer,
        authorization_endpoint: `${issuer}/authorize`,
        token_endpoint: issuer + said.token,
        userinfo_endpoint: `${issuer}/userinfo`,
      }),
    token: (_, response) => {
      const now = Math.floor(Date.now() / 1000);
      const own = { iss: issuer, aud: "gate", sub: "carol", nonce: said.nonce, iat: now, exp: now + 60, ...claims };
      const id_token = `${part({ alg: "RS256" })}.${part(own)}.c2ln`;
      json(response, { access_token: "a", token_type: "Bearer", id_token });
    },
    userinfo: (_, response) => json(response, { sub: "carol", name: "x".repeat(300), ...claims }),
  };
  const server = createServer((request, response) => {
    asked.push(request.url!);
    const room = (Object.keys(usual) as Room[]).find((one) => request.url!.includes(one));
    if (room === undefined || (room === "token" && request.url !== said.token)) response.writeHead(404).end();
    else (rooms[room] ?? usual[room])(request, response);
  });
  const issuer = `http://127.0.0.1:${await listening(server)}`;
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const client = new OidcClient({ issuer, clientId: "gate", clientSecret: "s" });
  const signIn = async () => {
    const attempt = await client.begin("https://gw.example/.sallyport/callback");
    said.nonce = attempt.nonce;
    return await client.finish(`?code=x&state=${attempt.state}`, attempt);
  };
  return { asked, said, signIn };
}

/** As long as it is listened to. */
const endless: Answer = (_, response) => {
  response.setHeader("content-type", "application/json");
  const part = Buffer.alloc(65_536, " ");
  const write = (): void => {
    if (response.destroyed) return;
    if (response.write(part)) setImmediate(write);
    else response.once("drain", write);
  };
  write();
};

test.each<Room>(["well-known", "token", "userinfo"])(
  "a provider whose %s has no end filled the memory until the process died",
  async (room) => {
    const { signIn } = await provider({ [room]: endless });
    await expect(signIn()).rejects.toThrow("it answered with more than 1048576 bytes");
  },
);

test("a person's name of 300 characters is left out, and nobody is called by 256", async () => {
  const { signIn } = await provider();
  expect(await signIn()).toMatchObject({ subject: "carol", mail: undefined });
  expect((await signIn()).displayName).toBeUndefined();
  const other = await provider({}, { sub: "x".repeat(256) });
  await expect(other.signIn()).rejects.toThrow("the subject has 256 characters");
});

test("a provider that moved its token endpoint let nobody in until the gateway was started again", async () => {
  const { asked, said, signIn } = await provider();
  await signIn();
  await signIn();
  expect(
    asked.filter((path) => path.includes("well-known")),
    "asked for once",
  ).toHaveLength(1);
  said.token = "/new/token";
  await expect(signIn()).rejects.toThrow("Cannot sign in");
  expect((await signIn()).subject).toBe("carol");
});

test("a provider that cannot be reached was told of as `fetch failed`", async () => {
  const closed = createServer();
  const issuer = `http://127.0.0.1:${await listening(closed)}`;
  await new Promise((resolve) => closed.close(resolve));
  const client = new OidcClient({ issuer, clientId: "gate", clientSecret: "s" });
  await expect(client.begin("https://gw.example/")).rejects.toThrow("ECONNREFUSED");
});
