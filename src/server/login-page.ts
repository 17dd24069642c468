import type { IncomingMessage, Server, ServerResponse } from "node:http";

const PAGE = /^\/register\/([A-Za-z0-9-]{1,80})$/;

/** The page that a person opens to let a node in: it says what the owner of the server must run. Everything else is 404. */
export function serveLoginPages(server: Server): void {
  server.on("request", (request: IncomingMessage, response: ServerResponse) => {
    const id = PAGE.exec(request.url ?? "")?.[1];
    if (id === undefined) {
      response.writeHead(404, { "Content-Type": "text/plain; charset=utf-8" }).end("not found\n");
      return;
    }
    response.writeHead(200, {
      "Content-Type": "text/html; charset=utf-8",
      "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
      "X-Frame-Options": "DENY",
    });
    response.end(page(id));
  });
}

/** `id` holds letters, digits and dashes only: nothing of it needs escaping. */
function page(id: string): string {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>Sallyport</title>
<style>body{font:16px system-ui;max-width:42rem;margin:4rem auto;padding:0 1rem}code{background:#eee;padding:.2em .4em}</style>
<h1>A node wants to join</h1>
<p>To let it in, run this where the server runs, with the user it belongs to:</p>
<p><code>sallyport server nodes approve ${id} --user alice@example.com</code></p>
</html>
`;
}
