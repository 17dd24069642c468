import net from "node:net";

/** How long the recorder keeps a connection that says nothing more. */
export const KEEP_MS = 300;

/** Answers that only end with the connection. */
const CLOSING: ReadonlySet<string> = new Set(["close", "http10", "garbage", "short", "sse"]);

/** A backend that parses nothing: it notes every byte and answers by the last word of the path. */
export class Recorder {
  readonly connections: string[] = [];
  readonly #server: net.Server;
  readonly #sockets: Set<net.Socket> = new Set();

  private constructor(answers: Readonly<Record<string, string>>, patience: number) {
    this.#server = net.createServer({ allowHalfOpen: true }, (socket) => {
      const index = this.connections.push("") - 1;
      this.#sockets.add(socket);
      let hasAnswered = false;
      const keep = setTimeout(() => socket.end(), KEEP_MS * patience);
      socket.on("data", (chunk) => {
        this.connections[index] += chunk.toString("latin1");
        const text = this.connections[index]!;
        if (hasAnswered) return; // once per connection, as when the captures were made
        if (!text.includes("\r\n\r\n")) {
          if (/^[A-Z]+ /.test(text)) return;
          hasAnswered = true;
          socket.write(`raw:${text}`, "latin1");
          return;
        }
        if (!isWhole(text)) return;
        hasAnswered = true;
        const target = text.split("\r\n")[0]!.split(" ")[1] ?? "";
        const word = /([A-Za-z0-9]+)\/?(?:\?.*)?$/.exec(target)?.[1] ?? "";
        socket.write(answers[word] ?? answers["plain"]!, "latin1");
        if (CLOSING.has(word)) socket.end();
      });
      socket.on("error", () => void this.#sockets.delete(socket));
      socket.on("close", () => {
        clearTimeout(keep);
        this.#sockets.delete(socket);
      });
    });
  }

  static async listen(answers: Readonly<Record<string, string>>, patience: number): Promise<Recorder> {
    const recorder = new Recorder(answers, patience);
    await new Promise<void>((resolve) => void recorder.#server.listen(0, "127.0.0.1", resolve));
    return recorder;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}

/** Is the request that begins `text` here to its end? Enough of HTTP to know when to answer. */
function isWhole(text: string): boolean {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return false;
  const head = text.slice(0, end);
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  if (/\r\ntransfer-encoding: *chunked/i.test(head)) return /\r\n0+\r\n(?:[^\r\n]+\r\n)*\r\n/.test(text.slice(end + 2));
  return text.length >= end + 4 + Number(length ?? 0);
}
