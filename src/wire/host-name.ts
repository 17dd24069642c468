import { domainToASCII } from "node:url";

const LONGEST_NAME = 253;
/** Labels of letters, digits, `-` and `_`, the last of them not a number: `10.1.2.3` is no name. */
const HOST_NAME = /^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*(?!\d+$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** Of names whose form is somebody else's affair: in lower case, without a dot at its end. */
export function plainName(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}

/** The form that names are compared in; `undefined` for an address, or text that is no host name (TL-2). */
export function foldName(text: string): string | undefined {
  if (text.length > LONGEST_NAME + 1) return undefined;
  const bare = text.endsWith(".") ? text.slice(0, -1) : text;
  const folded = /[A-Z]/.test(bare) ? bare.replace(/[A-Z]/g, (letter) => letter.toLowerCase()) : bare;
  return folded.length <= LONGEST_NAME && HOST_NAME.test(folded) ? folded : undefined;
}

/** The same for a name that may begin with `*.`, for every name with one label more. */
export function foldPattern(text: string): string | undefined {
  if (!text.startsWith("*.")) return foldName(text);
  const rest = foldName(text.slice(2));
  return rest === undefined ? undefined : `*.${rest}`;
}

/** A name as a person writes it, in the letters of DNS (UTS 46): `bücher.example` is `xn--bcher-kva.example`. */
export function asciiName(text: string): string {
  const isForeign = [...text].some((character) => character > "\u007f");
  return isForeign && !text.includes("%") ? domainToASCII(text) || text : text;
}

/** The wildcard that `name` would be under. */
export function wildcardOf(name: string): string {
  return `*${name.slice(name.indexOf("."))}`;
}
