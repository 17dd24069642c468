import { Fault } from "./fault.ts";
import type { Store } from "./store.ts";

/** What stands in one file of the state folder, and how to speak of it when it does not. */
export interface SavedForm<Value> {
  readonly file: string;
  /** Goes on after "Cannot read". */
  readonly what: string;
  /** Goes on after "Remove the file from the state folder and". */
  readonly remedy: string;
  /** `undefined` for JSON that is no such value. */
  readonly read: (json: unknown) => Value | undefined;
}

/**
 * What was saved, if anything was. Damaged, it stops whoever asks: to go on without could open what it keeps closed.
 *
 * @throws {Fault} STATE_DAMAGED
 */
export async function loadJson<Value>(store: Store, form: SavedForm<Value>): Promise<Value | undefined> {
  const saved = await store.get(form.file);
  if (saved === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(saved).toString("utf8"));
  } catch (cause) {
    throw damaged(form, "text that is not JSON", cause);
  }
  const value = form.read(json);
  if (value === undefined) throw damaged(form, "JSON that says something else");
  return value;
}

export async function saveJson(store: Store, file: string, value: unknown): Promise<void> {
  await store.set(file, Buffer.from(JSON.stringify(value)));
}

function damaged<Value>({ file, what, remedy }: SavedForm<Value>, found: string, cause?: unknown): Fault {
  return new Fault("STATE_DAMAGED", `Cannot read ${what}: found ${found}, wanted what was saved`, {
    cause,
    hint: `Remove the file ${file} from the state folder and ${remedy}.`,
  });
}
