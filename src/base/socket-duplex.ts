import { Duplex } from "node:stream";

/** A stream that stands where a `net.Socket` is expected: what `node:http`, `node:http2` and `node:tls` call on one is there. */
export class SocketDuplex extends Duplex {
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  setTimeout(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}
