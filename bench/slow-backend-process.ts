import { createServer } from "node:http";

// Argument: the port. A backend that waits for bodies as long as they take and has an answer that is large.
const [port] = process.argv.slice(2).map(Number);
const SMALL = Buffer.alloc(1024, "a");
const LARGE = Buffer.alloc(50 * 1024 * 1024, "b");

const server = createServer({ requestTimeout: 0 }, (request, response) => {
  request.resume();
  request.on("end", () => void response.end(request.url === "/large" ? LARGE : SMALL));
});
server.listen(port!, "127.0.0.1", 4096, () => console.log("{}"));
process.on("SIGTERM", () => process.exit());
