/** One chunk's line, and what all extensions of a message may say together: nobody uses them but attackers (H1-5). */
const LONGEST_LINE = 4 * 1024;
const MOST_EXTENSIONS = 16 * 1024;

/** RFC 9112 section 7.1, without blanks before the first extension; the parser takes any number of zeros in front. */
const CHUNK_LINE = /^([0-9A-Fa-f]{1,16})(;.+)?\r$/s;
/** RFC 9112 section 7.1.1: names, with or without a value that is a token or a quoted string. */
const EXTENSIONS =
  /^(?:[\t ]*;[\t ]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[\t ]*=[\t ]*(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"))?)+$/;

/** Follows one request's body beside the parser, to know where it ends and to bound what chunk lines may hold. */
export class BodyScan {
  /** Bytes of data that are still to come; of a chunk with its line end. */
  #data: number;
  readonly #isChunked: boolean;
  #line = "";
  #extensions = 0;
  #part: "chunks" | "trailer" | "over" = "chunks";

  /** `length` as the parser has read it; without one the body comes in chunks. */
  constructor(length: number | undefined) {
    this.#isChunked = length === undefined;
    this.#data = length ?? 0;
  }

  /** Up to where the bytes from `at` on belong to the body; `undefined` when a chunk's line is none or too long. */
  take(bytes: Buffer, at: number): number | undefined {
    let to = at;
    while (to < bytes.length && this.#part !== "over") {
      const skipped = Math.min(this.#data, bytes.length - to);
      this.#data -= skipped;
      to += skipped;
      if (!this.#isChunked || to === bytes.length) break;
      const end = bytes.indexOf(10, to);
      const room = LONGEST_LINE + 1 - this.#line.length;
      this.#line += bytes.toString("latin1", to, Math.min(end < 0 ? bytes.length : end, to + room));
      if (this.#line.length > LONGEST_LINE && this.#part === "chunks") return undefined;
      to = end < 0 ? bytes.length : end + 1;
      if (end >= 0 && !this.#endLine()) return undefined;
    }
    return to;
  }

  #endLine(): boolean {
    const line = this.#line;
    this.#line = "";
    if (this.#part === "trailer") {
      if (line === "\r" || line === "") this.#part = "over";
      return true;
    }
    const chunk = CHUNK_LINE.exec(line);
    if (chunk === null) return false;
    const { 1: digits = "", 2: extensions } = chunk;
    if (extensions !== undefined && !EXTENSIONS.test(extensions)) return false;
    this.#extensions += extensions?.length ?? 0;
    const size = Number.parseInt(digits, 16);
    if (!Number.isSafeInteger(size)) return false;
    if (size > 0) this.#data = size + 2;
    else this.#part = "trailer";
    return this.#extensions <= MOST_EXTENSIONS;
  }
}
