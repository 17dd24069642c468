const LONGEST = 4096;

/** Everything under it is the doors' own, on sites that have one. */
export const DOOR_PATHS = "/.sallyport/";

/**
 * Where to go on after a door: a path of this very site, or `/`. What browsers might read as another site (`//`, `/\`,
 * with tabs and line ends between, which they drop) is none.
 */
export function localPath(text: string | null | undefined): string {
  if (typeof text !== "string" || text.length > LONGEST) return "/";
  if (!/^\/(?!\/)[\x21-\x7e]*$/.test(text) || text.includes("\\")) return "/";
  return text.startsWith(DOOR_PATHS) ? "/" : text;
}
