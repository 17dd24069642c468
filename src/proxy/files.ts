import { constants, type Dirent } from "node:fs";
import { type FileHandle, open, readdir, readlink, realpath, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import type { HeaderPair } from "../identity/headers.ts";
import { sendError, writeHead } from "./answers.ts";
import { wantedOf } from "./conditions.ts";
import { escapeHtml, sendLocation } from "./redirect.ts";

const TYPES: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".gif": "image/gif",
  ".htm": "text/html; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".jpeg": "image/jpeg",
  ".jpg": "image/jpeg",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".mjs": "text/javascript; charset=utf-8",
  ".pdf": "application/pdf",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
  ".webp": "image/webp",
  ".xml": "text/xml; charset=utf-8",
};

export interface FileRequest {
  readonly root: string;
  readonly mount: string;
  /** Decoded; each character is one byte. */
  readonly path: string;
  readonly query: string;
  /** The mount is spelled in the path as it is configured, without escapes; upstream serves no folder otherwise. */
  readonly isLiteral: boolean;
  readonly allow: (path: string) => boolean;
}

const isCode = (error: unknown, ...codes: string[]): boolean =>
  codes.includes((error as NodeJS.ErrnoException | null)?.code ?? "");

/** A file or a folder (serve sheet 3.4). What lies outside, behind a link or under a dot is not there (RT-6). */
export async function sendPath(request: IncomingMessage, response: ServerResponse, file: FileRequest): Promise<void> {
  try {
    const root = await realpath(file.root);
    if (!file.allow(root)) return sendError(request, response, 404, "404 page not found");
    const info = await stat(root);
    if (info.isFile()) {
      if (file.path !== file.mount) return sendError(request, response, 404, "404 page not found");
      return await sendFile(request, response, root, TYPES[path.extname(file.mount)]);
    }
    if (!info.isDirectory()) return sendError(request, response, 500, "not a file or directory");
    await sendInside(request, response, root, file);
  } catch (error) {
    if (isCode(error, "ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG", "ERR_INVALID_ARG_VALUE")) {
      return sendError(request, response, 404, "404 page not found");
    }
    sendError(request, response, 500, "an error occurred reading the file or directory");
  }
}

async function sendInside(
  request: IncomingMessage,
  response: ServerResponse,
  root: string,
  { mount, path: requested, query, isLiteral, allow }: FileRequest,
): Promise<void> {
  const base = mount.endsWith("/") ? mount : `${mount}/`;
  if (`${requested}/` === base) return sendLocation(request, response, 302, encodeURI(base));
  if (!isLiteral) return sendError(request, response, 404, "404 page not found");
  const relative = Buffer.from(requested.slice(base.length), "latin1").toString();
  const segments = relative.split("/").filter((segment) => segment !== "");
  if (segments.some((segment) => segment.startsWith(".") || segment.includes("\0"))) {
    return sendError(request, response, 404, "404 page not found");
  }
  const whole = await realpath(path.join(root, ...segments));
  const isInside = whole === root || whole.startsWith(root.endsWith(path.sep) ? root : root + path.sep);
  if (!isInside || !allow(whole)) return sendError(request, response, 404, "404 page not found");
  const info = await stat(whole);
  const here = encodeURI(`${base}${segments.join("/")}`);
  if (info.isFile()) {
    if (requested.endsWith("/")) return moved(request, response, 301, here);
    return await sendFile(request, response, whole, TYPES[path.extname(whole)]);
  }
  if (!info.isDirectory()) return sendError(request, response, 404, "404 page not found");
  if (!requested.endsWith("/")) return moved(request, response, 301, `${here}/${query}`);
  const index = path.join(whole, "index.html");
  const hasIndex = await stat(index).then(
    (found) => found.isFile(),
    () => false,
  );
  if (!hasIndex) return await sendListing(request, response, whole);
  if (!allow(index)) return sendError(request, response, 404, "404 page not found");
  await sendFile(request, response, index, TYPES[".html"]);
}

function moved(request: IncomingMessage, response: ServerResponse, status: number, location: string): void {
  const length: HeaderPair[] = request.method === "HEAD" ? [] : [["Content-Length", "0"]];
  writeHead(request, response, status, [["Location", location], ...length]);
  response.end();
}

async function sendListing(request: IncomingMessage, response: ServerResponse, folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  let entries: Dirent[];
  let at: Date;
  try {
    if (!(await isStillAt(handle, folder))) return sendError(request, response, 404, "404 page not found");
    at = (await handle.stat()).mtime;
    // By the open folder, not by a name that may lead elsewhere by now.
    const place = process.platform === "linux" ? `/proc/self/fd/${handle.fd}` : folder;
    entries = await readdir(place, { withFileTypes: true });
  } finally {
    await handle.close();
  }
  const names = entries
    .filter((entry) => !entry.name.startsWith("."))
    .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const lines = names.map((name) => `<a href="${escapeHtml(linkTo(name))}">${escapeHtml(name)}</a>\n`);
  const body = Buffer.from(
    `<!doctype html>\n<meta name="viewport" content="width=device-width">\n<pre>\n${lines.join("")}</pre>\n`,
  );
  writeHead(request, response, 200, [
    ["Content-Type", "text/html; charset=utf-8"],
    ["Last-Modified", at.toUTCString()],
    ["Content-Length", String(body.length)],
  ]);
  response.end(request.method === "HEAD" ? undefined : body);
}

/** A name with a colon would read as a scheme. */
function linkTo(name: string): string {
  const escaped = encodeURIComponent(name).replaceAll("%2F", "/");
  return name.includes(":") ? `./${escaped}` : escaped;
}

async function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  file: string,
  type: string | undefined,
): Promise<void> {
  // Not following a link and not waiting for a pipe: the name may have changed hands since it was looked at.
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const info = await handle.stat();
    if (!(await isStillAt(handle, file))) return sendError(request, response, 404, "404 page not found");
    if (!info.isFile()) return sendError(request, response, 404, "404 page not found");
    await sendContent(request, response, handle, info.size, info.mtime, type ?? (await sniffed(handle)));
  } finally {
    await handle.close();
  }
}

/** What was opened is what was asked about: a folder on the way may have become a link meanwhile (RT-6, CWE-367). */
async function isStillAt(handle: FileHandle, file: string): Promise<boolean> {
  if (process.platform !== "linux") return true; // nowhere else does the kernel tell
  return (await readlink(`/proc/self/fd/${handle.fd}`).catch(() => file)) === file;
}

async function sendContent(
  request: IncomingMessage,
  response: ServerResponse,
  handle: FileHandle,
  size: number,
  modified: Date,
  type: string,
): Promise<void> {
  const lastModified: HeaderPair = ["Last-Modified", modified.toUTCString()];
  const wanted = wantedOf({ method: request.method ?? "", headers: request.headers }, size, modified);
  if (wanted.status === 304) {
    writeHead(request, response, 304, [lastModified]);
    response.end();
    return;
  }
  if (wanted.status === 412 || wanted.status === 416) {
    const extra: HeaderPair = wanted.status === 412 ? lastModified : ["Content-Range", `bytes */${size}`];
    writeHead(request, response, wanted.status, [extra, ["Content-Length", "0"]]);
    response.end();
    return;
  }
  const { start, end } = wanted.status === 206 ? wanted : { start: 0, end: size };
  const pairs: HeaderPair[] = [
    ["Accept-Ranges", "bytes"],
    ["Content-Length", String(end - start)],
    ["Content-Type", type],
  ];
  if (wanted.status === 206) pairs.push(["Content-Range", `bytes ${start}-${end - 1}/${size}`]);
  writeHead(request, response, wanted.status, [...pairs, lastModified]);
  if (request.method === "HEAD" || start === end) {
    response.end();
    return;
  }
  const content = handle.createReadStream({ start, end: end - 1, autoClose: false });
  await pipeline(content, response).catch(() => void response.destroy());
}

/** Text or bytes, which is what a backend-less file without a known extension needs. */
async function sniffed(handle: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(512), 0, 512, 0);
  const head = buffer.subarray(0, bytesRead).toString("latin1");
  if (/^\s*<(?:!doctype html|html|head|body|script|iframe|h1|div|table|a|style|title|p|br)[ >]/i.test(head)) {
    return "text/html; charset=utf-8";
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what makes a file binary (WHATWG MIME sniffing)
  return /[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]/.test(head) ? "application/octet-stream" : "text/plain; charset=utf-8";
}
