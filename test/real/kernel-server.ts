/** The same bytes as our stack serves, over the kernel's TCP: node kernel-server.ts <port>. Writes a line when it listens. */
import { createServer } from "node:http";
import { serveBytes } from "./userspace-peer.ts";

const server = createServer(serveBytes);
server.listen(Number(process.argv[2]), () => console.log("listening"));
