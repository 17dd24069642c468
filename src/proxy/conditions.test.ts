import { expect, test } from "vitest";
import { wantedOf } from "./conditions.ts";

const MODIFIED = new Date(Date.UTC(2026, 10, 21, 11, 22, 43, 500));
const AT = "Sat, 21 Nov 2026 11:22:43 GMT";
const BEFORE = "Sat, 21 Nov 2026 11:22:42 GMT";
const AFTER = "Fri, 01 Jan 2100 00:00:00 GMT";

// As upstream's file server answered, but for units, several ranges and `bytes=-0` (docs/identity.md, `ranges`).
test.each([
  ["GET", {}, 200],
  ["GET", { "if-none-match": "*" }, 304],
  ["PUT", { "if-none-match": "*" }, 412],
  ["GET", { "if-none-match": '"x"', "if-modified-since": AFTER }, 200],
  ["GET", { "if-modified-since": AT }, 304],
  ["GET", { "if-modified-since": BEFORE }, 200],
  ["GET", { "if-modified-since": "Saturday, 21-Nov-26 11:22:43 GMT" }, 304],
  ["GET", { "if-modified-since": "Sat Nov 21 11:22:43 2026" }, 304],
  ["GET", { "if-modified-since": "2026-11-22" }, 200],
  ["POST", { "if-modified-since": AFTER }, 200],
  ["GET", { "if-match": "*" }, 200],
  ["DELETE", { "if-match": '"x"' }, 412],
  ["GET", { "if-match": "*", "if-unmodified-since": BEFORE }, 200],
  ["GET", { "if-unmodified-since": BEFORE }, 412],
  ["GET", { "if-unmodified-since": AT }, 200],
  ["GET", { range: "bytes=0-1", "if-range": AT }, [0, 2]],
  ["GET", { range: "bytes=0-1", "if-range": '"x"' }, 200],
  ["POST", { range: "bytes=0-1", "if-range": '"x"' }, [0, 2]],
  ["GET", { range: "bytes=2-" }, [2, 6]],
  ["GET", { range: "bytes=-2" }, [4, 6]],
  ["GET", { range: "bytes=-100" }, [0, 6]],
  ["GET", { range: "bytes= 1 - 2" }, [1, 3]],
  ["GET", { range: "bytes=5-100" }, [5, 6]],
  ["GET", { range: "bytes=" }, 200],
  ["GET", { range: "bytes=6-" }, 416],
  ["GET", { range: "bytes=5-2" }, 416],
  ["GET", { range: "bytes=a-b" }, 416],
  ["GET", { range: "bytes=-" }, 416],
  ["GET", { range: "bytes=-0" }, 416],
  ["GET", { range: "bytes=99999999999999999999-" }, 416],
  ["GET", { range: "bytes=0-1,3-4" }, 200],
  ["GET", { range: "items=0-1" }, 200],
])("%s with %j: %j of six bytes", (method, headers, wanted) => {
  const got = wantedOf({ method, headers }, 6, MODIFIED);
  expect(got.status === 206 ? [got.start, got.end] : got.status).toEqual(wanted);
});
