import type { Conn, ConnSink } from "../../src/base/conn.ts";

/** A caller's connection as the gateway has it: what it was given, and what it gave to be sent. */
export interface Metered {
  readonly conn: Conn;
  readonly came: () => number;
  readonly left: () => number;
}

export function metered(conn: Conn): Metered {
  let came = 0;
  let left = 0;
  const attach = (sink: ConnSink): void =>
    conn.attach({
      data: (view) => {
        came += view.length;
        sink.data(view);
      },
      end: () => sink.end(),
      drain: () => sink.drain(),
      abort: (fault) => sink.abort(fault),
    });
  const write = (view: Uint8Array): boolean => {
    left += view.length;
    return conn.write(view);
  };
  const own: Partial<Conn> = { attach, write };
  const meter = new Proxy(conn, {
    get: (target, name) => {
      const value = own[name as keyof Conn] ?? Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { conn: meter, came: () => came, left: () => left };
}
