import { chmod, rm } from "node:fs/promises";
import type { Server } from "node:http";

/** Listens on a unix socket that only the owner of the process may open; gives what ends it. */
export async function listenPrivately(http: Server, socketPath: string): Promise<() => Promise<void>> {
  await rm(socketPath, { force: true });
  const mask = process.umask(0o177); // the socket is never there with wider rights
  try {
    await new Promise<void>((resolve, reject) => {
      http.once("error", reject);
      http.listen(socketPath, () => resolve());
    });
  } finally {
    process.umask(mask);
  }
  await chmod(socketPath, 0o600);
  return () =>
    new Promise((resolve) => {
      http.close(() => resolve());
      http.closeAllConnections();
    });
}
