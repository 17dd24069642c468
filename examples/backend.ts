// A backend that knows its callers. It believes the headers because nobody but the gateway can connect to it: it listens
// on loopback only. Run it by `node examples/backend.ts` (after `npm run build`), then `sallyport serve
// --accept-app-caps example.com/cap/app 3000`.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { readIdentity } from "sallyport/identity";

/** What the policy's grants call the right to use this app. */
const CAPABILITY = "example.com/cap/app";

export function answer({ headers }: IncomingMessage, response: ServerResponse): void {
  response.setHeader("Content-Type", "application/json");
  const identity = readIdentity(headers);
  if (identity === undefined) {
    response.writeHead(403).end(JSON.stringify({ error: "not through the gateway" }));
    return;
  }
  const { caller, capabilities } = identity;
  const { login = "", name = "" } = caller.kind === "user" ? caller : {};
  response.end(JSON.stringify({ kind: caller.kind, login, name, may: capabilities[CAPABILITY] ?? [] }));
}

if (import.meta.main) {
  const server = createServer(answer);
  server.listen(Number(process.env["PORT"] ?? 3000), "127.0.0.1", () => {
    const { port } = server.address() as { port: number };
    console.log(`http://127.0.0.1:${port}`);
  });
}
