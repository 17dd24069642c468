import type { Server } from "node:http";

/**
 * For a server that never listens itself and is given its connections: Node begins to look for requests that do not come to
 * their end (`headersTimeout`, `requestTimeout`) with this event alone (lib/_http_server.js, setupConnectionsTracking).
 */
export function mindSlowRequests(server: Server): void {
  server.emit("listening");
}
