/**
 * Control characters, bidirectional overrides, zero-width and other invisible ones: in a name from the network they move the
 * cursor, hide words or turn lines around on the operator's screen.
 */
const HARMFUL = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}\p{Cn}\u115f\u1160\u3164\uffa0]/gu;

/** Text from the network, safe for a terminal: harmful characters as `\u{…}`. */
export function terminalText(text: string): string {
  return text.replace(HARMFUL, (found) => `\\u{${(found.codePointAt(0) ?? 0).toString(16)}}`);
}

/** The same for a document of several lines, whose newlines and tabs are ours. */
export function terminalLines(text: string): string {
  return text.replace(HARMFUL, (found) =>
    found === "\n" || found === "\t" ? found : `\\u${(found.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`,
  );
}
