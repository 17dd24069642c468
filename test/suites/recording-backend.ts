import { onClose, type RawBackend, rawBackend } from "./proxy-scene.ts";

/** What a backend was sent, byte for byte (Latin-1): nothing is parsed but where a request ends. */
export interface RecordingBackend extends RawBackend {
  readonly requests: string[];
}

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SWITCHED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/** Answers each request with `answer`, an upgrade with 101. */
export async function recordingBackend(answer: string = OK): Promise<RecordingBackend> {
  const requests: string[] = [];
  const backend = await rawBackend((socket) => {
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      for (let end = endOf(text); end > 0; end = endOf(text)) {
        const request = text.slice(0, end);
        text = text.slice(end);
        requests.push(request);
        socket.write(/\r\nupgrade: /i.test(request) ? SWITCHED : answer, "latin1");
      }
    });
  });
  onClose(() => void requests.splice(0));
  return Object.assign(backend, { requests });
}

/** Where the first request ends; 0 while it has not come whole. */
function endOf(text: string): number {
  const head = text.indexOf("\r\n\r\n") + 4;
  if (head < 4) return 0;
  const lines = text.slice(0, head);
  if (/\r\ntransfer-encoding: chunked/i.test(lines)) {
    const last = /(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(text.slice(head));
    return last === null ? 0 : head + last.index + last[0].length;
  }
  const end = head + Number(/\r\ncontent-length: (\d+)/i.exec(lines)?.[1] ?? 0);
  return text.length < end ? 0 : end;
}

/** The field lines of a request, as they stand. */
export function fieldLines(request: string): [name: string, value: string][] {
  const lines = request.slice(0, request.indexOf("\r\n\r\n")).split("\r\n").slice(1);
  return lines.map((line) => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
}
